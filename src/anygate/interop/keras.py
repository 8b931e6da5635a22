"""Keras layers in and out: .keras, .weights.h5 and .h5 files, and live layers.

Files are read with h5py and JSON alone, without Keras. Nothing in them is run: a lambda, which
Keras saves as bytecode, is refused.
"""

from __future__ import annotations

import io
import os
import warnings
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from torch import nn

from ..formulas import ACTIVATIONS, Activation, FormulaError, resolve
from ..formulas.errors import printable
from ..nn.layers import RecurrentLayers
from .directions import Directions
from .families import (
    BLOCKS,
    Weights,
    arrays_of,
    assemble,
    cell_for,
    choice_of,
    ways_of,
)
from .keras_files import (
    Array,
    Groups,
    Parts,
    import_h5py,
    new_layers,
    old_layers,
    read_json,
    read_text,
    read_zip,
)

__all__ = ["from_layer", "load", "to_config", "to_weights"]

Config: TypeAlias = Mapping[str, Any]
Loaded: TypeAlias = RecurrentLayers | Directions
_CLASSES = {
    **{"LSTM": "LSTM", "GRU": "GRU", "SimpleRNN": "RNN"},
    **{"LSTMCell": "LSTM", "GRUCell": "GRU", "SimpleRNNCell": "RNN"},
    **{"CuDNNLSTM": "LSTM", "CuDNNGRU": "GRU"},
}
_SAME = (
    *("tanh", "sigmoid", "relu", "softsign", "softplus", "elu", "selu", "celu", "silu", "mish"),
    *("gelu", "hard_sigmoid", "hard_tanh", "hard_silu", "relu6", "log_sigmoid", "squareplus"),
    *("sparse_plus", "sparse_sigmoid", "exponential"),
)
_NAMES = {
    **{name: ACTIVATIONS[name] for name in _SAME},
    "linear": ACTIVATIONS["identity"],
    "swish": ACTIVATIONS["silu"],
    "hard_swish": ACTIVATIONS["hard_silu"],
    "leaky_relu": ACTIVATIONS["leaky_relu_keras"],
    "tanh_shrink": ACTIVATIONS["tanhshrink"],
    "soft_shrink": ACTIVATIONS["softshrink"],
    "hard_shrink": ACTIVATIONS["hardshrink"],
    "threshold": None,
}
"""keras.activations by name; the numbers are those of calls without arguments."""
_OLD = {"hard_sigmoid": ACTIVATIONS["hard_sigmoid_onnx"]}
"""Names that are another function before Keras 3."""


# ---- in ----------------------------------------------------------------------------------------


def load(
    path: str | os.PathLike[str],
    config: Any = None,
    activations: Mapping[str, Any] | None = None,
    only: Collection[str] | None = None,
) -> dict[str, Loaded]:
    """The recurrent layers of a Keras file by their names: LSTM, GRU, SimpleRNN, RNN of one of
    their cells, and Bidirectional of these.

        layers = anygate.interop.keras.load("model.keras")
        output, (h, c) = layers["encoder"](x)             # x [B, T, I]

    path: a .keras file, a .weights.h5 or an .h5 (the older format). config: what a .weights.h5 does
    not hold: model.to_json(), the same as data, or for all layers {"activation": "tanh",
    "recurrent_activation": "sigmoid"}. activations: what stands for activations that a name does
    not say, such as a lambda: {"<lambda>": "x*sigmoid(x)", "my_function": "max(x, 0)"}. only: names
    of layers; the others are left out, and need not be readable.

    Modules are batch_first, of one layer; a Bidirectional of two different layers, and a layer with
    go_backwards=True, is a `Directions`. Their output is in the order of time: Keras gives that of
    go_backwards reversed. A step that is masked gives zeros, where Keras repeats the last output
    (within Bidirectional zeros); states agree. Dropout is not taken over. merge_mode other than
    "concat" is the caller's, and said in a warning.

    The file may come from anywhere. Raises ValueError for what cannot be read, naming the layer.
    """
    h5py = import_h5py()
    place = Path(path)
    described: Any = None
    version = "3"
    if zipfile.is_zipfile(place):
        content, described, version = read_zip(place)
        source: Any = io.BytesIO(content)
        size = len(content)
    else:
        source, size = place, place.stat().st_size
    try:
        with h5py.File(source, "r") as file:
            groups = Groups(h5py, size)
            if "model_weights" in groups.members(file) or "layer_names" in file.attrs:
                found = list(old_layers(file, groups))
                described = described or read_json(read_text(file.attrs.get("model_config", "{}")))
                version = read_text(file.attrs.get("keras_version", "2"))
            else:
                found = list(new_layers(file, groups))
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{place.name} is no file of Keras: {_one_line(error)}") from None
    if not found:
        raise ValueError(f"{place.name} has no LSTM, GRU or SimpleRNN layer")
    try:
        configs = _Configs(described, config)
    except RecursionError:
        raise ValueError(f"{place.name} describes a model that is deeper than any") from None
    given = dict(activations or {})
    old = version.split(".")[0] in ("1", "2")
    result: dict[str, Loaded] = {}
    for name, parts in found:
        if only is not None and name not in only:
            continue
        here = f"the layer '{_one_line(name):.120}'"
        size -= sum(array.nbytes for arrays in parts.values() for array in arrays)
        if size < 0 or name in result:
            raise ValueError(f"{here} has the arrays or the name of another one")
        try:
            result[name] = _made(configs.of(name, parts), parts, _Reader(given, old))
        except KeyError as error:
            raise ValueError(f"{here} has no {_one_line(error)} in its config") from None
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{here}: {_one_line(error)}") from None
    return result


