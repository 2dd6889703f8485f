"""Which kernel family serves a product of two encodings: a small table of costs and the shapes that kernels refuse.

Small pairs go by popcounts of bit planes, the rest by int8 dot products, in a Linear with weights that stay packed if they have few bits;
int16 is left for codes that do not fit a byte, and on AVX2 for pairs of nearly eight bits, whose sums of two products leave int16.
"""

from dataclasses import dataclass
from typing import TypeAlias

from bitfold import _core
from bitfold.engine.step import byte_base, fits_byte
from bitfold.ir.encoding import Binary, Coded, Element, Float, PowerOfTwo, Ternary, Uniform

# Picoseconds per product of two codes on one core, 3x3 convolutions of 64 to 256 channels: for one pass of bit planes, for int8 by how many
# fours of channels may be summed in int16 (conv_i8.h: 0, one or two, more), and for int16.
# AVX2 and scalar measured on a Zen 3 core; AVX-512 from the rates in docs/design.md; NEON counted (two vector operations a cycle, 2 GHz),
# never timed. Only the ratio of a column matters; channels that do not fill a kernel's unit (a word, a four) cost as if they did.
# PICTURE: int16 by whole rows of taps, 3 channels.
PLANE_PASS = {"scalar": 600.0, "neon": 6.0, "avx2": 3.0, "avx512": 0.55}
INT8 = {
    "scalar": {"none": 5000.0, "few": 5000.0, "many": 5000.0},
    "neon": {"none": 62.0, "few": 62.0, "many": 31.0},
    "avx2": {"none": 16.0, "few": 12.0, "many": 7.0},
    "avx512": {"none": 2.1, "few": 2.1, "many": 2.1},  # VNNI sums in int32
}
# Weights of 1, 2 or 4 bits that stay packed take, in a Linear of one row on AVX2, half the time of int8 where weights are in a near cache
# and a fifth with 4096 x 4096 of them; with many rows the two are about equal (0.6 to 1.3). So the table calls it little less than int8.
PACKED = {"scalar": 5000.0, "neon": 30.0, "avx2": 6.5, "avx512": 2.0}
INT16 = {"scalar": 5000.0, "neon": 125.0, "avx2": 13.0, "avx512": 4.5}
PICTURE = {"scalar": 5000.0, "neon": 125.0, "avx2": 11.0, "avx512": 4.0}
MOST_CHANNELS = 4  # of a picture: with more, conv_i8 and conv_i16 waste little
MOST_PLANES = 4  # of one side, in the vector kernels of conv_planes


# The form in which each family reads activations.
FORMS = {
    "conv_b1": "bits",
    "conv_planes": "bits",
    "conv_i8": "u8",
    "conv_u8": "u8",
    "conv_i16": "i16",
    "conv_f32": "f32",
    "dense_packed": "u8",
    "adder_u8": "u8",
}


@dataclass(frozen=True)
class Choice:
    """A kernel family, the form in which it reads activations, and why it was taken."""

    family: str
    reason: str

    @property
    def form(self) -> str:
        return FORMS[self.family]


@dataclass(frozen=True)
class Shape:
    """What the vector kernels look at when they refuse a shape."""

    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    groups: int
    linear: bool = False
    dilated: bool = False  # along rows


DISTANCE = Choice("adder_u8", "L1 distance of codes")  # of every pair of encodings that inference allows


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
        return Choice("conv_f32", "float activations")
    if isinstance(x, Binary) and isinstance(weight, Binary):
        return Choice("conv_b1", "binary x binary")
    assert isinstance(x, Coded) and isinstance(weight, Coded)  # inference allows nothing else
    costs = _costs(x, weight, shape)
    family = min(costs, key=lambda name: costs[name][0])
    return Choice(family, "; ".join(f"{what}: about {cost:g} ps a product" for cost, what in costs.values()))


def serving(x: Element, weight: Element, shape: Shape) -> list[str]:
    """Every family that serves the pair, which ``BITFOLD_KERNEL`` may choose from."""
    if isinstance(x, Float):
        return ["conv_f32"]
    assert isinstance(x, Coded) and isinstance(weight, Coded)
    return ["conv_b1"] * (isinstance(x, Binary) and isinstance(weight, Binary)) + list(_costs(x, weight, shape))


