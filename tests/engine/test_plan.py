"""A plan that is wrong in any way is refused before a kernel sees it."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

from bitfold import _core

F32 = np.float32


def new_plan(arena: int = 1 << 16, **options: Any) -> Any:
    return _core.Plan(options.get("threads", 1), options.get("chunk", 1), arena)


def two_values(kind: str = "f32", hwc: tuple[int, int, int] = (4, 4, 16)) -> tuple[Any, int, int]:
    """A plan with an input and a value of one shape behind it."""
    plan = new_plan()
    bits = kind == "bits"
    stride = (hwc[2] + 31) // 32 if bits else hwc[2]
    x, y = (plan.value(kind, hwc, stride, offset) for offset in (0, 1 << 13))
    if not bits:
        plan.input(x, kind)
    return plan, x, y


def conv(plan: Any, x: int, y: int, **changes: Any) -> Any:
    """A valid 3x3 float convolution 16 -> 16, changed."""
    arguments: dict[str, Any] = {
        "weights": np.zeros(16 * 16 * 9, F32),
        "weight_shape": (16, 16, 3, 3),
        "weight_format": None,
        "x_format": None,
        "stride": (1, 1),
        "padding": (1, 1),
        "dilation": (1, 1),
        "groups": 1,
        "out_f32": y,
    }
    return plan.conv(changes.pop("family", "conv_f32"), x, **(arguments | changes))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("f32", (0, 4, 16), 16, 0), "dimension of 0"),
        (("f32", (4, 4, 1 << 25), 1 << 25, 0), "dimension of"),
        (("f32", (1 << 15, 1 << 16, 1), 1, 0), "2\\^30 pixels"),
        (("f32", (4, 4, 16), 8, 0), "stride is less"),
        (("f32", (4, 4, 16), 16, 32), "multiple of 64"),
        (("f32", (64, 64, 16), 16, 0), "of an arena of"),
        (("f32", (4, 4, 16), 16, 1 << 16), "of an arena of"),
        (("f32", (4, 4, 16), 16, (1 << 64) - 64), "of an arena of"),
        (("bits", (4, 4, 33), 1, 0), "planes \\* words"),
        (("bits", (4, 4, 32), 3, 0, 3, "ternary"), "do not fit"),
        (("bits", (4, 4, 32), 17, 0, 17, "uniform"), "do not fit"),
        (("f32", (4, 4, 16), 16, 0, 2), "only packed codes"),
        (("f64", (4, 4, 16), 16, 0), "unknown kind"),
    ],
)
def test_values(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        new_plan().value(*arguments)


@pytest.mark.parametrize("options", [{"threads": 0}, {"threads": 5000}, {"chunk": 0}, {"chunk": 1 << 20}, {"arena": 1 << 50}])
def test_options(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="allowed"):
        new_plan(**options)


def upsample(plan: Any, x: int, y: int, **changes: Any) -> Any:
    """The image itself, changed."""
    same = np.arange(4, dtype=np.int32)
    arguments: dict[str, Any] = {"rows": same, "columns": same, "row_weights": None, "column_weights": None}
    return plan.upsample(x, y, **(arguments | changes))


REFUSED: dict[str, Callable[[Any, int, int], Any]] = {
    "no value": lambda p, x, y: p.unary("abs", 7, y),
    "no value (negative)": lambda p, x, y: p.unary("abs", -1, y),
    "read before it is written": lambda p, x, y: p.unary("abs", y, x),
    "unknown operation": lambda p, x, y: p.unary("cbrt", x, y),
    "reads position 4": lambda p, x, y: upsample(p, x, y, rows=np.array([0, 1, 2, 4], np.int32)),
    "reads position -2": lambda p, x, y: upsample(p, x, y, columns=np.array([0, 1, 2, -2], np.int32)),
    "reads position -1; allowed: 0 to 3": lambda p, x, y: upsample(
        p, x, y, columns=np.array([0, 1, 2, -1], np.int32), row_weights=np.zeros(4, F32), column_weights=np.zeros(4, F32)
    ),
    "rows: 3 entries; allowed: 4": lambda p, x, y: upsample(p, x, y, rows=np.zeros(3, np.int32)),
    "of neither": lambda p, x, y: upsample(p, x, y, row_weights=np.zeros(4, F32)),
    "columns: 3 weights": lambda p, x, y: upsample(p, x, y, row_weights=np.zeros(4, F32), column_weights=np.zeros(3, F32)),
    "type and channel count": lambda p, x, y: upsample(p, x, p.value("f32", (4, 4, 8), 16, 1 << 14)),
    "factor times": lambda p, x, y: p.depth_to_space(x, y, (2, 2), 1, (0, 0, 0, 0)),
    "groups do not divide": lambda p, x, y: p.depth_to_space(x, p.value("f32", (8, 8, 4), 16, 1 << 14), (2, 2), 3, (0, 0, 0, 0)),
    "size does not follow": lambda p, x, y: p.depth_to_space(x, p.value("f32", (8, 8, 4), 16, 1 << 14), (2, 2), 1, (1, 0, 0, 0)),
    "crop out of range": lambda p, x, y: p.depth_to_space(x, p.value("f32", (9, 8, 4), 16, 1 << 14), (2, 2), 1, (-1, 0, 0, 0)),
    "runs of 3 do not divide 16": lambda p, x, y: rearrange(p, x, y, run=3),
    "runs of 0": lambda p, x, y: rearrange(p, x, y, run=0),
    "runs of -4": lambda p, x, y: rearrange(p, x, y, run=-4),
    "runs of 32 do not divide 16": lambda p, x, y: rearrange(p, x, y, run=32),
    "longer than a pixel": lambda p, x, y: rearrange(p, x, p.value("f32", (4, 4, 32), 32, 1 << 14), table=np.zeros(16, np.int32), run=32),
    "a table of 15 entries; allowed: 16": lambda p, x, y: rearrange(p, x, y, table=np.zeros(15, np.int32)),
    "a table of 16 entries; allowed: 256": lambda p, x, y: rearrange(p, x, y, run=1),
    "a run at position -1 is not": lambda p, x, y: rearrange(p, x, y, table=np.full(16, -1, np.int32)),
    "a run at position 256 is not": lambda p, x, y: rearrange(p, x, y, table=np.full(16, 256, np.int32)),
    "a run at position 255 is not": lambda p, x, y: rearrange(p, x, y, table=np.full(16, 255, np.int32)),
    "a run at position 9 is not": lambda p, x, y: rearrange(p, x, y, table=np.full(32, 9, np.int32), run=8, across=True),
    "Rearrange: needs f32 values": lambda p, x, y: rearrange(p, x, p.value("i32", (4, 4, 16), 16, 1 << 14)),
    "Rearrange: output and input overlap": lambda p, x, y: rearrange(p, x, p.value("f32", (4, 4, 16), 16, 64)),
    "Rearrange: value 1 is read before": lambda p, x, y: rearrange(p, y, x),
    "MatMul: needs f32 values": lambda p, x, y: p.matmul(x, second(p), p.value("i32", (4, 4, 16), 16, 1 << 14)),
    "(g, m, k), (g, k, n) and (g, m, n)": lambda p, x, y: p.matmul(x, x, y),
    "needs values (g, m, k)": lambda p, x, y: p.matmul(x, second(p), p.value("f32", (4, 5, 16), 16, 1 << 14)),
    "room for whole blocks": lambda p, x, y: p.matmul(x, second(p, channels=8), p.value("f32", (4, 4, 8), 16, 1 << 14)),
    "without room": lambda p, x, y: p.matmul(x, second(p, channels=8, stride=16), p.value("f32", (4, 4, 8), 8, 1 << 14)),
    "MatMul: output and input overlap": lambda p, x, y: p.matmul(x, second(p), p.value("f32", (4, 4, 16), 16, 64)),
    "overlap": lambda p, x, y: p.mean("channels", x, p.value("f32", (4, 4, 1), 16, 64)),
    "needs f32 values": lambda p, x, y: p.clamp(x, p.value("i32", (4, 4, 16), 16, 1 << 14), 0, 1),
    "of one shape": lambda p, x, y: p.unary("abs", x, p.value("f32", (4, 4, 8), 16, 1 << 14)),
    "per-channel array": lambda p, x, y: p.affine(x, y, np.zeros(15, F32), np.zeros(16, F32)),
    "must have shape": lambda p, x, y: p.arithmetic("add", x, bias(p), y),
    "output's size": lambda p, x, y: p.pool("max", x, y, (2, 2), (1, 1), (0, 0, 0, 0), (1, 1), False),
    "out of range": lambda p, x, y: p.pool("max", x, y, (0, 1), (1, 1), (0, 0, 0, 0), (1, 1), False),
    "outside the image": lambda p, x, y: p.pool("avg", x, y, (3, 3), (8, 8), (27, 27, 1, 1), (1, 1), False),
    "(C, 1, 1) or (1, H, W)": lambda p, x, y: p.mean("space", x, y),
    "one pixel with all channels": lambda p, x, y: p.flatten(x, y),
    "do not sum": lambda p, x, y: p.concat([x, x], y),
    "do not fit the output's": lambda p, x, y: p.pad_channels(x, y, 1),
    "wrong type or number": lambda p, x, y: p.quantize(
        x, p.value("i16", (4, 4, 16), 16, 1 << 14), 2, True, np.zeros(15, F32), None, None, np.array([-1, 1], np.int16)
    ),
    "one code a level": lambda p, x, y: p.quantize(
        x, p.value("i16", (4, 4, 16), 16, 1 << 14), 3, False, np.zeros(2, F32), None, None, np.array([-1, 1], np.int16)
    ),
    "levels do not fit": lambda p, x, y: p.quantize(
        x, p.value("bits", (4, 4, 16), 1, 1 << 14), 3, False, np.zeros(2, F32), None, None, np.array([-1, 0, 1], np.int16)
    ),
    "two forms of codes (i16, u8, bits)": lambda p, x, y: p.convert(x, y),
    "array's type": lambda p, x, y: p.input(y, "i16"),
    "is not finished": lambda p, x, y: _core.Door(p, [(16, 4, 4)], []),
    "needs inputs and outputs": lambda p, x, y: p.finish(),
}


def rearrange(plan: Any, x: int, y: int, **changes: Any) -> Any:
    """The image itself, pixel by pixel, changed."""
    arguments: dict[str, Any] = {"table": np.arange(16, dtype=np.int32) * 16, "run": 16, "across": False}
    return plan.rearrange(x, y, **(arguments | changes))


def second(plan: Any, channels: int = 16, stride: int | None = None) -> int:
    """What x can be multiplied with."""
    value = plan.value("f32", (4, 16, channels), stride or channels, 1 << 15)
    plan.input(value, "f32")
    return int(value)


def bias(plan: Any) -> int:
    vector = plan.value("f32", (1, 1, 8), 16, 1 << 15)
    plan.input(vector, "f32")
    return int(vector)


@pytest.mark.parametrize("message", REFUSED)
def test_steps(message: str) -> None:
    plan, x, y = two_values()
    with pytest.raises(ValueError) as caught:
        REFUSED[message](plan, x, y)
    assert message.split(" (neg")[0] in str(caught.value)


def adder(**changes: Any) -> Any:
    """A valid 3x3 distance 16 -> 16 of 4-bit codes, changed."""
    plan = new_plan()
    min_code = changes.pop("min_code", 0)
    source, x = plan.value("i16", (4, 4, 16), 16, 0), plan.value("u8", (4, 4, 16), 16, 1 << 13, min_code=min_code)
    plan.input(source, "i16")
    plan.convert(source, x)
    width = ("uniform", 4, False, 0)
    arguments = {"weights": np.zeros(4 * 16 * 9 * 2, np.uint8), "weight_format": width, "x_format": width, "family": "adder_u8"}
    return conv(plan, x, plan.value("f32", (4, 4, 16), 16, 1 << 14), **(arguments | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_format": ("power_of_two", 2, False, 0)}, "uniform activations of 1 to 8 bits"),
        ({"x_format": ("uniform", 9, False, 0)}, "uniform activations of 1 to 8 bits"),
        ({"x_format": ("uniform", 4, True, 0)}, "does not fit their bytes"),
        ({"min_code": -8}, "does not fit their bytes"),
        ({"min_code": -129}, "min_code is not a code"),
        ({"x_zero": 16}, "zero point is not a code"),
        ({"x_zero": -1}, "zero point is not a code"),
        ({"weight_format": ("ternary", 1, False, 0)}, "needs uniform weights"),
        ({"weights": np.zeros(16 * 16 * 9, F32), "weight_format": None}, "needs uniform weights"),
        ({"weights": np.zeros(100, np.uint8)}, "weights have 100 elements"),
        ({"patch_sums": 0}, "no patch sums"),
        ({"family": "conv_i16"}, "does not read"),
    ],
)
def test_distances(changes: dict[str, Any], message: str) -> None:
    assert adder()[0].startswith("adder_u8")  # valid as it stands
    with pytest.raises(ValueError, match=message):
        adder(**changes)


def test_distances_beyond_int32() -> None:
    plan = new_plan(1 << 26)
    channels = 1 << 20
    source, x, y = (
        plan.value(kind, (1, 1, c), c, at) for kind, c, at in (("i16", channels, 0), ("u8", channels, 1 << 23), ("i32", 16, 1 << 25))
    )
    plan.input(source, "i16")
    plan.convert(source, x)
    wide = {"weights": np.zeros(channels * 2, np.uint8), "weight_format": ("uniform", 16, True, 0), "x_format": ("uniform", 8, False, 0)}
    shape = {"weight_shape": (1, channels, 1, 1), "padding": (0, 0), "out_f32": -1, "out_i32": y, "family": "adder_u8"}
    with pytest.raises(ValueError, match="do not fit int32"):
        conv(plan, x, y, **wide, **shape)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": np.zeros(100, F32)}, "weights have 100 elements"),
        ({"weights": np.zeros(16 * 16 * 9, np.float64)}, "wrong dtype"),
        ({"weight_shape": (16, 8, 3, 3)}, "groups do not divide"),
        ({"weight_shape": (-16, 16, 3, 3)}, "wrong shape"),
        ({"groups": 0}, "groups do not divide"),
        ({"copies": 0}, "copies out of range"),
        ({"copies": 1 << 30}, "copies out of range"),
        ({"copies": 2}, "f32 output has a wrong kind or shape"),
        ({"copies": 2, "weights": np.zeros(8 * 16 * 9, F32), "weight_shape": (8, 16, 3, 3)}, "whole blocks of 16"),
        ({"copies": 2, "groups": 2, "weights": np.zeros(16 * 8 * 9, F32), "weight_shape": (16, 8, 3, 3)}, "one group"),
        ({"stride": (0, 1)}, "out of range"),
        ({"padding": (-1, 1)}, "out of range"),
        ({"padding": (1 << 30, 1)}, "out of range"),
        ({"dilation": (4, 4)}, "does not fit"),
        ({"stride": (2, 2)}, "wrong kind or shape"),
        ({"out_f32": -1}, "no output"),
        ({"family": "conv_b1"}, "does not read"),
        ({"family": "conv_x"}, "unknown kernel family"),
        ({"mul": np.zeros(16, F32)}, "table has a wrong size"),
        ({"mul": np.zeros(15, F32), "table": np.zeros(16, F32)}, "per-channel array"),
        ({"mul": np.zeros(16, F32), "table": np.zeros(32, F32), "row_class": np.array([0, 1, 2, 0], np.int32)}, "wrong size"),
        ({"mul": np.zeros(16, F32), "table": np.zeros(32, F32), "row_class": np.array([0, 1, 0], np.int32)}, "number of row classes"),
        ({"mul": np.zeros(16, F32), "table": np.zeros(32, F32), "col_class": np.array([0, 1, -1, 0], np.int32)}, "out of range"),
        ({"patch_mul": np.zeros(16, F32)}, "needs mul and patch sums"),
        ({"threshold_f32": np.zeros(16, F32)}, "one kind of thresholds"),
        ({"residual": 1}, "read before it is written"),
        ({"clamp": (0.0, 1.0), "neg": np.zeros(16, F32)}, "two activations"),
        ({"neg": np.zeros(3, F32)}, "per-channel array"),
        ({"weights": np.zeros(100, np.uint8), "weight_format": ("binary", 1, False, 0)}, "weights have 100 elements"),
        ({"weights": np.zeros(100, np.uint8), "weight_format": ("uniform", 40, False, 0)}, "out of range"),
        ({"weights": np.zeros(100, np.uint8), "weight_format": ("octal", 1, False, 0)}, "unknown encoding"),
    ],
)
def test_convolutions(changes: dict[str, Any], message: str) -> None:
    plan, x, y = two_values()
    conv(*two_values())  # valid as it stands
    with pytest.raises(ValueError, match=message):
        conv(plan, x, y, **changes)


def finished_plan() -> Any:
    plan, x, y = two_values()
    plan.unary("abs", x, y)
    plan.output(y, "f32")
    plan.finish()
    return plan


def test_arrays_that_do_not_fit_do_not_pass_the_door(rng: np.random.Generator) -> None:
    plan, shape = finished_plan(), (16, 4, 4)
    door = _core.Door(plan, [shape], [shape])
    x, y = rng.standard_normal((2, *shape)).astype(F32), np.zeros((2, *shape), F32)
    assert np.array_equal(door.run((x,), None), np.abs(x))
    assert door.run((x,), y) is y and np.array_equal(y, np.abs(x))
    frozen, unaligned = y.copy(), np.zeros(y.nbytes + 1, np.uint8)[1:].view(F32).reshape(y.shape)
    frozen.flags.writeable = False
    long = np.zeros((3, *shape), F32)
    wrong_inputs = (
        x[:, :, ::-1],
        x[0],
        x.astype(np.float64),
        x.view(np.int32),
        x.astype(">f4"),
        x.tolist(),
        x.reshape(2, 4, 4, 16),
        unaligned,
    )
    for inputs in ((), (x, x), *((wrong,) for wrong in wrong_inputs)):
        assert door.run(inputs, None) is None
        assert door.run(inputs, y) is None
    for out in (x, x[:], long, y[:1], y[:, :, ::-1], y.astype(np.float64), y.view(np.int32), frozen, unaligned, (y,), 5):
        assert door.run((x,), out) is None
    overlap = np.zeros((3, *shape), F32)
    assert door.run((overlap[:2],), overlap[1:]) is None
    with pytest.raises(ValueError, match="do not fit"):
        door.profile((x[0],), 1)
    with pytest.raises(ValueError, match="finished"):
        plan.unary("abs", 0, 1)


@pytest.mark.parametrize("shapes", [([], [(16, 4, 4)]), ([(16, 4, 4)], []), ([(16, 4)], [(16, 4, 4)]), ([(16, 4, 4)], [(-16, -4, 4)])])
def test_a_door_needs_the_shapes_of_its_plan(shapes: tuple[list[tuple[int, ...]], ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        _core.Door(finished_plan(), *shapes)


@pytest.mark.parametrize(
    ("channels", "at", "fits"), [(16, 64, True), (16, 128, True), (20, 64, True), (33, 64, False), (16, 0, False), (20, 128, False)]
)
def test_values_beside_each_other(channels: int, at: int, fits: bool) -> None:
    """Two values within pixels of 48 channels: no block of 16 channels of one may reach into the other or into the next pixel."""
    plan = new_plan()
    x = plan.value("f32", (4, 4, 16), 48, 0)
    plan.input(x, "f32")
    y = plan.value("f32", (4, 4, channels), 48, at)
    with nullcontext() if fits else pytest.raises(ValueError, match="overlap"):
        plan.pad_channels(x, y, 0)


def test_a_value_between_others_ends_in_the_arena() -> None:
    size = 4 * 4 * 48 * 4
    new_plan(size).value("f32", (4, 4, 16), 48, 128)
    with pytest.raises(ValueError, match="of an arena of"):
        new_plan(size - 64).value("f32", (4, 4, 16), 48, 128)


@pytest.mark.parametrize(("bits", "message"), [(16, "sums of conv_planes do not fit int32"), (15, "sums of conv_planes"), (8, None)])
def test_sums_of_planes_fit_int32(bits: int, message: str | None) -> None:
    plan = new_plan(1 << 18)
    source, x = (
        plan.value("i16", (4, 4, 16), 16, 0),
        plan.value("bits", (4, 4, 16), bits, 1 << 13, bits, "uniform", min_code=-(1 << bits - 1)),
    )
    plan.input(source, "i16")
    plan.convert(source, x)
    width = ("uniform", bits, True, 0)
    y, sums = plan.value("f32", (4, 4, 16), 16, 1 << 16), plan.value("i32", (4, 4, 1), 1, 1 << 17)
    weights = np.zeros(bits * 16 * 9 * 2, np.uint8)
    arguments = {"weights": weights, "weight_format": width, "x_format": width, "family": "conv_planes", "patch_sums": sums}
    with pytest.raises(ValueError, match=message) if message else nullcontext():
        conv(plan, x, y, **arguments)
