"""Random calls of single conv kernels, and what they must give (plain NumPy, int64 and emulated fma)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bitfold.ir.arithmetic import fma
from bitfold.ir.encoding import Binary, Coded, PowerOfTwo, Ternary, Uniform
from bitfold.ir.pack import pack

Format = tuple[str, int, bool, int]  # kind, bits, signed, min_exp
FLOAT: Format = ("binary", 1, False, 0)  # not read where there are no codes
EDGES = [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 96, 127, 128, 129, 130]
# Drawn by index: rng.choice of a short list takes fifteen times as long.
KERNEL_SIZES = [1] * 10 + [2] * 5 + [3] * 30 + [5] * 3 + [7] * 2
DILATIONS = [1, 1, 1, 2, 3]


@dataclass
class Case:
    """One call of ``conv_run``. ``x``: (H, W, C) and ``w``: (O, C / groups, KH, KW), codes (int64) or float32."""

    shape: list[int]
    x: np.ndarray
    w: np.ndarray
    input: np.ndarray
    weights: np.ndarray
    in_format: Format = FLOAT
    weight_format: Format = FLOAT
    epilogue: dict[str, Any] = field(default_factory=dict)
    outside: int | None = None  # adder_u8: the code outside the image

    @property
    def out_channels(self) -> int:
        return int(self.shape[3] * self.epilogue.get("copies", 1))

    def run(self, core: Any, kernel: str, row_parts: int = 1, block_parts: int = 1) -> dict[str, np.ndarray]:
        args = (self.shape, self.input, self.weights, self.in_format, self.weight_format, self.epilogue)
        result: dict[str, np.ndarray] = core.conv_run(kernel, *args, row_parts, block_parts)
        return result

    @property
    def out_size(self) -> tuple[int, int]:
        h, w, _, _, kh, kw, sh, sw, ph, pw, dh, dw, _, _ = self.shape
        return (h + 2 * ph - dh * (kh - 1) - 1) // sh + 1, (w + 2 * pw - dw * (kw - 1) - 1) // sw + 1


def format_of(e: Coded) -> Format:
    if isinstance(e, Binary):
        return ("binary", 1, False, 0)
    if isinstance(e, Ternary):
        return ("ternary", 1, False, 0)
    if isinstance(e, PowerOfTwo):
        return ("power_of_two", e.planes - 1, False, e.min_exp)
    return ("uniform", e.bits, e.signed, 0)


def byte_base(e: Coded) -> int:
    """What the kernels' test door takes off a code held in a byte: the least code that the format (not the encoding) can say."""
    return -(2 ** (e.min_exp + 2 ** (e.planes - 1) - 2)) if isinstance(e, PowerOfTwo) else min(0, e.min_code)


def random_codes(rng: np.random.Generator, e: Coded, shape: tuple[int, ...]) -> np.ndarray:
    alphabet = np.array(e.alphabet(), dtype=np.int64)
    codes: np.ndarray = alphabet[rng.integers(len(alphabet), size=shape)]
    return codes


def random_geometry(rng: np.random.Generator, max_channels: int) -> list[int]:
    """The first 13 entries of a shape: half of them grouped, half of these at word and block boundaries, a few linear."""

    def channels() -> int:
        return EDGES[rng.integers(len(EDGES))] if rng.random() < 0.6 else int(rng.integers(1, max_channels + 1))

    kind = rng.random()
    groups, cin, cout = 1, channels(), channels()
    if kind < 0.2:
        groups = int(rng.integers(2, 4))
        cin, cout = 32 * int(rng.integers(1, 3)) * groups, 16 * int(rng.integers(1, 5)) * groups
    elif kind < 0.35:
        groups = int(rng.integers(2, 6))
        cin, cout = groups * int(rng.integers(1, 20)), groups * int(rng.integers(1, 20))
    elif kind < 0.45:
        groups = cin = cout = channels()
    if rng.random() < 0.1:
        return [1, int(rng.integers(1, 20)), cin, cout, 1, 1, 1, 1, 0, 0, 1, 1, groups]
    while True:
        h, w = (int(rng.integers(1, 14)) for _ in range(2))
        kh, kw = (KERNEL_SIZES[i] for i in rng.integers(len(KERNEL_SIZES), size=2))
        sh, sw = (int(v) for v in rng.integers(1, 4, 2))
        dh, dw = (DILATIONS[i] for i in rng.integers(len(DILATIONS), size=2))
        ph, pw = (int(v) for v in rng.integers(0, 4, 2))
        if h + 2 * ph > dh * (kh - 1) and w + 2 * pw > dw * (kw - 1):
            return [h, w, cin, cout, kh, kw, sh, sw, ph, pw, dh, dw, groups]


