"""A plan before memory is assigned: buffers (value, form) and the steps that read and write them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from bitfold.ir.encoding import Accumulator, Binary, Coded, Element, Float, Ternary, Uniform
from bitfold.ir.graph import TensorType

LANES = 16  # channel strides are rounded up to whole blocks of the kernels


class Slot(NamedTuple):  # a tuple: it is the key of every table of a plan
    """One form in which a value is held: f32, i32, i16 (codes), u8 (codes in bytes: see ``byte_base``), bits (packed
    codes) or sums (a conv's patch sums)."""

    value: str
    form: str


@dataclass(frozen=True)
class Buffer:
    """Where one image of a slot has its pixels: (h, w, c), elements from pixel to pixel, and the bit planes if packed. With a ``root`` it
    has no memory of its own: it is the channels from ``at`` on of that slot, whose stride it has."""

    kind: str
    hwc: tuple[int, int, int]
    stride: int
    planes: int = 1
    planes_of: str = "binary"
    min_code: int = 0
    root: Slot | None = None
    at: int = 0

    @property
    def image_bytes(self) -> int:
        """From one image to the next."""
        return self.hwc[0] * self.hwc[1] * self.stride * self.element_bytes

    @property
    def moved_bytes(self) -> int:
        """Of one image, when all of it is read or written."""
        stride = self.stride if self.root is None else rounded(self.hwc[2])
        return self.hwc[0] * self.hwc[1] * stride * self.element_bytes

    @property
    def element_bytes(self) -> int:
        return {"u8": 1, "i16": 2}.get(self.kind, 4)


Ids: TypeAlias = Mapping[Slot, int]
Names: TypeAlias = tuple[str, str, str]  # kernel, ISA, why no better kernel


@dataclass(frozen=True)
class Step:
    """One native step. ``in_place``: reads whose memory the first write may take when nothing reads them later."""

    layer: str
    op: str
    reads: tuple[Slot, ...]
    writes: tuple[Slot, ...]
    emit: Callable[[Any, Ids], Names]  # (native plan, ids of the slots)
    in_place: tuple[Slot, ...] = ()
    reason: str = ""  # why this kernel family
    macs: int = 0  # products per image
    weight_bytes: int = 0


def rounded(channels: int) -> int:
    return (channels + LANES - 1) // LANES * LANES


def hwc(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(C,) or (C, H, W) -> (H, W, C)."""
    return (1, 1, shape[0]) if len(shape) == 1 else (shape[1], shape[2], shape[0])


def buffer(tensor: TensorType, form: str, *, dense: bool = False) -> Buffer:
    """The memory of a value in a form; ``dense``: no padding channels (pictures that only a convolution reads)."""
    size = hwc(tensor.shape)
    if form == "bits":
        element = tensor.element
        assert isinstance(element, Binary | Ternary | Uniform)
        kind = "binary" if isinstance(element, Binary) else "ternary" if isinstance(element, Ternary) else "uniform"
        words = (size[2] + 31) // 32
        return Buffer("bits", size, element.planes * words, element.planes, kind, element.min_code if kind == "uniform" else 0)
    least = byte_base(tensor.element) if form == "u8" else 0
    return Buffer(form, size, size[2] if dense else rounded(size[2]), min_code=least)


def byte_base(element: Element) -> int:
    """What a code is more than the byte that holds it: the least code, or 0."""
    assert isinstance(element, Coded)
    return min(0, element.min_code)


def fits_byte(element: Element) -> bool:
    """Whether codes can be held in the form u8."""
    return isinstance(element, Coded) and element.min_code >= -128 and element.max_code - byte_base(element) <= 255


def natural_form(tensor: TensorType) -> str:
    """The form in which operations that only move values hold them."""
    match tensor.element:
        case Float():
            return "f32"
        case Accumulator():
            return "i32"
        case Binary():
            return "bits"
        case element:
            return "u8" if fits_byte(element) else "i16"
