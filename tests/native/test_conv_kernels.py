"""Every conv kernel of this CPU against the scalar C one, and scalar C against NumPy: 0 integers differ, floats bit for bit."""

import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.native.conv_cases import (
    Case,
    case_of,
    coded_case,
    float_case,
    random_case,
    random_epilogue,
    random_shape,
    reference_outputs,
    same_floats,
)

from bitfold import _core as core

pytestmark = pytest.mark.native

KERNELS = [(name, family) for name, family, _, available in core.kernels() if available]
SCALAR = {family: name for name, family, isa, _ in core.kernels() if isa == "scalar"}
SIMD = [pytest.param(name, family, id=name) for name, family in KERNELS if name != SCALAR[family]]
CASES = 200  # tests.native.long runs more


def any_size(shape: list[int]) -> bool:
    return True


def check_against_scalar(
    rng: np.random.Generator,
    kernels: list[str],
    family: str,
    count: int,
    wanted: Callable[[list[int]], bool] = any_size,
    each: int = 1,
    numpy_every: int = 0,
    there: Any = core,
) -> None:
    """Random cases of ``wanted`` shapes, ``each`` of a shape, until each of the kernels ``there`` (this core, or one far away) has run
    ``count``; a case is run by all kernels that serve it. One case in ``numpy_every`` of scalar C is compared with NumPy too (0: none)."""
    done, cases = dict.fromkeys(kernels, 0), 0
    while waiting := [name for name in kernels if done[name] < count]:
        shape = random_shape(rng, family, 130, lambda s, w=waiting: wanted(s) and any(there.conv_refusal(name, s) is None for name in w))
        serving = [name for name in kernels if there.conv_refusal(name, shape) is None]
        for _ in range(each):
            case = case_of(rng, family, shape)
            want = case.run(core, SCALAR[family])
            if numpy_every and cases % numpy_every == 0:
                compare_with_numpy(case, want, SCALAR[family])
            cases += 1
            for kernel in serving:
                done[kernel] += 1
                if kernel != SCALAR[family]:
                    parts = (int(v) for v in rng.integers(1, 4, 2))
                    compare(case, want, case.run(there, kernel, *parts), f"case {done[kernel]} of {kernel}")


def compare(case: Case, want: dict[str, np.ndarray], got: dict[str, np.ndarray], name: str) -> None:
    what = f"{name}: shape {case.shape}, {case.in_format} x {case.weight_format}, {sorted(case.epilogue)}"
    cout = case.out_channels
    assert got.keys() == want.keys()
    if "i32" in want:
        differ = int((got["i32"][:, :cout] != want["i32"][:, :cout]).sum())
        assert differ == 0, f"{differ} accumulators differ; {what}"
        assert np.array_equal(got["patch_sums"], want["patch_sums"]), f"patch sums differ; {what}"
    if "f32" in want:
        assert same_floats(got["f32"][:, :cout], want["f32"][:, :cout]), f"float32 outputs differ; {what}"
    if "u8" in want:
        assert np.array_equal(got["u8"][:, :cout], want["u8"][:, :cout]), f"bytes of codes differ; {what}"
    if "bits" in want:
        assert np.array_equal(got["bits"], want["bits"]), f"packed bits differ; {what}"


@pytest.mark.parametrize(("kernel", "family"), SIMD)
def test_simd_equals_scalar(rng: np.random.Generator, kernel: str, family: str) -> None:
    check_against_scalar(rng, [kernel], family, CASES)


# Rows and windows that do not fit what kernels stage at once; strides and dilations between which columns are left out.
WIDE = {
    "row": [3, 100, 200, 33, 3, 3, 1, 1, 1, 1, 1, 1, 1],
    "dilated": [5, 70, 300, 16, 3, 3, 1, 1, 2, 2, 1, 2, 1],
    "strided": [2, 90, 250, 70, 1, 2, 2, 3, 0, 1, 1, 1, 1],
    "rows of a matrix": [1, 40, 1500, 40, 1, 1, 1, 1, 0, 0, 1, 1, 1],
    "one row": [1, 1, 2100, 200, 1, 1, 1, 1, 0, 0, 1, 1, 1],
    "one row, few channels": [1, 1, 50, 70, 1, 1, 1, 1, 0, 0, 1, 1, 1],
    "one row, groups": [1, 1, 2048, 352, 1, 1, 1, 1, 0, 0, 1, 1, 2],
    "window": [4, 9, 7000, 20, 3, 3, 1, 2, 1, 1, 1, 1, 1],
    "groups": [3, 60, 192, 96, 3, 3, 2, 2, 1, 1, 1, 1, 2],
}


