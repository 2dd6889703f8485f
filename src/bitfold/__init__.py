"""bitfold: train any PyTorch model to a few bits, fold it to packed integers, run it bit-exactly and fast."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# public name -> module that defines it; loaded on first use, so that the engine never waits for PyTorch
_LAZY = {
    "BitfoldError": "bitfold.errors",
    "Graph": "bitfold.ir.graph",
    "interpret": "bitfold.ir.interpreter",
    "load": "bitfold.engine.engine",
    "Engine": "bitfold.engine.engine",
    "apply": "bitfold.methods._apply",
    "export": "bitfold.export.export",
    "verify": "bitfold.export.verify",
    "summary": "bitfold.export.summary",
    "load_recipe": "bitfold.training.recipe",
    "train": "bitfold.training.train",
    "evaluate": "bitfold.training.evaluate",
    "evaluate_corruptions": "bitfold.training.robustness",
}
_PACKAGES = ("methods", "models", "data", "training", "tasks", "importers")

__all__ = ["__version__", *_LAZY, *_PACKAGES]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name in _PACKAGES:
        return import_module(f"bitfold.{name}")
    raise AttributeError(f"module 'bitfold' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
