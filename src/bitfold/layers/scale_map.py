"""A learned scale for every row and every column of an image."""

import torch
from torch import Tensor, nn

from bitfold.errors import ConfigError


class ScaleMap(nn.Module):
    """y[n, c, h, w] = x[n, c, h, w] row[h] column[w], both learned, 1 at the start. For one image size.

    Shape: (N, C, height, width); kept. Raises ConfigError for other sizes.
    Reference: Bulat and Tzimiropoulos 2019 (XNOR-Net++), arXiv 1909.13863.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.row = nn.Parameter(torch.ones(height))
        self.column = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (len(self.row), len(self.column)):
            raise ConfigError(
                f"ScaleMap: the input has shape {tuple(x.shape)}; allowed: height {len(self.row)} and width {len(self.column)}, "
                "for which the scales were made"
            )
        return x * (self.row[:, None] * self.column)