@pytest.mark.parametrize("geometry", WIDE.values(), ids=list(WIDE))
@pytest.mark.parametrize("family", ["conv_b1", "conv_planes"])
def test_more_than_a_tile_holds(rng: np.random.Generator, family: str, geometry: list[int]) -> None:
    for _ in range(6):  # of many pairs of encodings
        case = coded_case(rng, family, geometry, geometry[2])
        case.epilogue = random_epilogue(rng, case, family)
        want = case.run(core, SCALAR[family])
        for kernel in (name for name, f in KERNELS if f == family and core.conv_refusal(name, case.shape) is None):
            compare(case, want, case.run(core, kernel), kernel)


# Images that float kernels cut into several runs of tiles, depthwise ones into parts each way, and windows that no part holds.
IMAGES = {
    "runs": [5, 75, 9, 33, 3, 3, 1, 1, 1, 1, 1, 1, 1],
    "stem": [20, 131, 3, 64, 7, 7, 2, 2, 3, 3, 1, 1, 1],
    "one long row": [9, 23, 20, 130, 1, 1, 1, 1, 0, 0, 1, 1, 1],
    "strips": [3, 40, 70, 130, 3, 3, 1, 1, 1, 1, 1, 1, 1],
    "groups": [4, 60, 32, 64, 3, 3, 1, 1, 1, 1, 1, 1, 2],
    "depthwise": [40, 70, 20, 20, 3, 3, 1, 1, 1, 1, 1, 1, 20],
    "depthwise, strided": [50, 75, 33, 33, 5, 5, 2, 2, 2, 2, 1, 1, 33],
    "depthwise, patches of two blocks": [40, 20, 256, 256, 3, 3, 1, 1, 1, 1, 1, 1, 256],
    "depthwise, dilated rows": [40, 60, 16, 16, 3, 7, 1, 2, 4, 3, 3, 1, 16],
    "depthwise, stride above the window": [45, 66, 16, 16, 3, 3, 5, 2, 0, 1, 1, 1, 16],
    "depthwise, tall": [30, 40, 16, 16, 5, 5, 1, 1, 3, 2, 4, 1, 16],
    "depthwise, wide": [5, 90, 48, 48, 3, 9, 1, 1, 1, 4, 1, 1, 48],
    "depthwise, dilated": [20, 90, 16, 16, 3, 3, 1, 1, 2, 2, 2, 2, 16],
}