def dense_geometry(rng: np.random.Generator) -> list[int]:
    """A matrix product whose sums are long enough to go from 16 to 32 bits on the way."""
    rows, cin, cout = (int(v) for v in (rng.integers(1, 20), rng.integers(1, 1500), rng.integers(1, 70)))
    return [1, rows, cin, cout, 1, 1, 1, 1, 0, 0, 1, 1, 1]


def padded_rows(x: np.ndarray, stride: int, fill: np.ndarray) -> np.ndarray:
    """(H, W, C) -> flat, ``stride`` elements a pixel; the room between pixels holds ``fill``."""
    out = np.broadcast_to(fill, (*x.shape[:2], stride)).copy().astype(x.dtype)
    out[..., : x.shape[2]] = x
    return out.ravel()


def packed_pixels(x: np.ndarray, e: Coded, stride_extra: int) -> tuple[np.ndarray, int]:
    """(H, W, C) codes -> uint32 words [pixel][plane][word] and the words per pixel."""
    h, w, c = x.shape
    planes = pack(x.reshape(h * w, c), e)  # (planes, pixels, bytes)
    words = (c + 31) // 32
    full = np.zeros((h * w, e.planes, words * 4), dtype=np.uint8)
    full[..., : planes.shape[2]] = planes.transpose(1, 0, 2)
    flat = full.view(np.uint32).reshape(h * w, e.planes * words)
    flat = np.concatenate([flat, np.full((h * w, stride_extra), 0xA5A5A5A5, dtype=np.uint32)], axis=1)
    return np.ascontiguousarray(flat).ravel(), flat.shape[1]


def random_case(
    rng: np.random.Generator, family: str, max_channels: int = 130, serves: Callable[[list[int]], bool] = lambda shape: True
) -> Case:
    """A call whose shape ``serves`` accepts."""
    while True:
        dense = family == "dense_packed" and rng.random() < 0.5
        g = dense_geometry(rng) if dense else random_geometry(rng, max_channels)
        stride = g[2] if rng.random() < 0.5 else (g[2] + 15) // 16 * 16
        if serves([*g, stride]):
            break
    if family == "conv_f32":
        case = float_case(rng, g, stride)
    elif family == "adder_u8":
        case = adder_case(rng, g, stride)
    else:
        case = coded_case(rng, family, g, stride)
    case.epilogue |= random_epilogue(rng, case, family)
    return case