def _one_line(text: Any) -> str:
    """A text of the file, or an error that quotes it, in one line for a message."""
    return printable(str(text)).replace("\n", "\\n")[:600]


def from_layer(layer: Any, activations: Mapping[str, Any] | None = None) -> Loaded:
    """The module of a live Keras layer: LSTM, GRU, SimpleRNN, RNN of one of their cells, or
    Bidirectional. activations: as in `load`."""
    arrays = [np.asarray(array) for array in layer.get_weights()]
    entry = {"class_name": type(layer).__name__, "config": layer.get_config()}
    if "cells" in entry["config"].get("cell", {}).get("config", {}):
        raise ValueError(f"the layer '{layer.name}': {_SEVERAL.partition(';')[0]}")
    count = 2 if entry["class_name"] == "Bidirectional" else 1
    if not arrays:
        raise ValueError(f"the layer '{layer.name}' has no weights yet; call it once")
    size = len(arrays) // count
    ways = ("", "_reverse")[:count]
    parts = {way: arrays[k * size : (k + 1) * size] for k, way in enumerate(ways)}
    try:
        return _made(entry, parts, _Reader(dict(activations or {}), False))
    except ValueError as error:
        raise ValueError(f"the layer '{layer.name}': {error}") from None


_SEVERAL = "an RNN of several cells, which is several layers here; only= leaves it out"


class _Configs:
    """Descriptions of layers by their names."""

    def __init__(self, described: Any, given: Any) -> None:
        if isinstance(given, str):
            given = read_json(given)
        self.every = given if isinstance(given, Mapping) and "config" not in given else None
        self.named: dict[str, Config] = {}
        if self.every is None:
            for entry in _entries(given if given is not None else described, 0):
                name = entry["config"].get("name")
                if isinstance(name, str):
                    if self.named.get(name, entry) != entry:
                        raise ValueError(f"two layers are called '{_one_line(name):.120}'")
                    self.named[name] = entry

    def of(self, name: str, parts: Parts) -> Config:
        if self.every is not None and parts:
            return {"class_name": _guess(parts), "config": {**self.every, "_guessed": True}}
        if not parts:
            raise ValueError(_SEVERAL)
        own = name.rpartition("/")[2]
        if own not in self.named:
            raise ValueError(
                "the file does not say its activations; give config=model.to_json(), or "
                'config={"activation": "tanh", "recurrent_activation": "sigmoid"}'
            )
        return self.named[own]


def _entries(data: Any, depth: int) -> Iterator[Config]:
    """Every layer of a model's config that is recurrent, in inner models too."""
    if depth > 32 or not isinstance(data, Mapping):
        return
    kind, inner = data.get("class_name"), data.get("config")
    if isinstance(inner, Mapping) and isinstance(kind, str):
        if kind in _CLASSES or kind in ("Bidirectional", "RNN"):
            yield data
            return
        for layer in inner.get("layers", ()) if isinstance(inner.get("layers"), list) else ():
            yield from _entries(layer, depth + 1)
        yield from _entries(inner.get("layer"), depth + 1)


def _guess(parts: Parts) -> str:
    """The layer's class from the shapes of its weights."""
    (kernel, recurrent, *_), *_ = parts.values()
    hidden = len(recurrent) if recurrent.ndim else 0
    families = {n: {"RNN": "SimpleRNN"}.get(n, n) for n in BLOCKS}
    for family, blocks in BLOCKS.items():
        if recurrent.shape == (hidden, blocks * hidden):
            return families[family]
    raise ValueError(f"weights of the shapes {kernel.shape} and {recurrent.shape}")