@pytest.mark.parametrize("geometry", IMAGES.values(), ids=list(IMAGES))
def test_float_images(rng: np.random.Generator, geometry: list[int]) -> None:
    depthwise = geometry[2] == geometry[12]
    case = float_case(rng, geometry, -(-geometry[2] // 16) * 16 if depthwise else geometry[2])
    case.epilogue = random_epilogue(rng, case, "conv_f32")
    want = case.run(core, SCALAR["conv_f32"])
    kernels = [name for name, f in KERNELS if f == "conv_f32" and name != SCALAR[f] and ("_dw_" in name) == depthwise]
    assert kernels and all(core.conv_refusal(name, case.shape) is None for name in kernels)
    for kernel in kernels:
        compare(case, want, case.run(core, kernel, int(rng.integers(1, 4)), int(rng.integers(1, 3))), kernel)


def test_depthwise(rng: np.random.Generator) -> None:
    """Every way through the depthwise kernels: tiles of all widths on the image or on a copy (channels many powers of two apart), windows
    that are mostly padding, single pixels; half of the epilogues are those that tiles finish in registers."""
    kernels = [name for name, f in KERNELS if f == "conv_f32" and "_dw_" in name]
    for number in range(150):
        channels = int(rng.choice([2, 16, 20, 33, 128, 256, 264, 512]))
        h, w, kh, ph, pw = (int(v) for v in rng.integers([1, 1, 1, 0, 0], [25, 41, 8, 8, 8]))
        kw = int(rng.choice([1, 3, 3, 3, 4, 5, 5, 7, 7]))
        sh, sw, dh, dw = (int(v) for v in (*rng.integers(1, 4, 2), *rng.choice([1, 1, 1, 2, 3], 2)))
        pw = min(pw, kw) if number % 2 else pw
        if h + 2 * ph <= dh * (kh - 1) or w + 2 * pw <= dw * (kw - 1):
            continue
        case = float_case(rng, [h, w, channels, channels, kh, kw, sh, sw, ph, pw, dh, dw, channels], -(-channels // 16) * 16)
        case.epilogue = random_epilogue(rng, case, "conv_f32")
        if rng.random() < 0.5:
            plain = ("copies", "mul", "table", "row_class", "residual", "low", "high")
            case.epilogue = {name: value for name, value in case.epilogue.items() if name in plain}
        want = case.run(core, SCALAR["conv_f32"])
        for kernel in kernels:
            compare(case, want, case.run(core, kernel, int(rng.integers(1, 4)), int(rng.integers(1, 3))), kernel)


def check_against_numpy(rng: np.random.Generator, family: str, count: int) -> None:
    for number in range(count):
        case = random_case(rng, family, max_channels=40 if family == "conv_f32" else 130)
        compare_with_numpy(case, case.run(core, SCALAR[family]), f"case {number}")


def compare_with_numpy(case: Case, got: dict[str, np.ndarray], name: str) -> None:
    want, cout = reference_outputs(case), case.out_channels
    what = f"{name}: shape {case.shape}, {case.in_format} x {case.weight_format}, {sorted(case.epilogue)}"
    if "i32" in got:
        assert np.array_equal(got["i32"][:, :cout], want["i32"]), f"accumulators differ; {what}"
        assert np.array_equal(got["patch_sums"], want["patch_sums"]), f"patch sums differ; {what}"
    if "f32" in got:
        assert same_floats(got["f32"][:, :cout], want["f32"]), f"float32 outputs differ; {what}"
    if "u8" in got:
        assert np.array_equal(got["u8"][:, :cout], want["u8"]), f"bytes of codes differ; {what}"
    if "bits" in got:
        bits = np.unpackbits(got["bits"].view(np.uint8), axis=1, bitorder="little").astype(bool)
        assert np.array_equal(bits[:, :cout], want["bits"]), f"packed bits differ; {what}"
        assert not bits[:, cout:].any(), f"padding bits are not 0; {what}"


@pytest.mark.parametrize("family", sorted(SCALAR))
def test_scalar_equals_numpy(rng: np.random.Generator, family: str) -> None:
    check_against_numpy(rng, family, 60 if family == "conv_f32" else CASES)


def test_every_family_has_kernels_of_every_isa() -> None:
    by_family = {family: {isa for _, f, isa, _ in core.kernels() if f == family} for family in SCALAR}
    vector = {"neon"} if platform.machine() == "aarch64" else {"avx2", "avx512"}
    families = ("adder_u8", "conv_b1", "conv_planes", "conv_i8", "conv_u8", "conv_i16", "conv_f32", "dense_packed")
    assert by_family == {family: {"scalar"} | vector for family in families}


def test_a_wrong_call_is_refused(rng: np.random.Generator) -> None:
    case = random_case(rng, "conv_b1")
    kernel = SCALAR["conv_b1"]
    case.input = case.input[:-1]
    with pytest.raises(ValueError, match="input has"):
        case.run(core, kernel)
    case.shape[12] = 1000
    with pytest.raises(ValueError, match="groups must divide"):
        case.run(core, kernel)
    with pytest.raises(ValueError, match="unknown kernel"):
        case.run(core, "conv_b2")


def test_isa_objects_leave_no_weak_symbols() -> None:
    """Code built for AVX2 under a shared (weak) name could be called on a CPU without it."""
    build = Path(__file__).parents[2] / "build"
    objects = [p for p in build.rglob("*.o") if p.name.startswith(("avx2", "avx512"))]
    if not objects:
        pytest.skip("no build folder with objects here")
    listing = subprocess.run(["nm", "-A", *map(str, objects)], capture_output=True, text=True, check=True).stdout
    assert [line for line in listing.splitlines() if " W " in line or " V " in line or " u " in line] == []
