"""Dataclasses <-> JSON, guided by the annotations of their fields: a new operation needs no code here or in the file format.

A dataclass is an object with its class name under "type" and the fields that differ from their defaults; a tuple is an array.
"""

import dataclasses
import math
import reprlib
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from bitfold.errors import GraphError

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

MAX_INT = 1 << 53  # integers beyond it are not exact in every JSON reader


def short(value: Any) -> str:
    """A bounded ``repr`` for messages."""
    return repr(value[:120]) if isinstance(value, str) else reprlib.repr(value)


def encode(value: Any, where: str) -> Json:
    """JSON of a dataclass, tuple, number, string, bool or None. GraphError for anything else (a list, a NumPy scalar, NaN)."""
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, tuple):
        return [encode(item, where) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {name: getattr(value, name) for name, default in _defaults(type(value)).items() if getattr(value, name) != default}
        return {"type": type(value).__name__, **{name: encode(field, f"{where}: {name}") for name, field in changed.items()}}
    raise GraphError(f"{where}: got {short(value)} ({type(value).__name__}); allowed: None, bool, int, finite float, str, tuple")


def decode(data: Json, annotation: Any, where: str) -> Any:
    """The value of type ``annotation`` that ``data`` writes. GraphError names the place, what came and what is allowed."""
    choices = _choices(annotation)
    key = data.get("type") if isinstance(data, dict) else type(data)
    if not isinstance(key, (str, type)) or key not in choices:
        allowed = sorted({"null" if c is NoneType else getattr(c, "__name__", str(c)) for c in choices.values()})
        raise GraphError(f"{where}: got {short(data)}; allowed: {', '.join(allowed)}")
    choice = choices[key]
    if isinstance(data, dict):
        return _build_dataclass(data, choice, where)
    if isinstance(data, list):
        return _build_tuple(data, get_args(choice), where)
    if (isinstance(data, int) and abs(data) > MAX_INT) or (isinstance(data, float) and not math.isfinite(data)):
        raise GraphError(f"{where}: got {short(data)}; allowed: finite numbers, integers up to 2^53")
    return float(data) if choice is float else data  # type: ignore[arg-type]


def check(value: Any, annotation: Any, where: str) -> None:
    """GraphError unless ``value`` and its fields have the annotated types."""
    decode(encode(value, where), annotation, where)


def _build_tuple(data: list[Json], items: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if items[-1] is Ellipsis:
        return tuple([decode(item, items[0], where) for item in data])
    if len(data) != len(items):
        raise GraphError(f"{where}: got {len(data)} entries; allowed: {len(items)}")
    return tuple([decode(item, kind, where) for item, kind in zip(data, items, strict=True)])


def _build_dataclass(data: dict[str, Json], cls: Any, where: str) -> Any:
    hints, defaults = _hints(cls), _defaults(cls)
    if unknown := data.keys() - hints.keys() - {"type"}:
        raise GraphError(f"{where}: {cls.__name__} has no field {short(min(unknown))}; allowed: {', '.join(hints)}")
    if missing := [name for name, default in defaults.items() if default is dataclasses.MISSING and name not in data]:
        raise GraphError(f"{where}: {cls.__name__} lacks the field {missing[0]!r}")
    return cls(**{name: decode(data[name], hint, f"{where}: {name}") for name, hint in hints.items() if name in data})


@cache
def _choices(annotation: Any) -> dict[str | type, Any]:
    """What a value may be, by its JSON type or, for objects, by the name under "type"."""
    choices: dict[str | type, Any] = {}
    for option in get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,):
        if dataclasses.is_dataclass(option):
            choices[option.__name__] = option  # type: ignore[union-attr]
        else:
            choices[list if get_origin(option) is tuple else option] = option
    if float in choices:
        choices.setdefault(int, float)
    return choices


@cache
def _hints(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


@cache
def _defaults(cls: Any) -> dict[str, Any]:
    return {f.name: f.default for f in dataclasses.fields(cls)}
