"""Strict tables: a nested dict from TOML becomes a frozen dataclass, and every mistake names the file, the key and what is allowed.

A field's annotation is its check: bool, int, float, str, ``Literal``, ``tuple[X, ...]``, ``X | None``, a dataclass, ``dict[str, X]`` or
``dict[str, Any]`` (free options). Numeric bounds are field metadata: ``field(metadata={"min": 0, "max": 1})``; ``above``/``below`` are
strict.
"""

import dataclasses
import json
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from bitfold.errors import ConfigError, unknown

T = TypeVar("T")

_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def build(cls: type[T], table: Mapping[str, Any], where: str, key: str = "") -> T:
    """An instance of the dataclass ``cls`` from ``table``; ``where`` and ``key`` lead every message. Raises ConfigError."""
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in table:
        if name not in fields:
            raise ConfigError(f"{where}: {unknown('key', _join(key, name), [_join(key, n) for n in fields])}")
    values: dict[str, Any] = {}
    for name, f in fields.items():
        path = _join(key, name)
        if name in table:
            values[name] = convert(hints[name], table[name], where, path)
            _check_bounds(values[name], f.metadata, where, path)
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{where}: {path} is missing; {_describe(hints[name])} is needed")
    return cls(**values)


def convert(hint: Any, value: Any, where: str, key: str) -> Any:
    """``value`` as the annotated type, without guessing: only int -> float and list -> tuple are converted."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return convert(next(a for a in args if a is not type(None)), value, where, key)
    if origin is Literal:
        if isinstance(value, str) and value not in args:
            raise ConfigError(f"{where}: {unknown('value of ' + key + ':', value, [str(a) for a in args])}")
        if value in args and not isinstance(value, bool):
            return value
    elif origin is tuple and isinstance(value, list | tuple):
        return tuple(convert(args[0], v, where, f"{key}.{i}") for i, v in enumerate(value))
    elif origin is dict and isinstance(value, Mapping):
        if args[1] is Any:
            return {str(k): _frozen(v) for k, v in value.items()}
        return {str(k): convert(args[1], v, where, f"{key}.{k}") for k, v in value.items()}
    elif dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return build(hint, value, where, key)  # type: ignore[arg-type]
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif hint in (int, str, bool) and type(value) is hint:
        return value
    raise ConfigError(f"{where}: {key} = {value!r} is not {_describe(hint)}")


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


def _check_bounds(value: Any, bounds: Mapping[str, float], where: str, key: str) -> None:
    for item in value if isinstance(value, tuple) else (value,):
        if not isinstance(item, int | float) or isinstance(item, bool):
            continue
        broken = (
            ("min" in bounds and item < bounds["min"])
            or ("max" in bounds and item > bounds["max"])
            or ("above" in bounds and item <= bounds["above"])
            or ("below" in bounds and item >= bounds["below"])
            or item != item
        )
        if broken:
            words = {"min": ">=", "max": "<=", "above": ">", "below": "<"}
            allowed = " and ".join(f"{words[k]} {v:g}" for k, v in bounds.items())
            raise ConfigError(f"{where}: {key} = {item!r}; allowed: {allowed}")


def _describe(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(a) for a in args if a is not type(None))
    if origin is Literal:
        return "one of " + ", ".join(repr(a) for a in args)
    if origin is tuple:
        return f"a list of {_describe(args[0])}"
    if origin is dict or dataclasses.is_dataclass(hint):
        return "a table"
    return _NAMES.get(hint, str(hint))


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def to_toml(table: Mapping[str, Any], prefix: str = "") -> str:
    """TOML text of nested dicts, lists of dicts as ``[[...]]``; None is left out. tomllib reads back the same values."""
    lines, tables = [], []
    for name, value in table.items():
        key = _join(prefix, name)
        if isinstance(value, Mapping):
            tables.append(f"\n[{key}]\n{to_toml(value, key)}")
        elif isinstance(value, list | tuple) and value and all(isinstance(item, Mapping) for item in value):
            tables += [f"\n[[{key}]]\n{to_toml(item, key)}" for item in value]
        elif value is not None:
            lines.append(f"{name} = {_toml_value(value)}\n")
    return "".join(lines) + "".join(tables)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML's basic strings take JSON's escapes
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {_toml_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    return repr(value)