def _costs(x: Coded, weight: Coded, shape: Shape) -> "Cost":
    costs = _plane_cost(x, weight, shape) | _int8_cost(x, weight, shape) | _packed_cost(x, weight, shape)
    return costs | _picture_cost(x, shape) | _int16_cost(shape)


Cost: TypeAlias = dict[str, tuple[float, str]]  # family -> (picoseconds a product, in words); empty where it does not serve the pair


def _plane_cost(x: Coded, weight: Coded, shape: Shape) -> Cost:
    if isinstance(x, PowerOfTwo) or isinstance(weight, PowerOfTwo) or max(x.planes, weight.planes) > MOST_PLANES:
        return {}
    isa = _isa("conv_planes", x.planes, shape)
    cost = (
        plane_passes(x, weight, isa)
        * PLANE_PASS[isa]
        * _whole(shape.in_channels, shape.groups, 32)
        * _whole(shape.out_channels, shape.groups, 32)
    )
    return {"conv_planes": (cost, f"{x.planes} x {weight.planes} bit planes ({isa})")}


def plane_passes(x: Coded, weight: Coded, isa: str) -> float:
    """What a pair of encodings costs in passes over one pair of planes. Ternary weights take one or two passes with vector popcounts, on
    NEON a third more each; AVX2 looks up two planes of activations at once, so that only the planes of the weights count fully."""
    if isa == "avx2":
        return (x.planes + 1) // 2 * weight.planes
    if isa != "scalar" and isinstance(weight, Ternary) and isinstance(x, Binary | Ternary):
        return (4 / 3 if isa == "neon" else 1) * x.planes
    return x.planes * weight.planes


def _int8_cost(x: Coded, weight: Coded, shape: Shape) -> Cost:
    if not fits_byte(x) or weight.min_code < -128 or weight.max_code > 127:
        return {}
    isa, steps = _isa("conv_i8", 0, shape), short_steps(x, weight)
    cost = INT8[isa]["many" if steps > 2 else "few" if steps else "none"] * _whole(shape.in_channels, shape.groups, 4)
    return {"conv_i8": (cost, f"int8 ({isa})")}


def _picture_cost(x: Coded, shape: Shape) -> Cost:
    if not fits_byte(x) or byte_base(x) != 0 or shape.in_channels > MOST_CHANNELS or shape.groups > 1 or shape.dilated:
        return {}
    isa = _isa("conv_u8", 0, shape)
    return {"conv_u8": (PICTURE[isa], f"int16 by rows of taps ({isa})")}


def _whole(channels: int, groups: int, unit: int) -> float:
    """How much more is computed because a kernel takes channels of a group by the unit."""
    each = channels // groups
    return (each + unit - 1) // unit * unit / each


def _packed_cost(x: Coded, weight: Coded, shape: Shape) -> Cost:
    if not shape.linear or not fits_byte(x) or not packable(weight):
        return {}
    isa = _isa("dense_packed", 0, shape)
    return {"dense_packed": (PACKED[isa] * _whole(shape.in_channels, 1, 4), f"packed weights x bytes ({isa})")}


def packable(weight: Coded) -> bool:
    """Whether codes fit fields of at most four bits, as dense_packed holds them."""
    return weight.planes <= (3 if isinstance(weight, PowerOfTwo) else 4)


def short_steps(x: Coded, weight: Coded) -> int:
    """How many sums of two products fit int16, whatever the codes; the kernels use the bound of the weights at hand, which is no lower."""
    return 32767 // (2 * (x.max_code - byte_base(x)) * max(-weight.min_code, weight.max_code))


def _int16_cost(shape: Shape) -> Cost:
    isa = _isa("conv_i16", 0, shape)
    return {"conv_i16": (INT16[isa], f"int16 ({isa})")}


def _isa(family: str, planes: int, shape: Shape) -> str:
    words = (shape.in_channels + 31) // 32
    stride = planes * words if planes else (shape.in_channels + 15) // 16 * 16
    _, isa, _ = _core.conv_kernel_for(family, shape.in_channels, shape.out_channels, shape.kernel, shape.groups, stride)
    return str(isa)
