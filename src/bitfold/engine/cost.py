"""Which kernel family serves a product of two encodings: a small table of costs and the shapes that kernels refuse."""

from dataclasses import dataclass

from bitfold import _core
from bitfold.ir.encoding import Binary, Coded, Element, Float, PowerOfTwo, Ternary, Uniform

# Picoseconds per product of two codes on one core, 3x3 convolutions of 64 to 256 channels: for one pair of bit planes, and for int16.
# AVX2 and scalar measured on a Zen 3 core; AVX-512 from the rates in docs/design.md; NEON counted (two vector operations a cycle, 2 GHz),
# never timed. Only the ratio of a column matters.
PLANE_PAIR = {"scalar": 600.0, "neon": 6.0, "avx2": 3.0, "avx512": 0.55}
INT16 = {"scalar": 5000.0, "neon": 125.0, "avx2": 13.0, "avx512": 4.5}
MOST_PLANES = 4  # of one side, in the vector kernels of conv_planes


@dataclass(frozen=True)
class Choice:
    """A kernel family, the form in which it reads activations, and why it was taken."""

    family: str  # conv_b1 | conv_planes | conv_i16 | conv_f32
    form: str  # bits | i16 | f32
    reason: str


@dataclass(frozen=True)
class Shape:
    """What the vector kernels look at when they refuse a shape."""

    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    groups: int


def code_format(encoding: Coded) -> tuple[str, int, bool, int]:
    """(kind, bits, signed, min_exp) as the native core names an encoding."""
    match encoding:
        case Binary():
            return ("binary", 1, False, 0)
        case Ternary():
            return ("ternary", 1, False, 0)
        case PowerOfTwo():
            return ("power_of_two", encoding.planes - 1, False, encoding.min_exp)
        case Uniform():
            return ("uniform", encoding.bits, encoding.signed, 0)


def choose(x: Element, weight: Element, shape: Shape) -> Choice:
    """The cheapest family for activations ``x`` and weights ``weight``; both have codes, or x is Float."""
    if isinstance(x, Float):
        return Choice("conv_f32", "f32", "float activations")
    if isinstance(x, Binary) and isinstance(weight, Binary):
        return Choice("conv_b1", "bits", "binary x binary")
    assert isinstance(x, Coded) and isinstance(weight, Coded)  # inference allows nothing else
    if isinstance(x, PowerOfTwo) or isinstance(weight, PowerOfTwo):
        return Choice("conv_i16", "i16", "power-of-two codes are no sum of bit planes")
    if max(x.planes, weight.planes) > MOST_PLANES:
        return Choice("conv_i16", "i16", f"{x.planes} x {weight.planes} bit planes; conv_planes takes {MOST_PLANES} at most")
    pairs = x.planes * weight.planes
    planes_isa, int16_isa = _isa("conv_planes", x.planes, shape), _isa("conv_i16", 0, shape)
    planes, int16 = pairs * PLANE_PAIR[planes_isa], INT16[int16_isa]
    reason = f"{x.planes} x {weight.planes} bit planes ({planes_isa}): about {planes:g} ps a product; int16 ({int16_isa}): {int16:g} ps"
    return Choice("conv_planes", "bits", reason) if planes <= int16 else Choice("conv_i16", "i16", reason)


def _isa(family: str, planes: int, shape: Shape) -> str:
    words = (shape.in_channels + 31) // 32
    stride = planes * words if planes else (shape.in_channels + 15) // 16 * 16
    _, isa, _ = _core.conv_kernel_for(family, shape.in_channels, shape.out_channels, shape.kernel, shape.groups, stride)
    return str(isa)
