"""The peers that benchmarks/cpu.py runs beside anygate. Each maker gives a function that computes
once, or None where the peer is not installed or lacks the activation."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["PLAIN", "HandLoop", "JaxProcess", "Run", "inference", "onnx_runner", "training"]

Run = Callable[[], object]

PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "x*sigmoid(x)": nn.functional.silu,
    "gelu": nn.functional.gelu,
}
ONNX = {"tanh": "Tanh", "relu": "Relu"}
JAX = {"tanh": "tanh", "relu": "relu", "x*sigmoid(x)": "silu", "gelu": "gelu"}
"""jax.nn's gelu is the one by tanh, which takes less time."""


class HandLoop(nn.Module):
    """A Python loop over time steps, as people write it today."""

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
        "LSTM",
        ["X", "W", "R", "B"],
        ["Y", "Y_h", "Y_c"],
        hidden_size=m.hidden_size,
        activations=["Sigmoid", ONNX[activation], ONNX[activation]],
    )
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


class JaxProcess:
    """Flax and Keras in a process of their own, which waits while others run: the threads of XLA
    and of OpenMP in one process stop each other for milliseconds."""

    def __init__(self) -> None:
        command = [sys.executable, __file__]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.kinds = self.ask("kinds")

    def ask(self, what: str, **details: Any) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps([what, details]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def timer(
        self, kind: str, shape: tuple[int, ...], activation: str, mode: str
    ) -> Callable[[], float]:
        """A function that runs once and returns its seconds."""
        name = self.ask("make", kind=kind, shape=shape, activation=activation, mode=mode)
        return lambda: self.ask("time", name=name)  # type: ignore[no-any-return]


def serve() -> None:
    """The other end of JaxProcess."""
    runs: dict[str, Run] = {}
    for line in sys.stdin:
        what, details = json.loads(line)
        if what == "kinds":
            answer: Any = [kind for kind in KINDS if importlib.util.find_spec(kind)]
        elif what == "make":
            answer = kind = details["kind"]
            function = JAX[details["activation"]]
            runs[kind] = KINDS[kind](details["shape"], function, details["mode"])
            runs[kind]()  # compiled
        else:
            start = time.perf_counter()
            runs[details["name"]]()
            answer = time.perf_counter() - start
        print(json.dumps(answer), flush=True)


def flax_runner(shape: list[int], activation: str, mode: str) -> Run:
    """Flax's OptimizedLSTMCell under lax.scan, jitted."""
    import flax.linen
    import jax

    steps, batch, inputs, hidden = shape
    cell = flax.linen.OptimizedLSTMCell(hidden, activation_fn=getattr(jax.nn, activation))
    layer = flax.linen.RNN(cell, time_major=True)
    data = jax.random.normal(jax.random.PRNGKey(1), (steps, batch, inputs))
    parameters = layer.init(jax.random.PRNGKey(0), data)
    run = jax.jit(layer.apply)
    if mode == "training":
        run = jax.jit(jax.grad(lambda p, d: layer.apply(p, d).sum()))
    return lambda: jax.block_until_ready(run(parameters, data))


def keras_runner(shape: list[int], activation: str, mode: str) -> Run:
    """Keras 3 on JAX, jitted; batch first, as Keras wants it."""
    os.environ["KERAS_BACKEND"] = "jax"
    import jax
    import keras

    steps, batch, inputs, hidden = shape
    function = getattr(jax.nn, activation)
    layer = keras.layers.LSTM(hidden, activation=function, return_sequences=True)
    data = jax.random.normal(jax.random.PRNGKey(1), (batch, steps, inputs))
    layer.build(data.shape)
    weights = [v.value for v in layer.trainable_variables]
    rest = [v.value for v in layer.non_trainable_variables]

    def apply(weights: Any, data: Any) -> Any:
        return layer.stateless_call(weights, rest, data)[0]

    run = jax.jit(apply)
    if mode == "training":
        run = jax.jit(jax.grad(lambda w, d: apply(w, d).sum()))
    return lambda: jax.block_until_ready(run(weights, data))


KINDS = {"flax": flax_runner, "keras": keras_runner}

if __name__ == "__main__":
    serve()
