"""The closed list of IR operations, as frozen dataclasses. ``docs/format.md`` gives the exact arithmetic of each.

Shapes here are per sample: the batch is always in front and never written. Images are (channels, height, width); vectors are
(channels,). A field of type ``str`` that is not ``name`` or ``output`` names a value or a constant.

A ``Conv`` or ``Linear`` of two coded tensors computes with **codes**: D = sum of c_a c_w over the valid taps, an exact int32.
Without an epilogue D is the output. With one the output is float32, in this order (``fma`` rounds once; T is made at load, in
float64, and rounded once to float32):

    T = bias + weight_mul * S_w + tap_mul * V + mul * X
                                                     S_w = sum of c_w over valid taps, V = number of valid taps times channels,
                                                     X = sum over the group's channels of x_offset * (sum of that channel's c_w)
    y = fma(mul, D, T)                               without patch_mul
    y = fma(mul, D, fma(patch_mul, S_a, T))          S_a = sum of c_a over valid taps of the output channel's group

With ``metric="distance"`` (AdderNet) D is the negative L1 distance of codes, over all taps: D = -(sum of |c_w - c_a|), where a tap
outside the image reads the code of the value 0, x's zero point.

If x is float32 the sum runs over (tap row, tap column, channel) with one fma a step from +0.0, skipping taps outside the image;
coded weights then count as their codes (scales live in the epilogue).
"""

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from bitfold.ir.encoding import Coded

Pair: TypeAlias = tuple[int, int]
PRODUCT, DISTANCE = "product", "distance"  # what a Conv or Linear sums over its taps


@dataclass(frozen=True)
class Epilogue:
    """Names of float32 constants of shape (out_channels,), ``x_offset`` (channels of x,); None means 1 for mul and 0 for the rest."""

    mul: str | None = None
    bias: str | None = None
    patch_mul: str | None = None  # times S_a; only when an offset of the weights needs it
    weight_mul: str | None = None  # times S_w; only when an offset of the activations needs it
    tap_mul: str | None = None  # times V; only when both have offsets
    x_offset: str | None = None  # a code c of channel i stands for c + x_offset[i]: pictures as bytes, less their mean


@dataclass(frozen=True, kw_only=True)
class Node:
    """``name``: the layer's path in the trained network (unique, for messages and profiles). ``output``: the value it defines."""

    INPUTS: ClassVar[tuple[str, ...]] = ("x",)  # fields that name values
    CONSTANTS: ClassVar[tuple[str, ...]] = ()  # fields that name constants (None allowed where the field is optional)

    name: str
    output: str


@dataclass(frozen=True, kw_only=True)
class Conv(Node):
    """2-D convolution. x: (C, H, W), float32 or codes. weight: (O, C / groups, KH, KW), float32 or codes."""

    CONSTANTS = ("weight",)
    x: str
    weight: str
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)  # symmetric; padded taps are not valid taps
    dilation: Pair = (1, 1)
    groups: int = 1
    metric: str = PRODUCT  # or DISTANCE: both x and weight Uniform, with one zero point
    epilogue: Epilogue | None = None


@dataclass(frozen=True, kw_only=True)
class Linear(Node):
    """x: (C,), weight: (O, C). The arithmetic of a 1x1 Conv."""

    CONSTANTS = ("weight",)
    x: str
    weight: str
    metric: str = PRODUCT
    epilogue: Epilogue | None = None


@dataclass(frozen=True, kw_only=True)
class Quantize(Node):
    """float32 or int32 -> codes: the alphabet's entry number (count of thresholds t with x >= t), in rising order of codes.

    thresholds: same number type as x, shape (C or 1, levels - 1), each row rising. ``descending``: a Binary constant (C,) whose
    -1 marks the channels where the entry number counts from the top instead. Comparisons with NaN are false.
    """

    CONSTANTS = ("thresholds", "descending")
    x: str
    thresholds: str
    encoding: Coded
    descending: str | None = None


@dataclass(frozen=True, kw_only=True)
class Dequantize(Node):
    """codes -> float32: fma(scale, code, offset) with the scalar scale and offset of x's encoding."""

    x: str


@dataclass(frozen=True, kw_only=True)
class Affine(Node):
    """float32 or int32 -> float32, per channel: fma(mul, x, bias)."""

    CONSTANTS = ("mul", "bias")
    x: str
    mul: str
    bias: str


@dataclass(frozen=True, kw_only=True)
class Add(Node):
    """float32 + float32 of one shape, or b of shape (C, 1, 1) or (1, H, W)."""

    INPUTS = ("a", "b")
    a: str
    b: str


@dataclass(frozen=True, kw_only=True)
class Mul(Node):
    """float32 * float32; shapes as in Add."""

    INPUTS = ("a", "b")
    a: str
    b: str


@dataclass(frozen=True, kw_only=True)
class Clamp(Node):
    """min(max(x, low), high); None means no bound. ReLU is low=0, hardtanh is -1 and 1."""

    x: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class TwoSlope(Node):
    """t = x + shift_in; y = (t > 0 ? pos : neg) * t + shift_out, each step rounded. PReLU, RPReLU and AdaBin's Maxout.

    Constants of shape (C,) or (1,); None means 0 for shifts and 1 for pos. Slopes may be negative.
    """

    CONSTANTS = ("neg", "pos", "shift_in", "shift_out")
    x: str
    neg: str
    pos: str | None = None
    shift_in: str | None = None
    shift_out: str | None = None


@dataclass(frozen=True, kw_only=True)
class Abs(Node):
    """|x|, float32."""

    x: str


