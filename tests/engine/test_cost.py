"""The table that decides which kernels serve a pair of encodings, for every ISA whatever this CPU has."""

from dataclasses import replace

import pytest

from bitfold.engine import cost
from bitfold.engine.cost import Shape, choose, plane_passes, short_steps
from bitfold.ir.encoding import Binary, Coded, PowerOfTwo, Ternary, Uniform

SHAPE = Shape(64, 64, (3, 3), 1)
U4, S4, U8, S8 = Uniform(4, False), Uniform(4, True), Uniform(8, False), Uniform(8, True)


@pytest.mark.parametrize(
    ("x", "weight", "avx2", "avx512", "neon"),
    [
        (Uniform(2, False), Binary(), "conv_planes", "conv_planes", "conv_planes"),
        (Uniform(2, False), Uniform(2, True), "conv_planes", "conv_i8", "conv_planes"),
        (Uniform(2, False), Uniform(3, True), "conv_i8", "conv_i8", "conv_i8"),
        (Binary(), Ternary(), "conv_planes", "conv_planes", "conv_planes"),
        (Ternary(), Ternary(), "conv_planes", "conv_planes", "conv_planes"),
        (U4, S4, "conv_i8", "conv_i8", "conv_i8"),
        (U4, PowerOfTwo(2), "conv_i8", "conv_i8", "conv_i8"),
        (PowerOfTwo(6), PowerOfTwo(2), "conv_i8", "conv_i8", "conv_i8"),
        (Binary(), U4, "conv_i8", "conv_i8", "conv_planes"),
        (U8, Uniform(7, True), "conv_i8", "conv_i8", "conv_i8"),
        (U8, S8, "conv_i16", "conv_i8", "conv_i8"),
        (S8, Ternary(), "conv_i8", "conv_i8", "conv_i8"),
        (U4, U8, "conv_i16", "conv_i16", "conv_i16"),  # weights up to 255
        (PowerOfTwo(7), S4, "conv_i16", "conv_i16", "conv_i16"),  # -128 to 128
        (Uniform(9, True), S4, "conv_i16", "conv_i16", "conv_i16"),
    ],
    ids=str,
)
def test_the_table(monkeypatch: pytest.MonkeyPatch, x: Coded, weight: Coded, avx2: str, avx512: str, neon: str) -> None:
    for isa, family in (("avx2", avx2), ("avx512", avx512), ("neon", neon)):
        monkeypatch.setattr(cost, "_isa", lambda *_, isa=isa: isa)
        choice = choose(x, weight, SHAPE)
        assert (choice.family, choice.form) == (family, cost.FORMS[family]), isa
        assert "ps a product" in choice.reason


@pytest.mark.parametrize(
    ("x", "weight", "family"),
    [
        (S8, Ternary(), "dense_packed"),
        (U8, Binary(), "dense_packed"),
        (U4, S4, "dense_packed"),
        (S8, PowerOfTwo(2), "dense_packed"),
        (S8, PowerOfTwo(3), "conv_i8"),  # 17 codes
        (S8, Uniform(5, True), "conv_i8"),
        (Binary(), Ternary(), "conv_planes"),
        (Uniform(9, True), Ternary(), "conv_i16"),
    ],
    ids=str,
)
def test_linear_layers(monkeypatch: pytest.MonkeyPatch, x: Coded, weight: Coded, family: str) -> None:
    for isa in ("avx2", "avx512", "neon"):
        monkeypatch.setattr(cost, "_isa", lambda *_, isa=isa: isa)
        assert choose(x, weight, Shape(64, 64, (1, 1), 1, linear=True)).family == family, isa


def test_pictures_go_by_rows_of_taps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of three channels: the integer stem. VNNI is faster still where the weights have 8 bits."""
    picture = Shape(3, 64, (7, 7), 1)
    for isa in ("avx2", "avx512", "neon"):
        monkeypatch.setattr(cost, "_isa", lambda *_, isa=isa: isa)
        assert choose(U8, Uniform(16, True), picture).family == "conv_u8"
        assert choose(U8, S8, picture).family == ("conv_u8" if isa == "avx2" else "conv_i8")
        assert choose(U8, Uniform(16, True), SHAPE).family == "conv_i16"
        assert choose(U8, Uniform(16, True), replace(picture, dilated=True)).family == "conv_i16"


def test_steps_that_fit_int16() -> None:
    """2 * steps * 15 * 8 <= 32767: 136 is the last; two products of 255 and -128 do not fit at all, of 255 and -64 just do."""
    assert short_steps(U4, S4) == 136
    assert short_steps(S4, S4) == 136  # bytes 0 to 15
    assert short_steps(U8, S8) == 0
    assert short_steps(U8, Uniform(7, True)) == 1
    assert short_steps(Binary(), Binary()) == 8191


def test_passes_of_bit_planes() -> None:
    """Ternary weights in one pass for each plane of binary or ternary activations; on AVX2 two planes of activations in one."""
    binary, ternary, two, four = Binary(), Ternary(), Uniform(2, False), Uniform(4, False)
    assert [plane_passes(x, ternary, "avx512") for x in (binary, ternary, two)] == [1, 2, 4]
    assert [plane_passes(x, two, "avx512") for x in (binary, ternary, two)] == [2, 4, 4]
    assert [plane_passes(x, binary, "avx2") for x in (binary, ternary, two, four)] == [1, 1, 1, 2]
    assert [plane_passes(x, ternary, "avx2") for x in (binary, ternary, two, four)] == [2, 2, 2, 4]
    assert plane_passes(ternary, ternary, "scalar") == 4
