"""Layers side by side."""

from torch import Tensor, nn


class Parallel(nn.ModuleList):
    """Layers that read the same input: x -> (layer(x) for each layer). A swap gives them one input quantiser, theirs together."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(layer(x) for layer in self)