@dataclass(frozen=True, kw_only=True)
class Unary(Node):
    """A function of one float32. kind: sigmoid, tanh, silu, gelu, gelu_tanh, hardsigmoid, hardswish, rsqrt, sqrt or reciprocal."""

    x: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class Softmax(Node):
    """Over axis 0 of the sample (classes of a vector, channels of an image), with the maximum subtracted."""

    x: str


@dataclass(frozen=True, kw_only=True)
class MaxPool(Node):
    """float32, int32 or codes; taps outside the image are skipped. kernel 1 with stride 2 subsamples."""

    x: str
    kernel: Pair
    stride: Pair
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, left, bottom, right (ceil mode ends in bottom/right)
    dilation: Pair = (1, 1)


@dataclass(frozen=True, kw_only=True)
class AvgPool(Node):
    """float32: sum over the valid taps in row-major order, divided by their number (or by the window's size if count_padding)."""

    x: str
    kernel: Pair
    stride: Pair
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    count_padding: bool = False


@dataclass(frozen=True, kw_only=True)
class Mean(Node):
    """float32. over="space": (C, H, W) -> (C, 1, 1); over="channels": (C, H, W) -> (1, H, W)."""

    x: str
    over: str


@dataclass(frozen=True, kw_only=True)
class Flatten(Node):
    """(C, H, W) -> (C * H * W,) in the order of PyTorch (channel slowest). Any element type."""

    x: str


@dataclass(frozen=True, kw_only=True)
class Concat(Node):
    """Along channels; all of one element type."""

    INPUTS = ("xs",)
    xs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PadChannels(Node):
    """float32: zero channels before and after (ResNet's option-A shortcut)."""

    x: str
    before: int = 0
    after: int = 0


@dataclass(frozen=True, kw_only=True)
class Slice(Node):
    """float32: the channels [start, stop)."""

    x: str
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class Upsample(Node):
    """(C, H, W) -> (C, OH, OW); output pixel (i, j) reads the input's row ``rows[i]`` and column ``columns[j]``, any element type.

    ``rows``, ``columns``: int32 constants (OH,), (OW,). With weights (float32, (OH,) and (OW,), both or neither; x float32) it lies
    between that pixel and the next row and column: t = fma(w, next, (1 - w) * this) along columns, then along rows. Without weights
    and with float32 x an index of -1 reads zeros, so that padding is an Upsample too.
    """

    CONSTANTS = ("rows", "columns", "row_weights", "column_weights")
    x: str
    rows: str
    columns: str
    row_weights: str | None = None
    column_weights: str | None = None


@dataclass(frozen=True, kw_only=True)
class DepthToSpace(Node):
    """float32: (C * FH * FW, H, W) -> (C, H * FH - crops, W * FW - crops). The input's channels are in ``groups`` equal parts, each FH * FW
    times the part's output channels: output pixel (i * FH + a, j * FW + b) takes those of number a * FW + b of pixel (i, j)."""

    x: str
    factor: Pair
    groups: int = 1  # C of them is PyTorch's PixelShuffle
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, left, bottom, right, cut off the result


@dataclass(frozen=True, kw_only=True)
class Rearrange(Node):
    """float32: a strided view of x, in PyTorch's logical order (channel slowest). Element (i_1, .., i_k) of ``sizes`` is element
    offset + sum of i_j * strides_j of x as one row; in row-major order these fill y of ``shape``, (C,) or (C, H, W).

    1 to 8 sizes and as many strides, which may be 0 (copies) or negative (flips). Transpositions of tokens and channels, channel
    shuffles, windows, slices of rows and expansions are all such views.
    """

    x: str
    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0


@dataclass(frozen=True, kw_only=True)
class MatMul(Node):
    """float32 values a (K, G, M) and b (N, G, K) -> (N, G, M): y[n, g, m] = sum of a[k, g, m] * b[n, g, k], one fma a step in rising k
    from +0.0. With channels innermost each group g is a row-major product of (M, K) and (K, N)."""

    INPUTS = ("a", "b")
    a: str
    b: str


_ALL = (
    *(Conv, Linear, Quantize, Dequantize, Affine, Add, Mul, Clamp, TwoSlope, Abs, Unary, Softmax),
    *(MaxPool, AvgPool, Mean, Flatten, Concat, PadChannels, Slice, Upsample, DepthToSpace, Rearrange, MatMul),
)
OPS: dict[str, type[Node]] = {op.__name__: op for op in _ALL}


def input_names(node: Node) -> tuple[str, ...]:
    """The values a node reads, in field order."""
    names: list[str] = []
    for field in node.INPUTS:
        value = getattr(node, field)
        names.extend(value if isinstance(value, tuple) else (value,))
    return tuple(names)


def constant_names(node: Node) -> tuple[str, ...]:
    """The constants a node reads, epilogue included."""
    names = [getattr(node, field) for field in node.CONSTANTS]
    epilogue: Epilogue | None = getattr(node, "epilogue", None)
    if epilogue is not None:
        names += [epilogue.mul, epilogue.bias, epilogue.patch_mul, epilogue.weight_mul, epilogue.tap_mul, epilogue.x_offset]
    return tuple(n for n in names if n is not None)


def as_conv(node: Conv | Linear) -> Conv:
    """A Linear is the 1x1 convolution of a 1x1 image."""
    if isinstance(node, Conv):
        return node
    return Conv(name=node.name, output=node.output, x=node.x, weight=node.weight, metric=node.metric, epilogue=node.epilogue)
