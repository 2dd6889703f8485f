"""Dataclasses <-> JSON, guided by the annotations of their fields: a new operation needs no code here or in the file format.

A dataclass is an object with its class name under "type" and the fields that differ from their defaults; a tuple is an array.
"""

import dataclasses
import math
import reprlib
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from bitfold.errors import GraphError

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

MAX_INT = 1 << 53  # integers beyond it are not exact in every JSON reader


def short(value: Any) -> str:
    """A bounded ``repr`` for messages."""
    return repr(value[:120]) if isinstance(value, str) else reprlib.repr(value)


def encode(value: Any, where: str) -> Json:
    """JSON of a dataclass, tuple, number, string, bool or None. GraphError for anything else (a list, a NumPy scalar, NaN)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = [f for f in dataclasses.fields(value) if not _is_default(getattr(value, f.name), f)]
        return {"type": type(value).__name__, **{f.name: encode(getattr(value, f.name), f"{where}.{f.name}") for f in changed}}
    if isinstance(value, tuple):
        return [encode(item, where) for item in value]
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise GraphError(f"{where}: got {short(value)} ({type(value).__name__}); allowed: None, bool, int, finite float, str, tuple")


def decode(data: Json, annotation: Any, where: str) -> Any:
    """The value of type ``annotation`` that ``data`` writes. GraphError names the place, what came and what is allowed."""
    options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    for option in options:
        if _fits(data, option):
            return _build(data, option, where)
    allowed = " or ".join("null" if o is type(None) else getattr(o, "__name__", str(o)) for o in options)
    raise GraphError(f"{where}: got {short(data)}; allowed: {allowed}")


def check(value: Any, annotation: Any, where: str) -> None:
    """GraphError unless ``value`` and its fields have the annotated types."""
    decode(encode(value, where), annotation, where)


def _is_default(value: Any, field: "dataclasses.Field[Any]") -> bool:
    return value is field.default or (type(value) is type(field.default) and value == field.default)


def _fits(data: Json, option: Any) -> bool:
    """Whether ``data`` has the outer form of ``option``; its inside is checked by _build."""
    if option is type(None):
        return data is None
    if dataclasses.is_dataclass(option):
        return isinstance(data, dict) and data.get("type") == option.__name__  # type: ignore[union-attr]
    if get_origin(option) is tuple:
        return isinstance(data, list)
    if option is float:
        return isinstance(data, (int, float)) and not isinstance(data, bool)
    return type(data) is option


def _build(data: Any, option: Any, where: str) -> Any:
    if dataclasses.is_dataclass(option):
        return _build_dataclass(data, option, where)
    if get_origin(option) is tuple:
        return _build_tuple(data, get_args(option), where)
    if (isinstance(data, int) and abs(data) > MAX_INT) or (isinstance(data, float) and not math.isfinite(data)):
        raise GraphError(f"{where}: got {short(data)}; allowed: finite numbers, integers up to 2^53")
    return float(data) if option is float else data


def _build_tuple(data: list[Json], items: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if items[-1] is Ellipsis:
        return tuple([decode(item, items[0], where) for item in data])
    if len(data) != len(items):
        raise GraphError(f"{where}: got {len(data)} entries; allowed: {len(items)}")
    return tuple([decode(item, kind, where) for item, kind in zip(data, items, strict=True)])


def _build_dataclass(data: dict[str, Json], cls: Any, where: str) -> Any:
    hints = _field_types(cls)
    if unknown := data.keys() - hints.keys() - {"type"}:
        raise GraphError(f"{where}: {cls.__name__} has no field {short(min(unknown))}; allowed: {', '.join(hints)}")
    if missing := [f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING and f.name not in data]:
        raise GraphError(f"{where}: {cls.__name__} lacks the field {missing[0]!r}")
    return cls(**{name: decode(data[name], hint, f"{where}.{name}") for name, hint in hints.items() if name in data})


@cache
def _field_types(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}
