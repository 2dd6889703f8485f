"""Models, one file per family: plain PyTorch that runs in float and knows no method.

Every public function of a family file that is defined there is a model; its name is what users type, its parameters are the options.
"""

import inspect
import pkgutil
from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal, get_args, get_origin, get_type_hints

from torch import nn

from bitfold.errors import ConfigError, unknown


def _factories() -> dict[str, Callable[..., nn.Module]]:
    found: dict[str, Callable[..., nn.Module]] = {}
    for info in pkgutil.iter_modules(__path__):
        if info.name == "common":
            continue
        module = import_module(f"{__name__}.{info.name}")
        for name, item in inspect.getmembers(module, inspect.isfunction):
            if item.__module__ == module.__name__ and not name.startswith("_"):
                assert name not in found, f"model {name!r} is defined in two files"
                found[name] = item
    return found


def names() -> list[str]:
    """The models that ``create`` knows, sorted."""
    return sorted(_factories())


def create(name: str, **options: Any) -> nn.Module:
    """A new model with random weights (draw: torch's global generator). ConfigError for an unknown name, option or value.

    >>> create("resnet20", num_classes=100, act="relu")  # doctest: +SKIP
    """
    factories = _factories()
    if name not in factories:
        raise unknown("model", name, factories)
    factory = factories[name]
    hints = get_type_hints(factory)
    allowed = inspect.signature(factory).parameters
    for option, value in options.items():
        if option not in allowed:
            raise unknown(f"option of model {name!r}", option, allowed)
        _check(name, option, value, hints[option])
    return factory(**options)


def describe() -> list[dict[str, Any]]:
    """One row a model for ``bitfold list models``: name, summary, text, and options {name: {default, allowed}}."""
    rows = []
    for name, factory in sorted(_factories().items()):
        hints = get_type_hints(factory)
        options = {
            option: {"default": parameter.default, "allowed": _allowed(hints[option])}
            for option, parameter in inspect.signature(factory).parameters.items()
        }
        text = inspect.cleandoc(factory.__doc__ or "")
        rows.append({"name": name, "summary": text.splitlines()[0], "text": text, "options": options})
    return rows


def _allowed(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return ", ".join(repr(choice) for choice in get_args(hint))
    return {bool: "true, false", int: "an integer >= 1"}[hint]


def _check(model: str, option: str, value: Any, hint: Any) -> None:
    """Options are Literal strings, bool, or int >= 1; anything else in a factory's signature is our own mistake (KeyError above)."""
    if get_origin(hint) is Literal:
        good = value in get_args(hint)
    elif hint is bool:
        good = isinstance(value, bool)
    else:
        good = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not good:
        raise ConfigError(f"model {model!r}: option {option}={value!r}; allowed: {_allowed(hint)}")
