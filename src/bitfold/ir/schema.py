"""Dataclasses <-> JSON, guided by the annotations of their fields: a new operation needs no code here or in the file format.

A dataclass is an object of the fields that differ from their defaults; where several dataclasses may stand, its class name is
under "type". A tuple is an array.
"""

import dataclasses
import reprlib
from collections.abc import Callable
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeAlias, Union, get_args, get_origin

from bitfold.errors import GraphError

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

Check: TypeAlias = Callable[[Any], None]

_ONLY = "{}"
MAX_INT = 1 << 53  # integers beyond it are not exact in every JSON reader
MAX_FLOAT = 3.4028234663852886e38  # the largest float32


def short(value: Any) -> str:
    """A bounded ``repr`` for messages."""
    return repr(value[:120]) if isinstance(value, str) else reprlib.repr(value)


def encode(value: Any, annotation: Any) -> Json:
    """JSON of a checked value."""
    choice = _choose(type(value), value, annotation)
    if isinstance(value, tuple):
        return [encode(item, kind) for item, kind in _with_annotations(value, choice)]
    if not dataclasses.is_dataclass(choice):
        return value  # type: ignore[no-any-return]
    defaults: Any = _defaults(choice)  # type: ignore[arg-type]
    fields = {name: (getattr(value, name), hint) for name, hint in _hints(choice).items()}  # type: ignore[arg-type]
    changed = {name: encode(field, hint) for name, (field, hint) in fields.items() if field != defaults[name]}
    return changed if _ONLY in _choices(annotation) else {"type": choice.__name__, **changed}  # type: ignore[union-attr]


def decode(data: Json, annotation: Any) -> Any:
    """The value of type ``annotation`` that ``data`` writes. GraphError says in which field, what came and what is allowed."""
    if isinstance(data, list):
        return _decode_tuple(data, _choose(tuple, data, annotation))
    if isinstance(data, dict):
        if _ONLY in _choices(annotation):
            return _decode_dataclass(data, _choices(annotation)[_ONLY])
        choice = _choose(data.get("type"), data, annotation)
        return _decode_dataclass({name: item for name, item in data.items() if name != "type"}, choice)
    choice = _choose(type(data), data, annotation)
    _check_number(data)
    return float(data) if choice is float else data  # type: ignore[arg-type]


def check(value: Any, annotation: Any) -> None:
    """GraphError unless ``value`` and its fields have exactly the annotated types (so no lists, no NumPy scalars)."""
    _checker(annotation)(value)


@cache
def _checker(annotation: Any) -> Check:
    """``check`` for one annotation, looked up once: a graph has thousands of fields."""
    known: dict[type, Check] = {}

    def check_value(value: Any) -> None:
        inside = known.get(type(value))
        if inside is None:
            inside = known[type(value)] = _check_inside(_choose(type(value), value, annotation))
        inside(value)

    return check_value


def _check_inside(choice: Any) -> Check:
    """Checks what a value of the right type holds."""
    if get_origin(choice) is tuple:
        return lambda value: _check_items(value, choice)
    if not dataclasses.is_dataclass(choice):
        return _check_number
    fields = [(name, _checker(hint)) for name, hint in _hints(choice).items()]  # type: ignore[arg-type]

    def check_fields(value: Any) -> None:
        for name, check_field in fields:
            try:
                check_field(getattr(value, name))
            except GraphError as error:
                raise GraphError(f"{name}: {error}") from None

    return check_fields


def _check_items(items: tuple[Any, ...], choice: Any) -> None:
    for item, kind in _with_annotations(items, choice):
        _checker(kind)(item)


def _decode_tuple(data: list[Json], choice: Any) -> tuple[Any, ...]:
    items = []
    for item, kind in _with_annotations(data, choice):
        try:
            items.append(decode(item, kind))
        except GraphError as error:
            raise GraphError(f"entry {len(items)}: {error}") from None
    return tuple(items)


def _decode_dataclass(data: dict[str, Json], cls: Any) -> Any:
    hints, defaults = _hints(cls), _defaults(cls)
    if unknown := data.keys() - hints.keys():
        raise GraphError(f"{cls.__name__} has no field {short(min(unknown))}; allowed: {', '.join(hints)}")
    values = {}
    for name, hint in hints.items():
        if name in data:
            try:
                values[name] = decode(data[name], hint)
            except GraphError as error:
                raise GraphError(f"{name}: {error}") from None
        elif defaults[name] is dataclasses.MISSING:
            raise GraphError(f"{cls.__name__} lacks the field {name!r}")
    return cls(**values)


def _choose(key: Any, value: Any, annotation: Any) -> Any:
    """The option of ``annotation`` with the key of ``value``."""
    choices = _choices(annotation)
    choice = choices.get(key) if isinstance(key, (str, type)) else None
    if choice is None:
        allowed = sorted({"None" if c is NoneType else getattr(c, "__name__", str(c)) for c in choices.values()})
        raise GraphError(f"got {short(value)}; allowed: {', '.join(allowed)}")
    return choice


def _with_annotations(items: Any, choice: Any) -> Any:
    kinds = choice.__args__
    if kinds[-1] is Ellipsis:
        return [(item, kinds[0]) for item in items]
    if len(items) != len(kinds):
        raise GraphError(f"got {len(items)} entries; allowed: {len(kinds)}")
    return zip(items, kinds, strict=True)


def _check_number(value: Any) -> None:
    most = MAX_INT if isinstance(value, int) else MAX_FLOAT
    if isinstance(value, (int, float)) and not abs(value) <= most:  # so that NaN is refused
        raise GraphError(f"got {short(value)}; allowed: -{most} to {most}")


@cache
def _choices(annotation: Any) -> dict[str | type, Any]:
    """What a value may be, by its Python type. A JSON object is found by its "type", or as _ONLY if it can be one dataclass only."""
    options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    choices: dict[str | type, Any] = {tuple if get_origin(option) is tuple else option: option for option in options}
    classes = [option for option in options if dataclasses.is_dataclass(option)]
    choices |= {_ONLY: classes[0]} if len(classes) == 1 else {option.__name__: option for option in classes}  # type: ignore[union-attr]
    if float in choices:
        choices.setdefault(int, float)
    return choices


@cache
def _hints(cls: Any) -> dict[str, Any]:
    hints = {f.name: f.type for f in dataclasses.fields(cls)}
    assert not any(isinstance(hint, str) for hint in hints.values()), f"{cls.__name__} has annotations that are text"
    return hints


@cache
def _defaults(cls: Any) -> dict[str, Any]:
    return {f.name: f.default for f in dataclasses.fields(cls)}
