"""Published checkpoints as runs: one file per published format; the file's name is the format's name.

bitfold.importers.import_run("adabin", "resnet20_1w1a_model.th", "runs/published")    # then bitfold eval, export, verify, report
"""

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bitfold.errors import unknown

if TYPE_CHECKING:
    from bitfold.importers.base import Published

__all__ = ["get", "import_run", "names"]


def names() -> list[str]:
    """The formats that ``get`` and ``import_run`` know, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base" and not m.name.startswith("_"))


def get(name: str) -> "Published":
    """The format of that name. Raises ConfigError for an unknown one."""
    if name not in names():
        raise unknown("published format", name, names())
    published: Published = import_module(f"{__name__}.{name}").FORMAT
    return published


def __getattr__(name: str) -> Any:
    if name == "import_run":
        return import_module(f"{__name__}._write").import_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
