"""The peers that benchmarks/cpu.py runs beside anygate. Each maker gives a function that computes
once, or None where the peer is not installed or lacks the activation."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "PLAIN",
    "HandLoop",
    "Run",
    "flax_runner",
    "inference",
    "keras_runner",
    "onnx_runner",
    "training",
]

Run = Callable[[], object]

PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "hard_tanh": nn.functional.hardtanh,
    "x*sigmoid(x)": nn.functional.silu,
}
ONNX = {"tanh": "Tanh", "relu": "Relu"}
JAX = {"tanh": "tanh", "relu": "relu", "hard_tanh": "hard_tanh", "x*sigmoid(x)": "silu"}


class HandLoop(nn.Module):
    """What people write today: a Python loop over time steps."""

    def __init__(self, like: nn.RNNBase, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.like, self.function = like, function

    def forward(self, x: Tensor) -> Tensor:
        m: Any = self.like
        h = c = x.new_zeros(x.shape[1], m.hidden_size)
        outputs = []
        for step in x:
            z = nn.functional.linear(step, m.weight_ih_l0, m.bias_ih_l0) + nn.functional.linear(
                h, m.weight_hh_l0, m.bias_hh_l0
            )
            i, f, g, o = z.chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * self.function(g)
            h = o.sigmoid() * self.function(c)
            outputs.append(h)
        return torch.stack(outputs)


def inference(module: nn.Module, x: Tensor) -> Run:
    def run() -> None:
        with torch.inference_mode():
            module(x)

    return run


def training(module: nn.Module, x: Tensor) -> Run:
    def run() -> None:
        module.zero_grad()
        output = module(x)
        output = output[0] if isinstance(output, tuple) else output
        output.sum().backward()

    return run


def onnx_runner(like: nn.RNNBase, activation: str, mode: str, x: Tensor) -> Run | None:
    """onnxruntime's LSTM with these weights; inference only."""
    try:
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        return None
    if activation not in ONNX or mode != "inference":
        return None
    m: Any = like

    def iofc(weight: Tensor) -> Any:
        i, f, g, o = weight.detach().chunk(4)
        return torch.cat([i, o, f, g])[None].numpy()

    bias = torch.cat(
        [torch.from_numpy(iofc(m.bias_ih_l0)), torch.from_numpy(iofc(m.bias_hh_l0))], 1
    )
    weights = {"W": iofc(m.weight_ih_l0), "R": iofc(m.weight_hh_l0), "B": bias.numpy()}
    node = helper.make_node(
        "LSTM", ["X", "W", "R", "B"], ["Y", "Y_h", "Y_c"], hidden_size=m.hidden_size,
        activations=["Sigmoid", ONNX[activation], ONNX[activation]],
    )  # fmt: skip
    graph = helper.make_graph(
        [node],
        "lstm",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, list(x.shape))],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Its idle threads would go on spinning while the others run: they doubled anygate's time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feed = {"X": x.numpy()}
    return lambda: session.run(["Y"], feed)


def flax_runner(like: nn.RNNBase, activation: str, mode: str, x: Tensor) -> Run | None:
    """Flax's OptimizedLSTMCell under lax.scan, jitted."""
    try:
        import flax.linen
        import jax
        import jax.numpy as jnp
    except ImportError:
        return None
    function = getattr(jax.nn, JAX[activation])
    cell = flax.linen.OptimizedLSTMCell(like.hidden_size, activation_fn=function)
    layer = flax.linen.RNN(cell, time_major=True)
    data = jnp.asarray(x.numpy())
    parameters = layer.init(jax.random.PRNGKey(0), data)
    if mode == "inference":
        run = jax.jit(layer.apply)
    else:
        run = jax.jit(jax.grad(lambda p, d: layer.apply(p, d).sum()))
    return lambda: jax.block_until_ready(run(parameters, data))


def keras_runner(like: nn.RNNBase, activation: str, mode: str, x: Tensor) -> Run | None:
    """Keras 3 on JAX, jitted; batch first, as Keras wants it."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    try:
        import jax
        import jax.numpy as jnp
        import keras
    except ImportError:
        return None
    if keras.backend.backend() != "jax":
        return None
    layer = keras.layers.LSTM(
        like.hidden_size, activation=getattr(jax.nn, JAX[activation]), return_sequences=True
    )
    data = jnp.asarray(x.transpose(0, 1).contiguous().numpy())
    layer.build(data.shape)
    weights, rest = [v.value for v in layer.trainable_variables], [
        v.value for v in layer.non_trainable_variables
    ]  # fmt: skip

    def apply(weights: Any, data: Any) -> Any:
        return layer.stateless_call(weights, rest, data)[0]

    run = jax.jit(apply)
    if mode == "training":
        run = jax.jit(jax.grad(lambda w, d: apply(w, d).sum()))
    return partial(lambda: jax.block_until_ready(run(weights, data)))
