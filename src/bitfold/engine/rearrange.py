"""A Rearrange as runs of numbers: what the core copies, or turns around, piece by piece."""

from math import gcd, prod
from typing import NamedTuple

import numpy as np

from bitfold.engine.step import hwc
from bitfold.ir.geometry import view_positions
from bitfold.ir.graph import Graph
from bitfold.ir.ops import Rearrange


class Runs(NamedTuple):
    """A run is ``length`` neighbouring channels of one pixel of x. They become neighbouring channels of one pixel of y; or, ``across`` its
    pixels, one channel of neighbouring pixels, and blocks of such runs are turned around.

    ``table``: where y's runs lie in x, as pixel * channels + channel of x; int32, in one row: (pixels, channels / length) of
    them or, across, (pixels / length, channels).
    """

    table: np.ndarray
    length: int
    across: bool


def runs(graph: Graph, node: Rearrange) -> Runs:
    """The longest runs of a view; of length 1 where no two neighbours in y are neighbours in x."""
    height, width, channels = hwc(node.shape)
    x = graph.types[node.x].shape
    x_channels, x_pixels = x[0], prod(x[1:])
    channel, pixel = np.divmod(view_positions(node).reshape(channels, height * width).T, x_pixels)  # (pixels of y, channels of y)
    length, across = (_run(channel, pixel, axis) for axis in (1, 0))
    at = (pixel * x_channels + channel).astype(np.int32)
    if across > length:
        return Runs(at[::across].reshape(-1), across, True)
    return Runs(at[:, ::length].reshape(-1), length, False)


def _run(channel: np.ndarray, pixel: np.ndarray, axis: int) -> int:
    """The largest divisor of the axis' size that cuts it into runs of neighbouring channels of one pixel."""
    breaks = (np.diff(channel, axis=axis) != 1) | (np.diff(pixel, axis=axis) != 0)
    return gcd(channel.shape[axis], *(np.flatnonzero(breaks.any(axis=1 - axis)) + 1).tolist())
