"""Activations and cell types as plain data for JSON, for people to read and for any program.

An activation is a text that `resolve` reads ("relu", "leaky_relu(k=0.2)", "x*sigmoid(x)"), or
{"name", "formula", "parameters"} where the text alone does not say it. Reading checks the form of
everything and its size before anything is built; formulas are parsed, never evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from reprlib import repr as shown
from typing import Any

from ..formulas.activation import Activation
from ..formulas.canonical import canonical, from_canonical
from ..formulas.errors import FormulaError, printable
from ..formulas.lookup import resolve
from .celltype import CellType, Product

__all__ = [
    "activation_data",
    "cell_type_data",
    "read_activation",
    "read_cell_type",
    "read_fields",
]

_MOST = 64
"""Entries in one list or object."""
_MOST_TEXT = 2_000
_CELL = {
    "name": str,
    "products": list,
    "states": list,
    "lines": list,
    "slots": dict,
    "gates": list,
    "vectors": dict,
    "masks": list,
    "output": str,
}


def activation_data(activation: Activation) -> Any:
    """An activation for JSON, which `read_activation` reads as an equal one."""
    found = _activation_data(activation)
    return {**found, "parameters": dict(found["parameters"])} if isinstance(found, dict) else found


@lru_cache(maxsize=1024)
def _activation_data(activation: Activation) -> Any:
    label = activation.label
    if _is(activation, lambda: resolve(label)):
        return label
    parameters = dict(activation.parameters)
    found = {"name": activation.name, "formula": activation.formula, "parameters": parameters}
    if not _is(
        activation, lambda: Activation(activation.name, found["formula"], parameters=parameters)
    ):
        found["canonical"] = canonical(activation.expression)
    return found


def _is(activation: Activation, read: Any) -> bool:
    try:
        return bool(read() == activation)
    except FormulaError:
        return False


def read_activation(data: Any, where: str) -> Activation:
    """The activation of its data. Raises FormulaError that begins with `where`."""
    try:
        if isinstance(data, str):
            return resolve(data)
        if not isinstance(data, Mapping):
            raise FormulaError(
                'write a text ("relu", "x*sigmoid(x)") or an object with name, formula and '
                f"parameters, not {type(data).__name__}"
            )
        fields = read_fields(
            data, {"name": str, "formula": str, "parameters": dict, "canonical": str}, ""
        )
        name = fields.get("name") or fields.get("formula", "")
        parameters = fields.get("parameters", {})
        _check_size(parameters, "parameters")
        for key, value in parameters.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise FormulaError(f"parameters.{shown(key)}: a number, not {shown(value)}")
        if "canonical" in fields:
            return Activation(name, from_canonical(fields["canonical"]), parameters=parameters)
        if "formula" in fields:
            return Activation(name, fields["formula"], parameters=parameters)
        return resolve(name)(**parameters) if parameters else resolve(name)
    except FormulaError as error:
        raise FormulaError(printable(f"{where}: {error}")) from None


def cell_type_data(kind: CellType) -> dict[str, Any]:
    """A cell type for JSON, which `read_cell_type` reads as an equal one."""
    return {
        "name": kind.name,
        "products": [
            {"name": p.name, "input": p.input, "recurrent": p.recurrent, "operand": p.operand}
            for p in kind.products
        ],
        "states": list(kind.states),
        "lines": list(kind.lines),
        "slots": {slot: activation_data(a) for slot, a in kind.slots},
        "gates": list(kind.gates),
        "vectors": dict(kind.vectors),
        "masks": list(kind.masks),
        "output": kind.output,
    }


def read_cell_type(data: Any, where: str) -> CellType:
    """The cell type of its data. Raises FormulaError that begins with `where`."""
    fields = read_fields(data, _CELL, where, required=("name", "products", "states", "lines"))
    for name, value in fields.items():
        if isinstance(value, list | dict):
            _check_size(value, f"{where}.{name}")
    for name in ("states", "lines", "gates", "masks"):
        for text in fields.get(name, ()):
            if not isinstance(text, str) or len(text) > _MOST_TEXT:
                raise FormulaError(
                    f"{where}.{name}: texts of at most {_MOST_TEXT:,} characters, not {shown(text)}"
                )
    products = [
        _read_product(product, f"{where}.products[{k}]")
        for k, product in enumerate(fields["products"])
    ]
    slots = {
        slot: read_activation(a, f"{where}.slots.{shown(slot)}")
        for slot, a in fields.get("slots", {}).items()
    }
    try:
        return CellType(
            fields["name"],
            products=tuple(products),
            states=tuple(fields["states"]),
            lines=tuple(fields["lines"]),
            slots=slots,
            gates=tuple(fields.get("gates", ())),
            vectors=fields.get("vectors", {}),
            masks=tuple(fields.get("masks", ())),
            output=fields.get("output", ""),
        )
    except FormulaError as error:
        raise FormulaError(printable(f"{where}: {error}")) from None


def _read_product(data: Any, where: str) -> Product:
    if isinstance(data, str):
        return Product(data)
    kinds = {"name": str, "input": bool, "recurrent": bool, "operand": str}
    fields = read_fields(data, kinds, where, required=("name",))
    if len(fields.get("operand", "")) > _MOST_TEXT:
        raise FormulaError(f"{where}.operand has more than {_MOST_TEXT:,} characters")
    return Product(**fields)


def read_fields(
    data: Any, kinds: Mapping[str, Any], where: str, required: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The fields of an object, each of its kind. Raises FormulaError naming the field."""
    dot = f"{where}." if where else ""
    if not isinstance(data, Mapping):
        raise FormulaError(f"{where}: an object with {', '.join(kinds)}, not {shown(data)}")
    for name, value in data.items():
        if name not in kinds:
            raise FormulaError(f"{dot}{shown(name)} is no field; there are: {', '.join(kinds)}")
        kind = kinds[name]
        is_bool = isinstance(value, bool) and bool not in (
            kind if isinstance(kind, tuple) else (kind,)
        )
        if is_bool or not isinstance(value, kind):
            wanted = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
            raise FormulaError(f"{dot}{name}: {wanted}, not {shown(value)}")
    if missing := [name for name in required if name not in data]:
        raise FormulaError(f"{dot}{missing[0]} is missing")
    return dict(data)


def _check_size(values: Any, where: str) -> None:
    if len(values) > _MOST:
        raise FormulaError(f"{where} has {len(values):,} entries; at most {_MOST} are read")