def float_case(rng: np.random.Generator, g: list[int], stride: int) -> Case:
    h, w, cin, cout, kh, kw, *_, groups = g
    wshape = (cout, cin // groups, kh, kw)
    x = rng.standard_normal((h, w, cin)).astype(np.float32)
    data = padded_rows(x, stride, np.array(np.nan))
    if rng.random() < 0.2:  # coded weights count as their codes
        codes = random_codes(rng, Ternary(), wshape)
        return Case([*g, stride], x, codes.astype(np.float32), data, pack(codes, Ternary()), FLOAT, format_of(Ternary()))
    weights = rng.standard_normal(wshape).astype(np.float32)
    return Case([*g, stride], x, weights, data, weights)


def adder_case(rng: np.random.Generator, g: list[int], stride: int) -> Case:
    """Bytes of uniform codes; the weights' range may be wider than the activations'. Outside the image any code may stand."""
    h, w, cin, cout, kh, kw, *_, groups = g
    ea = Uniform(int(rng.choice([1, 2, 3, 4, 4, 7, 8, 8, 8])), bool(rng.integers(2)))
    ew = Uniform(ea.bits, ea.signed) if rng.random() < 0.5 else Uniform(int(rng.integers(1, 11)), bool(rng.integers(2)))
    x, codes = random_codes(rng, ea, (h, w, cin)), random_codes(rng, ew, (cout, cin // groups, kh, kw))
    data = padded_rows((x - ea.min_code).astype(np.uint8), stride, np.array(0xA5))
    outside = int(rng.integers(1 << ea.bits))
    return Case([*g, stride], x, codes, data, pack(codes, ew), format_of(ea), format_of(ew), {"outside": outside}, outside + ea.min_code)


def coded_case(rng: np.random.Generator, family: str, g: list[int], stride: int) -> Case:
    h, w, cin, cout, kh, kw, *_, groups = g

    def small() -> Coded:
        options: list[Coded] = [Binary(), Ternary(), Uniform(int(rng.integers(1, 5)), bool(rng.integers(2)))]
        return options[rng.integers(3)]

    def wide() -> Coded:
        options: list[Coded] = [small(), Uniform(int(rng.integers(2, 9)), bool(rng.integers(2))), PowerOfTwo(int(rng.integers(0, 7)))]
        return options[rng.integers(3)]

    def int8() -> Coded:
        while (e := wide()).max_code > 127:
            pass
        return e

    def field() -> Coded:
        options: list[Coded] = [small(), PowerOfTwo(int(rng.integers(0, 3)))]
        return options[rng.integers(2)]

    ea, ew = (Binary(), Binary()) if family == "conv_b1" else (small(), small()) if family == "conv_planes" else (wide(), wide())
    ew = int8() if family == "conv_i8" else field() if family == "dense_packed" else ew
    if family == "conv_u8":
        bits = min(16, ((1 << 31) // (cin // groups * kh * kw * 255)).bit_length())  # what an int32 has room for
        ea, ew = Uniform(int(rng.integers(1, 9)), False), Uniform(int(rng.integers(2, 1 + bits)), True)
    x, codes = random_codes(rng, ea, (h, w, cin)), random_codes(rng, ew, (cout, cin // groups, kh, kw))
    if rng.random() < 0.1:  # the largest sums that the encodings allow
        x[...], codes[...] = rng.choice([ea.min_code, ea.max_code]), rng.choice([ew.min_code, ew.max_code])
    if family in ("conv_i8", "conv_u8", "dense_packed"):
        data = padded_rows((x - byte_base(ea)).astype(np.uint8), stride, np.array(211))
    elif family == "conv_i16":
        data = padded_rows(x.astype(np.int16), stride, np.array(12345))
    else:
        data, stride = packed_pixels(x, ea, int(rng.integers(2)))
    return Case([*g, stride], x, codes, data, pack(codes, ew), format_of(ea), format_of(ew))


def random_epilogue(rng: np.random.Generator, case: Case, family: str) -> dict[str, Any]:
    """Every combination of the optional steps, now and then with NaN, infinities and zeros of both signs."""
    copies = int(rng.integers(1, 4)) if case.shape[3] % 16 == 0 and case.shape[12] == 1 else 1
    cout, (oh, ow) = case.shape[3] * copies, case.out_size
    strange = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], dtype=np.float32)

    def floats(*shape: int, odd: float = 0.0) -> np.ndarray:
        a = rng.standard_normal(shape).astype(np.float32)
        return np.where(rng.random(shape) < odd, rng.choice(strange, shape), a)

    e: dict[str, Any] = {"copies": copies}
    if rng.random() < 0.7:
        rows, columns = (int(v) for v in rng.integers(1, 4, 2))
        e.update(mul=floats(cout), table=floats(rows, columns, cout))
        e.update(row_class=rng.integers(0, rows, oh).astype(np.int32), col_class=rng.integers(0, columns, ow).astype(np.int32))
        if family not in ("conv_f32", "adder_u8") and rng.random() < 0.5:
            e["patch_mul"] = floats(cout)
    if rng.random() < 0.4:
        e["residual"] = floats(oh * ow, cout, odd=0.05)
    if rng.random() < 0.3:
        e.update(neg=floats(cout), pos=floats(cout), shift_in=floats(cout), shift_out=floats(cout))
    elif rng.random() < 0.3:
        e.update(low=0.0 if rng.random() < 0.5 else -1.0, high=float(np.inf) if rng.random() < 0.5 else 1.0)
    if rng.random() < 0.6:
        e["ascending"] = rng.integers(0, 1 << 16, (cout + 15) // 16).astype(np.uint16)
        if family != "conv_f32" and rng.random() < 0.4:
            low = 0 if case.outside is None else -int(np.abs(case.w).max() * case.w[0].size)  # distances are negative and large
            e["threshold_i32"] = (low + rng.integers(-20, 20, cout)).astype(np.int32)
        else:
            e["threshold_f32"] = floats(cout, odd=0.1)
    elif rng.random() < 0.7:
        levels = int(rng.choice([1, 2, 3, 7, 15, 40]))
        if family != "conv_f32" and rng.random() < 0.4:
            e["levels_i32"] = rng.integers(-200, 200, (levels, cout)).astype(np.int32)
        else:
            e["levels_f32"] = floats(levels, cout, odd=0.05)
        if rng.random() < 0.5:
            e["level_top"] = rng.choice(np.array([0, levels], np.int32), cout)
    return e


def taps(case: Case) -> Iterator[tuple[int, int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """(tap row, tap column, valid output rows, valid output columns, their input rows, their input columns), in order."""
    h, w, _, _, kh, kw, sh, sw, ph, pw, dh, dw, _, _ = case.shape
    oh, ow = case.out_size
    for i in range(kh):
        iy = np.arange(oh) * sh - ph + i * dh
        rows = np.flatnonzero((iy >= 0) & (iy < h))
        for j in range(kw):
            ix = np.arange(ow) * sw - pw + j * dw
            columns = np.flatnonzero((ix >= 0) & (ix < w))
            yield i, j, rows, columns, iy[rows], ix[columns]


def reference_distances(case: Case) -> np.ndarray:
    """D of adder_u8, int64 (OH, OW, O): all taps, those outside the image with the code that stands there."""
    cout, kh, kw, sh, sw, ph, pw, dh, dw, groups = case.shape[3:13]
    (oh, ow), per_in = case.out_size, case.w.shape[1]
    padded = np.pad(case.x, ((ph, ph), (pw, pw), (0, 0)), constant_values=case.outside)
    d = np.zeros((oh, ow, groups, cout // groups), dtype=np.int64)
    for i, j in np.ndindex(kh, kw):
        patch = padded[i * dh : i * dh + (oh - 1) * sh + 1 : sh, j * dw : j * dw + (ow - 1) * sw + 1 : sw]
        patch = patch.reshape(oh, ow, groups, 1, per_in)
        d -= np.abs(case.w[:, :, i, j].reshape(groups, -1, per_in) - patch).sum(axis=-1)
    return d.reshape(oh, ow, cout)


def reference_sums(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """D (int64 or float32, one fma a step) as (OH, OW, O), and S_a as (OH, OW, groups)."""
    cout, groups = case.shape[3], case.shape[12]
    per_in, per_out = case.w.shape[1], cout // groups
    d = np.zeros((*case.out_size, cout), dtype=case.w.dtype)
    s = np.zeros((*case.out_size, groups), dtype=case.w.dtype)
    group = np.arange(cout) // per_out
    for i, j, rows, columns, iy, ix in taps(case):
        patch = case.x[np.ix_(iy, ix)].reshape(len(rows), len(columns), groups, per_in)
        at = np.ix_(rows, columns)
        if case.w.dtype == np.int64:
            grouped = case.w[:, :, i, j].reshape(groups, per_out, per_in)
            d[at] += np.einsum("yxgc,goc->yxgo", patch, grouped).reshape(len(rows), len(columns), cout)
            s[at] += patch.sum(axis=-1)
            continue
        for c in range(per_in):
            d[at] = fma(patch[:, :, group, c], case.w[:, c, i, j], d[at])
    return d, s


def reference_outputs(case: Case) -> dict[str, np.ndarray]:
    """What ``conv_run`` returns, without padding lanes: i32, f32 as (pixels, O); bits as booleans (pixels, O)."""
    e, cout, (oh, ow) = case.epilogue, case.out_channels, case.out_size
    d, s = reference_sums(case)
    if case.outside is not None:
        d = reference_distances(case)
    d = np.tile(d, e.get("copies", 1))
    f32 = np.float32
    v = d.astype(f32)
    with np.errstate(all="ignore"):
        if "mul" in e:
            t = e["table"][e["row_class"][:, None], e["col_class"][None, :]]
            if "patch_mul" in e:
                t = fma(e["patch_mul"], np.repeat(s, cout // case.shape[12], axis=2).astype(f32), t)
            v = fma(e["mul"], v, t)
        if "residual" in e:
            v = v + e["residual"].reshape(oh, ow, cout)
        if "neg" in e:
            t = v + e["shift_in"]
            v = np.where(t > 0, e["pos"], e["neg"]) * t + e["shift_out"]
        if "low" in e:
            v = np.where(f32(e["low"]) > v, f32(e["low"]), v)
            v = np.where(f32(e["high"]) < v, f32(e["high"]), v)
        out = {"i32": d.reshape(-1, cout), "f32": v.astype(f32).reshape(-1, cout), "patch_sums": s.reshape(oh * ow, -1)}
        if "ascending" in e:
            positive = d >= e["threshold_i32"] if "threshold_i32" in e else v >= e["threshold_f32"]
            rising = (e["ascending"][np.arange(cout) // 16] >> (np.arange(cout) % 16)) & 1
            out["bits"] = (positive ^ (rising == 1)).reshape(-1, cout)
        if levels := {"levels_i32": d, "levels_f32": v}.keys() & e.keys():
            name = levels.pop()
            reached = ((d if name == "levels_i32" else v)[..., None, :] >= e[name]).sum(axis=-2)
            out["u8"] = np.abs(reached - e.get("level_top", 0)).reshape(-1, cout)
    return out


def same_floats(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal bit for bit, all NaNs alike."""
    nan = np.isnan(a) & np.isnan(b)
    return bool((nan | (a.view(np.uint32) == b.view(np.uint32))).all())