def _made(entry: Config, parts: Parts, reader: _Reader) -> Loaded:
    """The module of a layer's config and arrays."""
    kind, config = entry["class_name"], entry["config"]
    if kind != "Bidirectional":
        backwards = bool(config.get("go_backwards", False)) and not config.get("_guessed")
        inner = {"_reverse" if backwards else "": (entry, parts[""])}
        if config.get("_guessed") and "_reverse" in parts:
            inner["_reverse"] = (entry, parts["_reverse"])
    else:
        ahead = config["layer"]
        back = config.get("backward_layer") or ahead
        if bool(ahead["config"].get("go_backwards")) or (
            back is not ahead and not back["config"].get("go_backwards")
        ):
            raise ValueError("a Bidirectional whose halves read the other way round")
        if config.get("merge_mode", "concat") != "concat":
            warnings.warn(
                f"merge_mode={config['merge_mode']!r:.40} is left to the caller: the output has "
                "both directions side by side",
                UserWarning,
                stacklevel=3,
            )
        inner = {"": (ahead, parts[""]), "_reverse": (back, parts["_reverse"])}
    read = {}
    for way, (own, arrays) in inner.items():
        cell, weights = reader.layer(own, arrays)
        read[way] = (cell, weights)
    return assemble(read)


class _Reader:
    """Reads layers of one file. given: formulas for what is not known by name. old: written before
    Keras 3."""

    def __init__(self, given: dict[str, Any], old: bool) -> None:
        self.given, self.old = given, old

    def layer(self, entry: Config, arrays: list[Array]) -> Any:
        """The cell and weights of a layer, or of an RNN of one cell."""
        kind, config = entry["class_name"], entry["config"]
        if kind == "RNN":
            inner = config["cell"]
            if not isinstance(inner, Mapping) or inner.get("class_name") not in _CLASSES:
                raise ValueError(
                    "an RNN of cells that are not one LSTMCell, GRUCell or SimpleRNNCell"
                )
            kind, config = inner["class_name"], inner["config"]
        if kind not in _CLASSES:
            raise ValueError(f"{kind!r:.80} is no LSTM, GRU or SimpleRNN")
        family = _CLASSES[kind]
        weights, reset_after = _weights(family, config, arrays)
        weights.check(family)
        inside = self.activation(config.get("activation", "tanh"))
        usual = "sigmoid" if kind.startswith("CuDNN") or not self.old else "hard_sigmoid"
        gate = self.activation(config.get("recurrent_activation", usual))
        return cell_for(family, inside, gate, reset_after), weights

    def activation(self, spec: Any) -> Activation:
        """The activation that a config names: a name, or a layer's class with its numbers."""
        if spec is None:
            return ACTIVATIONS["identity"]
        if isinstance(spec, str):
            return self._named(spec)
        if not isinstance(spec, Mapping):
            raise ValueError(f"an activation is a name or a layer, not {type(spec).__name__}")
        kind, config = spec.get("class_name"), spec.get("config")
        if kind == "function" and isinstance(config, str):
            return self._named(config)
        if kind in _LAYERS and isinstance(config, Mapping):
            found: Activation = _LAYERS[kind](config)
            return found
        name = "<lambda>" if kind in ("__lambda__", "Lambda", "lambda") else str(kind)
        if name in self.given:
            return self._resolved(name)
        if name == "<lambda>":
            raise ValueError(
                "its activation is a lambda, which Keras saves as bytecode that is never loaded "
                'here; give its formula: activations={"<lambda>": "x*sigmoid(x)"}'
            )
        raise ValueError(
            f"the activation {name!r:.80} is not known; give its formula: "
            f'activations={{{name!r:.80}: "..."}}'
        )

    def _named(self, name: str) -> Activation:
        if name in self.given:
            return self._resolved(name)
        known = (_OLD.get(name) if self.old else None) or _NAMES.get(name)
        if known is None:
            raise ValueError(
                f"the activation {name!r:.80} is none of Keras' elementwise ones; give its "
                f'formula: activations={{{name!r:.80}: "..."}}'
            )
        return known

    def _resolved(self, name: str) -> Activation:
        try:
            return resolve(self.given[name])
        except FormulaError as error:
            raise ValueError(f"activations[{name!r}]: {error}") from None


