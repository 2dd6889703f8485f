"""Codes <-> stored bit planes. ``docs/format.md`` specifies the layout with worked examples.

A code is written as a field of ``encoding.planes`` bits; plane 0 holds every field's most significant bit. Inside a plane the
input-channel axis is last, eight channels a byte, least significant bit first; padding bits are 0.

    field    Binary: 1 for -1, 0 for +1     Ternary, PowerOfTwo: sign bit, then 0 for zero, else exponent - min_exp + 1
             Uniform: code - min_code
"""

from functools import lru_cache

import numpy as np

from bitfold.errors import GraphError
from bitfold.ir.encoding import Binary, Coded, Ternary, Uniform
from bitfold.ir.graph import TensorType

_BLOCK = 1 << 20  # bytes of a plane that are checked at once
_NO_CODE = 1 << 20  # marks fields of PowerOfTwo above the largest exponent


def packed_shape(shape: tuple[int, ...], encoding: Coded) -> tuple[int, ...]:
    """(O, I, KH, KW) -> (planes, O, KH, KW, bytes); (O, I) -> (planes, O, bytes); (C,) -> (planes, bytes)."""
    axis = _channel_axis(len(shape))
    rest = shape[:axis] + shape[axis + 1 :]
    return (encoding.planes, *rest, (shape[axis] + 7) // 8)


def pack(codes: np.ndarray, encoding: Coded) -> np.ndarray:
    """Bit planes (uint8) of integer codes of shape (O, I, KH, KW), (O, I) or (C,). GraphError for codes outside the alphabet."""
    axis = _channel_axis(codes.ndim)
    if not np.issubdtype(codes.dtype, np.integer):
        raise GraphError(f"pack: codes have dtype {codes.dtype}; allowed: integer dtypes")
    low, high = encoding.min_code, encoding.max_code
    field_of = _field_table(encoding)
    inside = (codes >= low) & (codes <= high)
    fields = field_of[np.where(inside, codes, low).astype(np.int32) - low]
    wrong = ~inside | (fields < 0)
    if wrong.any():
        raise GraphError(f"pack: code {codes[wrong].flat[0]} is not in {_alphabet_text(encoding)}")
    fields = np.ascontiguousarray(np.moveaxis(fields, axis, -1), dtype=np.uint8 if encoding.planes <= 8 else np.uint16)
    return np.stack([np.packbits((fields >> bit) & 1, axis=-1, bitorder="little") for bit in reversed(range(encoding.planes))])


def unpack(data: np.ndarray, tensor: TensorType) -> np.ndarray:
    """Codes (int16) of ``tensor.shape`` from its bit planes; a view with channels last in memory. GraphError for fields without code."""
    encoding: Coded = tensor.element  # type: ignore[assignment]
    axis = _channel_axis(len(tensor.shape))
    bits = np.unpackbits(data, axis=-1, count=tensor.shape[axis], bitorder="little")
    fields = bits[0] if encoding.planes <= 8 else bits[0].astype(np.uint16)
    for plane in bits[1:]:
        fields = (fields << 1) | plane
    decode = _decode_table(encoding)
    if (decode == _NO_CODE).any() and (decode[fields] == _NO_CODE).any():
        raise GraphError(f"unpack: a field has no code in {_alphabet_text(encoding)}")
    return np.moveaxis(np.take(decode.astype(np.int16), fields), -1, axis)


def check_packed(data: np.ndarray, tensor: TensorType) -> None:
    """Refuses non-zero padding bits and fields without a code, without unpacking. ``data`` has the right dtype and shape. GraphError."""
    encoding: Coded = tensor.element  # type: ignore[assignment]
    used = tensor.shape[_channel_axis(len(tensor.shape))] % 8
    if used and (data[..., -1] >> used).any():
        raise GraphError("padding bits are not 0")
    fields = np.flatnonzero(_decode_table(encoding) == _NO_CODE)
    if fields.size:
        planes = data[1:].reshape(len(data) - 1, -1)
        for first in range(0, planes.shape[1], _BLOCK):
            if _exceeds(planes[:, first : first + _BLOCK], int(fields[0]) - 1).any():
                raise GraphError(f"a field has no code in {_alphabet_text(encoding)}")


def _exceeds(planes: np.ndarray, limit: int) -> np.ndarray:
    """Bit mask of the fields (planes, most significant first) that are greater than ``limit``."""
    greater = np.zeros_like(planes[0])
    equal = np.full_like(planes[0], 0xFF)
    for bit, plane in zip(reversed(range(len(planes))), planes, strict=True):
        if limit >> bit & 1:
            equal = equal & plane
        else:
            greater = greater | (equal & plane)
            equal = equal & ~plane
    return greater


@lru_cache(maxsize=64)
def _field_table(encoding: Coded) -> np.ndarray:
    """Field of every code from min_code to max_code; -1 where there is none."""
    decode = _decode_table(encoding)
    field_of = np.full(encoding.max_code - encoding.min_code + 1, -1, dtype=np.int32)
    known = np.flatnonzero(decode != _NO_CODE)[::-1]  # descending, so that the smallest field of a code (not "negative zero") stays
    field_of[decode[known] - encoding.min_code] = known
    return field_of


def _decode_table(encoding: Coded) -> np.ndarray:
    """Code of every field, 0 .. 2^planes - 1; _NO_CODE where there is none."""
    if isinstance(encoding, Binary):
        return np.array([1, -1])
    if isinstance(encoding, Uniform):
        return np.arange(encoding.min_code, encoding.max_code + 1)
    exponents = [0] if isinstance(encoding, Ternary) else range(encoding.min_exp, encoding.max_exp + 1)
    half = np.full(1 << (encoding.planes - 1), _NO_CODE)
    half[: len(exponents) + 1] = [0, *(1 << p for p in exponents)]
    return np.concatenate([half, np.where(half == _NO_CODE, half, -half)])


def _alphabet_text(encoding: Coded) -> str:
    return f"the alphabet of {type(encoding).__name__} ({encoding.min_code} to {encoding.max_code}, {encoding.planes} bits)"


def _channel_axis(rank: int) -> int:
    if rank not in (1, 2, 4):
        raise GraphError(f"packed tensors have rank 1, 2 or 4, got {rank}")
    return 0 if rank == 1 else 1
