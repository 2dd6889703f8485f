"""The intermediate list between PyTorch and the IR: what each traced call means, before anything is folded."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn

from bitfold.errors import ExportError
from bitfold.ir.ops import Node

TorchFunction = Callable[[Tensor], Tensor]


@dataclass(eq=False)
class Step:
    """One operation of the IR to be. ``attrs`` are the fields of ``op``; float64 arrays among them become constants.

    ``module`` is the layer (Conv, Linear) or the quantiser (Quantize). ``torch`` is how PyTorch itself computes an elementwise
    step, which the search for thresholds asks. ``shape`` is per sample.
    """

    op: type[Node] | None  # None: an input of the graph
    path: str
    inputs: tuple["Step", ...]
    shape: tuple[int, ...]
    attrs: dict[str, Any] = field(default_factory=dict)
    module: nn.Module | None = None
    torch: TorchFunction | None = None

    def array(self, name: str) -> np.ndarray:
        """A constant's float64 array."""
        return np.asarray(self.attrs[name], dtype=np.float64)


@dataclass(frozen=True)
class Call:
    """One traced call, as a converter sees it: where it is, its name in PyTorch, and the shape it gave for the example."""

    path: str
    name: str
    shape: tuple[int, ...]
    torch: TorchFunction
    parts: bool = False  # it gives several tensors; ``shape`` is then ()
    channels_last: bool = False  # what a converter sees as channels is the last of several axes in PyTorch

    def refuse(self, reason: str) -> ExportError:
        return ExportError(f"export: {self.name} at {self.path!r}: {reason}")

    def step(self, op: type[Node], *inputs: Step, **attrs: Any) -> Step:
        return Step(op, self.path, inputs, self.shape, attrs)

    def elementwise(self, op: type[Node], x: Step, **attrs: Any) -> Step:
        return Step(op, self.path, (x,), self.shape, attrs, torch=self.torch)

    def float_tensor(self, value: object, what: str) -> np.ndarray:
        """A constant operand as float64."""
        if not isinstance(value, Tensor | int | float):
            raise self.refuse(f"{what} is {value!r}; allowed: a number or a tensor")
        array = value.detach().cpu().double().numpy() if isinstance(value, Tensor) else np.float64(value)
        return np.asarray(array, dtype=np.float64)
