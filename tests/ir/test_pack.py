import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitfold.errors import GraphError
from bitfold.ir.encoding import Binary, Coded, PowerOfTwo, Ternary, Uniform
from bitfold.ir.graph import TensorType
from bitfold.ir.pack import check_packed, pack, packed_shape, unpack

ENCODINGS: list[Coded] = [
    *(Binary(), Ternary(), PowerOfTwo(0), PowerOfTwo(2), PowerOfTwo(3), PowerOfTwo(14, 12), PowerOfTwo(14)),
    *(Uniform(b, s) for b in (1, 2, 3, 8, 9, 15) for s in (False, True)),
    Uniform(16, True),
]


@pytest.mark.parametrize(
    ("codes", "encoding", "planes"),
    [
        ([1, -1, 1, 1, -1], Binary(), [[0b10010]]),
        ([-1] * 9, Binary(), [[0xFF, 1]]),
        ([0, 1, -1], Ternary(), [[0b100], [0b110]]),
        ([0, 1, 2, 4, -4], PowerOfTwo(2), [[0b10000], [0b11100], [0b11010]]),
        ([0, 1, 2, 3], Uniform(2, False), [[0b1100], [0b1010]]),
        ([-2, -1, 0, 1], Uniform(2, True), [[0b1100], [0b1010]]),
    ],
)
def test_bytes(codes, encoding, planes):
    assert pack(np.array(codes), encoding).tolist() == planes


@pytest.mark.parametrize(
    ("codes", "encoding", "text"),
    [
        ([1, -1, -1, 1, 1, 1, 1, 1, 1, -1], Binary(), "06 02"),
        ([0, 1, -1, -1, 1], Ternary(), "0c 1e"),
        ([0, 1, -1, 2, -4, 8], PowerOfTwo(3), "14 20 18 16"),
        ([0, 1, 2, 3, 2], Uniform(2, False), "1c 0a"),
        ([-4, -1, 0, 3, 2], Uniform(3, True), "1c 1a 0a"),
    ],
)
def test_examples_of_the_format_page(codes, encoding, text):
    assert pack(np.array(codes), encoding).tobytes() == bytes.fromhex(text)


@given(st.sampled_from(ENCODINGS), st.sampled_from([1, 2, 4]), st.integers(0, 2**32 - 1), st.data())
def test_pack_then_unpack_is_the_identity(encoding, rank, seed, data):
    shape = tuple(data.draw(st.integers(1, 20)) for _ in range(rank))
    codes = np.random.default_rng(seed).choice(encoding.alphabet(), shape)
    packed = pack(codes, encoding)
    tensor = TensorType(shape, encoding)
    assert packed.dtype == np.uint8 and packed.shape == packed_shape(shape, encoding)
    check_packed(packed, tensor)
    unpacked = unpack(packed, tensor)
    assert unpacked.dtype == np.int16
    np.testing.assert_array_equal(unpacked, codes)


def test_channels_are_last_and_planes_first():
    codes = np.ones((2, 3, 1, 2), np.int8)
    codes[1, 2, 0, 1] = -1
    packed = pack(codes, Binary())
    assert packed.shape == (1, 2, 1, 2, 1)
    assert packed[0, 1, 0, 1, 0] == 0b100 and packed.sum() == 4


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_codes_outside_the_alphabet_are_refused(encoding):
    for code in (encoding.min_code - 1, encoding.max_code + 1, *([3] if isinstance(encoding, PowerOfTwo) and encoding.max_exp > 1 else [])):
        with pytest.raises(GraphError, match=str(code)):
            pack(np.array([encoding.max_code, code], np.int64), encoding)
    with pytest.raises(GraphError, match="0"):
        pack(np.array([0]), Binary())
    with pytest.raises(GraphError, match="dtype"):
        pack(np.array([1.0]), encoding)


def test_negative_zero_decodes_to_zero():
    for encoding in (Ternary(), PowerOfTwo(2)):
        data = np.zeros((encoding.planes, 1), np.uint8)
        data[0] = 1
        assert unpack(data, TensorType((1,), encoding)).tolist() == [0]


@pytest.mark.parametrize("channels", [1, 7, 9])
def test_padding_bits_must_be_zero(channels):
    tensor = TensorType((channels,), Binary())
    data = pack(np.ones(channels, np.int8), Binary())
    data[..., -1] |= 0x80
    with pytest.raises(GraphError, match="padding"):
        check_packed(data, tensor)


@pytest.mark.parametrize("encoding", [PowerOfTwo(0), PowerOfTwo(1), PowerOfTwo(3), PowerOfTwo(4), PowerOfTwo(14), PowerOfTwo(2)])
def test_fields_above_the_largest_exponent_are_refused(encoding):
    limit = encoding.max_exp + 1
    for field in range(1 << (encoding.planes - 1)):
        bits = [field >> b & 1 for b in reversed(range(encoding.planes - 1))]
        data = np.array([[1], *([b] for b in bits)], np.uint8)
        tensor = TensorType((1,), encoding)
        if field <= limit:
            check_packed(data, tensor)
            assert unpack(data, tensor)[0] == (-(1 << (field - 1)) if field else 0)
        else:
            for refuse in (check_packed, unpack):
                with pytest.raises(GraphError, match="no code"):
                    refuse(data, tensor)
