"""Keras' files, read without trust: archives, JSON, and groups of HDF5 that hold layers."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

__all__ = [
    "Array",
    "Groups",
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
_MOST_JSON = 1 << 24
_MOST_SHORT = 1 << 16
_MOST_RATIO = 100
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def import_h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ImportError("reading Keras files needs h5py; pip install anygate[keras]") from error
    return h5py


def read_zip(place: Path) -> tuple[bytes, Any, str]:
    """Of a .keras file the weights, the config and the version."""
    try:
        most = (1 << 20) + _MOST_RATIO * place.stat().st_size
        with zipfile.ZipFile(place) as archive:
            config = read_json(_member(archive, "config.json", min(most, _MOST_JSON)).decode())
            metadata = read_json(_member(archive, "metadata.json", _MOST_SHORT).decode())
            weights = _member(archive, "model.weights.h5", most)
    except (zipfile.BadZipFile, KeyError, OSError, UnicodeDecodeError, EOFError) as error:
        raise ValueError(f"{place.name} is no .keras file: {error!s:.200}") from None
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or packed in an unknown way
        raise ValueError(f"{place.name} cannot be unpacked: {error!s:.200}") from None
    version = metadata.get("keras_version", "3") if isinstance(metadata, dict) else "3"
    return weights, config, str(version)


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A file of the archive, unless it grows beyond what such files hold."""
    info = archive.getinfo(name)
    if info.compress_type not in _METHODS:
        raise ValueError(f"{name} is packed in a way that Keras does not use; unzip and zip it")
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


class Groups:
    """The groups of one HDF5 file of `size` bytes, read so that time and memory are bounded by it:
    each group is looked through once and each array read once, whatever the number of their names.
    """

    def __init__(self, h5py: Any, size: int) -> None:
        self.h5py, self.left = h5py, size
        self._entered: set[int] = set()
        self._members: dict[int, dict[str, Any]] = {}
        self._arrays: dict[int, Array] = {}

    def members(self, group: Any) -> dict[str, Any]:
        """The members of a group itself: links to elsewhere are not followed."""
        place = self.h5py.h5o.get_info(group.id).addr
        if place not in self._members:
            hard = [n for n in group if isinstance(group.get(n, getlink=True), self.h5py.HardLink)]
            self._members[place] = {name: group[name] for name in hard}
        return self._members[place]

    def inner(self, group: Any) -> dict[str, Any]:
        """The members that are groups."""
        return {n: g for n, g in self.members(group).items() if isinstance(g, self.h5py.Group)}

    def enter(self, group: Any, depth: int) -> None:
        """Before the groups in it are looked through. Raises ValueError where that would not end,
        or not soon."""
        if depth > 32:
            raise ValueError("groups within groups, deeper than any model")
        place = self.h5py.h5o.get_info(group.id).addr
        if place in self._entered:
            raise ValueError("a group that is in several places, as no model's is")
        self._entered.add(place)

    def array(self, dataset: Any) -> Array:
        """A dataset whose bytes are in the file, all of them."""
        if not isinstance(dataset, self.h5py.Dataset) or dataset.dtype.kind != "f":
            raise ValueError("a weight is no array of floating-point numbers")
        place = self.h5py.h5o.get_info(dataset.id).addr
        if place not in self._arrays:
            self._arrays[place] = self._read(dataset)
        return self._arrays[place]

    def _read(self, dataset: Any) -> Array:
        width = dataset.dtype.itemsize
        size = dataset.size * width
        packed = dataset.id.get_create_plist().get_nfilters() > 0
        elsewhere = packed or dataset.is_virtual or dataset.external
        self.left -= max(size, math.prod(dataset.chunks or (0,)) * width)
        if elsewhere or dataset.id.get_storage_size() < size or self.left < 0:
            raise ValueError(
                "a weight whose numbers are compressed, lie in another file or are missing"
            )
        found = np.asarray(dataset[()])
        if width >= 8:
            return found
        return found.astype(np.float16 if width == 2 else np.float32)


def _variables(group: Any, groups: Groups) -> list[Array] | None:
    """The arrays 0, 1, 2 of a group's "vars", None if these are not two or three."""
    inside = groups.inner(group).get("vars")
    if inside is None:
        return None
    items = groups.members(inside)
    wanted = [str(k) for k in range(len(items))]
    if len(items) not in (2, 3) or sorted(items) != wanted:
        return None
    return [groups.array(items[k]) for k in wanted]


def new_layers(
    group: Any, groups: Groups, path: str = "", depth: int = 0
) -> Iterator[tuple[str, Parts]]:
    """The layers of Keras 3's weights: a layer is a group with a cell, a Bidirectional one with
    two such layers."""
    groups.enter(group, depth)
    children = groups.inner(group)
    name = path
    if "vars" in children and (given := read_text(children["vars"].attrs.get("name", ""))):
        name = given
    halves = [children.get(f"{way}_layer") for way in ("forward", "backward")]
    both = [_cell_of(half, groups) for half in halves if half is not None]
    if len(both) == 2 and both[0] is not None and both[1] is not None:
        yield name, {"": both[0], "_reverse": both[1]}
        return
    if (own := _cell_of(group, groups)) is not None:
        yield name, {"": own}
        return
    if "cell" in children and "cells" in groups.members(children["cell"]):
        yield name, {}
        return
    for key, child in children.items():
        if key != "vars":
            yield from new_layers(child, groups, f"{path}/{key}".lstrip("/"), depth + 1)


def _cell_of(group: Any, groups: Groups) -> list[Array] | None:
    cell = groups.inner(group).get("cell")
    return None if cell is None else _variables(cell, groups)


def old_layers(file: Any, groups: Groups) -> Iterator[tuple[str, Parts]]:
    """The layers of an .h5: kernel, recurrent_kernel and bias side by side in one group."""
    for name, group in groups.inner(groups.inner(file).get("model_weights", file)).items():
        yield from _old_group(name, group, groups, 0)


def _old_group(name: str, group: Any, groups: Groups, depth: int) -> Iterator[tuple[str, Parts]]:
    groups.enter(group, depth)
    children = groups.inner(group)
    found = {n: arrays for n, g in children.items() if (arrays := _old_arrays(g, groups, 0))}
    ahead = [n for n in found if n.startswith("forward")]
    back = [n for n in found if n.startswith("backward")]
    if len(ahead) == len(back) == 1:
        yield name, {"": found[ahead[0]], "_reverse": found[back[0]]}
        return
    if any(n.startswith("stacked_rnn_cells") for n in children):
        yield name, {}
        return
    arrays = _triple(group, groups)
    if arrays is not None:
        yield name.rpartition("/")[2], {"": arrays}
        return
    for key, child in children.items():
        cell = key.rstrip("_0123456789").endswith("cell")
        yield from _old_group(name if cell or key == name else key, child, groups, depth + 1)


def _old_arrays(group: Any, groups: Groups, depth: int) -> list[Array] | None:
    """A half of a Bidirectional: the arrays, which may lie in a cell's group."""
    own = _triple(group, groups)
    if own is not None or depth > 4:
        return own
    inner = list(groups.inner(group).values())
    return _old_arrays(inner[0], groups, depth + 1) if len(inner) == 1 else None


def _triple(group: Any, groups: Groups) -> list[Array] | None:
    items = {n.removesuffix(":0"): d for n, d in groups.members(group).items()}
    if not {"kernel", "recurrent_kernel"} <= items.keys() <= {"kernel", "recurrent_kernel", "bias"}:
        return None
    return [groups.array(items[n]) for n in ("kernel", "recurrent_kernel", "bias") if n in items]
