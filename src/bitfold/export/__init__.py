"""PyTorch -> IR (trace, fold, pack) and the proof that both compute the same.

Importing this package binds ``bitfold.export`` to it, which is also the name of the public function: so the package can be called.
"""

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from bitfold.export.export import export

        return export(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
