"""Arithmetic of shapes and borders, shared by inference, interpreter, export and engine.

Along one axis an output position o reads the input at o * stride - before + k * dilation for the taps k = 0 .. kernel - 1.
The taps inside the image are valid; they are one range of k. Positions with the same range form a class: in a 3x3
convolution with padding 1 there are three per axis (first row, inner rows, last row), so nine in the image.
"""

from dataclasses import dataclass

import numpy as np

from bitfold.ir.ops import Conv, Rearrange


def out_size(size: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> int:
    """Number of output positions along an axis; 0 or less when the kernel does not fit."""
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


@dataclass(frozen=True, eq=False)
class AxisClasses:
    """``index[o]``: class of output position o (int32). ``taps[c]``: valid taps of class c as (first, end), first == end if none."""

    index: np.ndarray
    taps: tuple[tuple[int, int], ...]

    @property
    def counts(self) -> np.ndarray:
        """Number of valid taps of each class."""
        return np.array([end - first for first, end in self.taps], dtype=np.int64)


def axis_classes(size: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> AxisClasses:
    """The classes of one axis, numbered in the order of their first position."""
    start = np.arange(out_size(size, kernel, stride, before, after, dilation), dtype=np.int64) * stride - before
    first = np.clip(-(start // dilation), 0, kernel)  # ceil(-start / dilation)
    end = np.clip(-((start - size) // dilation), first, kernel)  # ceil((size - start) / dilation)
    some = first < end
    pairs, where, index = np.unique(np.stack([first * some, end * some]), axis=1, return_index=True, return_inverse=True)
    order = np.argsort(where)
    rank = np.argsort(order)
    return AxisClasses(rank[index.reshape(-1)].astype(np.int32), tuple((int(a), int(b)) for a, b in pairs.T[order]))


def conv_classes(conv: Conv, x_hw: tuple[int, int], kernel_hw: tuple[int, int]) -> tuple[AxisClasses, AxisClasses]:
    """Classes of the rows and of the columns of a convolution."""
    rows, columns = (
        axis_classes(x_hw[i], kernel_hw[i], conv.stride[i], conv.padding[i], conv.padding[i], conv.dilation[i]) for i in (0, 1)
    )
    return rows, columns


def weight_sums(weight_codes: np.ndarray, x_hw: tuple[int, int], conv: Conv) -> np.ndarray:
    """S_w, int64 of (O, row classes, column classes): sum of an output channel's codes over the valid taps."""
    rows, columns = conv_classes(conv, x_hw, (weight_codes.shape[2], weight_codes.shape[3]))
    per_tap = weight_codes.sum(axis=1, dtype=np.int64)
    sums = [[per_tap[:, r0:r1, c0:c1].sum(axis=(1, 2)) for c0, c1 in columns.taps] for r0, r1 in rows.taps]
    return np.moveaxis(np.array(sums, dtype=np.int64), -1, 0)


def tap_counts(weight_shape: tuple[int, ...], x_hw: tuple[int, int], conv: Conv) -> np.ndarray:
    """V, int64 of (row classes, column classes): valid taps times input channels of a group."""
    rows, columns = conv_classes(conv, x_hw, (weight_shape[2], weight_shape[3]))
    return weight_shape[1] * rows.counts[:, None] * columns.counts[None, :]


def offset_sums(weight_codes: np.ndarray, x_offset: np.ndarray, x_hw: tuple[int, int], conv: Conv) -> np.ndarray:
    """X, float64 of (O, row classes, column classes): over the group's input channels in rising order, from +0.0, the channel's
    ``x_offset`` times its sum of codes over the valid taps."""
    out_channels, group_channels, *kernel = weight_codes.shape
    rows, columns = conv_classes(conv, x_hw, (kernel[0], kernel[1]))
    own = x_offset.astype(np.float64).reshape(conv.groups, 1, group_channels)  # the channels that an output channel reads

    def total(codes: np.ndarray) -> np.ndarray:
        sums = codes.sum(axis=(2, 3), dtype=np.int64).reshape(conv.groups, -1, group_channels)
        return np.add.accumulate(own * sums, axis=2)[:, :, -1].reshape(out_channels) + 0.0

    found = [[total(weight_codes[:, :, r0:r1, c0:c1]) for c0, c1 in columns.taps] for r0, r1 in rows.taps]
    return np.moveaxis(np.array(found), -1, 0)


def view_positions(node: Rearrange) -> np.ndarray:
    """The position in x's logical order of every element of y in its logical order; int64 (elements,)."""
    at = np.array(node.offset, dtype=np.int64)
    for size, stride in zip(node.sizes, node.strides, strict=True):
        at = at[..., None] + np.arange(size, dtype=np.int64) * stride
    return at.reshape(-1)
