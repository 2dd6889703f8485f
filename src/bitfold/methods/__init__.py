"""Training methods, one file each; the file's name is the method's name. ``names``, ``get`` and ``describe`` find them."""

import inspect
import pkgutil
from dataclasses import MISSING, dataclass, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bitfold.errors import ConfigError, unknown

if TYPE_CHECKING:
    from bitfold.methods.base import Method


@dataclass(frozen=True)
class FieldInfo:
    name: str
    type: str
    default: Any


@dataclass(frozen=True)
class MethodInfo:
    """What ``bitfold list methods`` prints. ``text``: the class docstring, ``summary``: its first line."""

    name: str
    summary: str
    text: str
    fields: tuple[FieldInfo, ...]


def names() -> list[str]:
    """The names of all methods, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base" and not m.name.startswith("_"))


def get(name: str, /, **values: Any) -> "Method":
    """The method of that name, its fields set to ``values``. Raises ConfigError for an unknown name or field and a bad value."""
    info = describe(name)
    known = {f.name for f in info.fields}
    for field in values:
        if field not in known:
            listed = ", ".join(f"{f.name}: {f.type} = {f.default!r}" for f in info.fields)
            raise ConfigError(f"{unknown(f'field of method {name!r}', field, known)}; with types and defaults: {listed}")
    return _class(name)(**values)


def describe(name: str) -> MethodInfo:
    """Name, documentation and fields of a method."""
    cls = _class(name)
    text = inspect.cleandoc(cls.__doc__ or "")
    return MethodInfo(name, text.splitlines()[0], text, tuple(FieldInfo(f.name, _type_name(f.type), _default(f)) for f in fields(cls)))


def _class(name: str) -> type["Method"]:
    if name not in names():
        raise unknown("method", name, names())
    method: type[Method] = import_module(f"{__name__}.{name}").METHOD
    return method


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).removeprefix("typing.")


def _default(field: Any) -> Any:
    if field.default is MISSING:
        raise AssertionError(f"method field {field.name!r} has no default")
    return field.default
