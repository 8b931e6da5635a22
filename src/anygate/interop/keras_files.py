"""Keras' files, read without trust: archives, JSON, and groups of HDF5 that hold layers."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

__all__ = [
    "Array",
    "Parts",
    "import_h5py",
    "new_layers",
    "old_layers",
    "read_json",
    "read_text",
    "read_zip",
]

Array: TypeAlias = np.ndarray[Any, Any]
Parts: TypeAlias = dict[str, list[Array]]
"""kernel, recurrent kernel and, if there is one, bias, of "" and of "_reverse"; empty for an RNN of
several cells."""
_MOST_JSON = 1 << 26
_MOST_RATIO = 100


def import_h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ImportError("reading Keras files needs h5py; pip install anygate[keras]") from error
    return h5py


def read_zip(place: Path) -> tuple[bytes, Any, str]:
    """Of a .keras file the weights, the config and the version."""
    try:
        with zipfile.ZipFile(place) as archive:
            config = read_json(_member(archive, "config.json", _MOST_JSON).decode())
            metadata = read_json(_member(archive, "metadata.json", _MOST_JSON).decode())
            weights = _member(archive, "model.weights.h5", 1 << 40)
    except (zipfile.BadZipFile, KeyError, OSError, UnicodeDecodeError, EOFError) as error:
        raise ValueError(f"{place.name} is no .keras file: {error!s:.200}") from None
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or packed in an unknown way
        raise ValueError(f"{place.name} cannot be unpacked: {error!s:.200}") from None
    version = metadata.get("keras_version", "3") if isinstance(metadata, dict) else "3"
    return weights, config, str(version)


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A file of the archive, unless it grows beyond what such files hold."""
    info = archive.getinfo(name)
    if info.file_size > min(most, (1 << 20) + _MOST_RATIO * info.compress_size):
        raise ValueError(f"{name} would unpack to {info.file_size:,} bytes, which no model does")
    try:
        with archive.open(info) as file:
            content = file.read(info.file_size + 1)
    except zlib.error as error:
        raise ValueError(f"{name} cannot be unpacked: {error}") from None
    if len(content) != info.file_size:
        raise ValueError(f"{name} is not as long as the archive says")
    return content


def read_json(text: str) -> Any:
    if len(text) > _MOST_JSON:
        raise ValueError("a config of such length is no model's")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the model's config is no JSON: {error!s:.100}") from None


def read_text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _children(group: Any, h5py: Any) -> Iterator[tuple[str, Any]]:
    """The members of a group itself: links to elsewhere are not followed."""
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.HardLink):
            yield name, group[name]


def _array(dataset: Any, h5py: Any) -> Array:
    """A dataset whose bytes are in the file, all of them."""
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind != "f":
        raise ValueError("a weight is no array of floating-point numbers")
    size = dataset.size * dataset.dtype.itemsize
    if dataset.is_virtual or dataset.external or dataset.id.get_storage_size() < size:
        raise ValueError(
            "a weight whose numbers are compressed, lie in another file or are missing"
        )
    found = np.asarray(dataset[()])
    narrow = found.dtype.itemsize < 8
    return (
        found.astype(np.float16 if found.dtype.itemsize == 2 else np.float32) if narrow else found
    )


def _variables(group: Any, h5py: Any) -> list[Array] | None:
    """The arrays 0, 1, 2 of a group's "vars", None if these are not two or three."""
    inside = dict(_children(group, h5py)).get("vars")
    if not isinstance(inside, h5py.Group):
        return None
    items = dict(_children(inside, h5py))
    wanted = [str(k) for k in range(len(items))]
    if len(items) not in (2, 3) or sorted(items) != wanted:
        return None
    return [_array(items[k], h5py) for k in wanted]


def new_layers(
    group: Any, h5py: Any, path: str = "", depth: int = 0
) -> Iterator[tuple[str, Parts]]:
    """The layers of Keras 3's weights: a layer is a group with a cell, a Bidirectional one with
    two such layers."""
    if depth > 32:
        raise ValueError("groups within groups, deeper than any model")
    children = {n: g for n, g in _children(group, h5py) if isinstance(g, h5py.Group)}
    name = path
    if "vars" in children and (given := read_text(children["vars"].attrs.get("name", ""))):
        name = given
    halves = [children.get(f"{way}_layer") for way in ("forward", "backward")]
    both = [_cell_of(half, h5py) for half in halves if half is not None]
    if len(both) == 2 and both[0] is not None and both[1] is not None:
        yield name, {"": both[0], "_reverse": both[1]}
        return
    if (own := _cell_of(group, h5py)) is not None:
        yield name, {"": own}
        return
    if "cell" in children and "cells" in children["cell"]:
        yield name, {}
        return
    for key, child in children.items():
        if key != "vars":
            yield from new_layers(child, h5py, f"{path}/{key}".lstrip("/"), depth + 1)


def _cell_of(group: Any, h5py: Any) -> list[Array] | None:
    cell = dict(_children(group, h5py)).get("cell")
    return _variables(cell, h5py) if isinstance(cell, h5py.Group) else None


def old_layers(file: Any, h5py: Any) -> Iterator[tuple[str, Parts]]:
    """The layers of an .h5: kernel, recurrent_kernel and bias side by side in one group."""
    for name, group in _children(file.get("model_weights", file), h5py):
        if isinstance(group, h5py.Group):
            yield from _old_group(name, group, h5py, 0)


def _old_group(name: str, group: Any, h5py: Any, depth: int) -> Iterator[tuple[str, Parts]]:
    if depth > 32:
        raise ValueError("groups within groups, deeper than any model")
    groups = {n: g for n, g in _children(group, h5py) if isinstance(g, h5py.Group)}
    found = {n: arrays for n, g in groups.items() if (arrays := _old_arrays(g, h5py, 0))}
    ahead = [n for n in found if n.startswith("forward")]
    back = [n for n in found if n.startswith("backward")]
    if len(ahead) == len(back) == 1:
        yield name, {"": found[ahead[0]], "_reverse": found[back[0]]}
        return
    if any(n.startswith("stacked_rnn_cells") for n in groups):
        yield name, {}
        return
    arrays = _triple(group, h5py)
    if arrays is not None:
        yield name.rpartition("/")[2], {"": arrays}
        return
    for key, child in groups.items():
        cell = key.rstrip("_0123456789").endswith("cell")
        yield from _old_group(name if cell or key == name else key, child, h5py, depth + 1)


def _old_arrays(group: Any, h5py: Any, depth: int) -> list[Array] | None:
    """A half of a Bidirectional: the arrays, which may lie in a cell's group."""
    own = _triple(group, h5py)
    if own is not None or depth > 4:
        return own
    inner = [g for _, g in _children(group, h5py) if isinstance(g, h5py.Group)]
    return _old_arrays(inner[0], h5py, depth + 1) if len(inner) == 1 else None


def _triple(group: Any, h5py: Any) -> list[Array] | None:
    items = {n.removesuffix(":0"): d for n, d in _children(group, h5py)}
    if not {"kernel", "recurrent_kernel"} <= items.keys() <= {"kernel", "recurrent_kernel", "bias"}:
        return None
    return [_array(items[n], h5py) for n in ("kernel", "recurrent_kernel", "bias") if n in items]