def _number(config: Config, name: str, usual: float) -> float:
    value = config.get(name, usual)
    if value is None:
        return usual
    if isinstance(value, Mapping):  # Keras 2 wrote NumPy numbers so
        value = value.get("value", value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is {value!r:.60} and no number")
    if not abs(value) < 1e300:
        raise ValueError(f"{name} is {value!r:.60}, which no activation has")
    return float(value)


def _relu(config: Config) -> Activation:
    slope = _number(config, "negative_slope", 0.0)
    threshold, most = _number(config, "threshold", 0.0), config.get("max_value")
    if threshold:
        raise ValueError("a ReLU layer with a threshold; give its formula in activations=")
    if most is None:
        return ACTIVATIONS["leaky_relu"](k=slope) if slope else ACTIVATIONS["relu"]
    inside = f"{slope!r}*x" if slope else "0"
    top = _number(config, "max_value", 0.0)
    return resolve(f"min(where(x > 0, x, {inside}), {top!r})")


def _leaky(config: Config) -> Activation:
    """Keras 2 calls the slope alpha."""
    usual = _number(config, "alpha", 0.3)
    return ACTIVATIONS["leaky_relu"](k=_number(config, "negative_slope", usual))


_LAYERS: dict[Any, Any] = {
    "LeakyReLU": _leaky,
    "ReLU": _relu,
    "ELU": lambda config: ACTIVATIONS["elu"](a=_number(config, "alpha", 1.0)),
}
"""Layers that stand for an activation and have no weights."""


def _weights(family: str, config: Config, arrays: list[Array]) -> tuple[Weights, bool]:
    """In our layout, and reset_after."""
    if len(arrays) not in (2, 3):
        raise ValueError(f"{len(arrays)} arrays, and not kernel, recurrent kernel and bias")
    kernel, recurrent, *rest = arrays
    if kernel.ndim != 2 or recurrent.ndim != 2:
        raise ValueError(f"kernels of the shapes {kernel.shape} and {recurrent.shape}")
    reset_after = bool(config.get("reset_after", family != "GRU" or not rest or rest[0].ndim == 2))
    bias_ih = bias_hh = None
    if rest:
        bias = rest[0]
        if bias.ndim not in (1, 2):
            raise ValueError(f"a bias of the shape {bias.shape}")
        if family == "GRU" and reset_after != (bias.ndim == 2):
            raise ValueError(f"a bias of the shape {bias.shape} with reset_after={reset_after}")
        if bias.ndim == 2:
            if bias.shape[0] != 2:
                raise ValueError(f"a bias of the shape {bias.shape}")
            bias_ih, bias_hh = bias
        else:
            bias_ih = bias
    weights = (_from_keras(family, kernel.T), _from_keras(family, recurrent.T))
    biases = (None if b is None else _from_keras(family, b) for b in (bias_ih, bias_hh))
    return Weights(*weights, *biases), reset_after


def _from_keras(family: str, array: Array) -> Array:
    """Blocks in our order: the GRU's r and z are exchanged, both ways alike."""
    if family != "GRU" or array.shape[0] % 3:
        return array
    z, r, n = np.split(array, 3)
    return np.concatenate([r, z, n])


# ---- out ---------------------------------------------------------------------------------------


def to_weights(module: nn.Module) -> list[Array]:
    """The list that layer.set_weights takes in Keras: kernel, recurrent kernel and bias, of both
    directions in turn. The layer must have the arguments of `to_config`.

        layer = keras.layers.LSTM(**anygate.interop.keras.to_config(lstm))
        layer.build((None, None, 8))
        layer.set_weights(anygate.interop.keras.to_weights(lstm))

    Raises ValueError for a module that no Keras layer is equal to.
    """
    found: list[Array] = []
    for layer, suffix in ways_of(module).values():
        family, _, _, reset_after = choice_of(layer)
        weights = arrays_of(layer, suffix)
        found += [_from_keras(family, w).T for w in (weights.weight_ih, weights.weight_hh)]
        if weights.bias_ih is not None and weights.bias_hh is not None:
            halves = [_from_keras(family, b) for b in (weights.bias_ih, weights.bias_hh)]
            if family == "GRU" and reset_after:
                found.append(np.stack(halves))
            else:
                found.append(halves[0] + halves[1])
    return found


def to_config(module: nn.Module) -> dict[str, Any]:
    """The arguments of the Keras layer (LSTM, GRU or SimpleRNN) that computes the same, or of those
    within a Bidirectional: units, activation, recurrent_activation, use_bias, reset_after, and
    return_sequences=True. Raises ValueError for a module that no Keras layer is equal to."""
    parts = list(ways_of(module).values())
    chosen = [(choice_of(layer), layer.hidden_size, layer.bias) for layer, _ in parts]
    if any(other != chosen[0] for other in chosen):
        raise ValueError("two directions with different cells; write each as a layer of its own")
    (family, activation, gate, reset_after), units, bias = chosen[0]
    found: dict[str, Any] = {
        "units": units,
        "activation": _keras_name(activation),
        "use_bias": bool(bias),
        "return_sequences": True,
    }
    if gate is not None:
        found["recurrent_activation"] = _keras_name(gate)
    if family == "GRU":
        found["reset_after"] = reset_after
    if isinstance(module, Directions) and module.ahead is None:
        found["go_backwards"] = True
    return found


def _keras_name(activation: Activation) -> str:
    for name, own in _NAMES.items():
        if own is not None and own.closed == activation.closed:
            return name
    raise ValueError(
        f"keras.activations has no '{activation.label}'; write the function in Keras, and give the "
        "layer the weights of to_weights"
    )
