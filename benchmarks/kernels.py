"""Speed of single conv kernels, one thread: ``python benchmarks/kernels.py [--isa avx2] [--repeats 50]``.

The minimum of many runs, with the full epilogue of a residual block (affine, residual, two-slope activation, float32 and packed output);
results are checked against the scalar kernel by ``tests/native/test_conv_kernels.py``.
"""

import argparse
from typing import Any

import numpy as np

from bitfold import _core

# height, in_c, out_c, kernel, stride, padding
BLOCKS = [(56, 64, 64, 3, 1, 1), (28, 128, 128, 3, 1, 1), (14, 256, 256, 3, 1, 1), (7, 512, 512, 3, 1, 1)]
STEM = [(224, 3, 64, 7, 2, 3), (56, 64, 128, 1, 2, 0)]
BINARY, UINT2 = ("binary", 1, False, 0), ("uniform", 2, False, 0)
FAMILIES: dict[str, list[tuple[str, list[tuple[int, ...]], Any, Any]]] = {
    "conv_b1": [("1x1", BLOCKS, BINARY, BINARY)],
    "conv_planes": [("2x1", BLOCKS, UINT2, BINARY), ("2x2", BLOCKS, UINT2, UINT2)],
    "conv_i16": [("", BLOCKS, BINARY, BINARY)],
    "conv_f32": [("", BLOCKS + STEM, BINARY, BINARY)],
}


def measure(kernel: str, family: str, layer: tuple[int, ...], in_format: Any, weight_format: Any, repeats: int) -> tuple[float, float]:
    """Microseconds (minimum) and multiply-accumulates of one layer."""
    rng = np.random.default_rng(0)
    size, cin, cout, k, stride, pad = layer
    out = (size + 2 * pad - k) // stride + 1
    weights = rng.integers(0, 256, (weight_format[1], cout, k, k, (cin + 7) // 8), dtype=np.uint8)
    if family == "conv_f32":
        pixel, x = cin, rng.standard_normal(size * size * cin).astype(np.float32)
        weights = rng.standard_normal((cout, cin, k, k)).astype(np.float32)
    elif family == "conv_i16":
        pixel, x = cin, rng.integers(-8, 8, size * size * cin).astype(np.int16)
    else:
        pixel = in_format[1] * ((cin + 31) // 32)
        x = rng.integers(0, 1 << 32, size * size * pixel, dtype=np.uint32)
    shape = [size, size, cin, cout, k, k, stride, stride, pad, pad, 1, 1, 1, pixel]
    if _core.conv_refusal(kernel, shape) is not None:
        return float("nan"), 0
    names = ["mul", "neg", "pos", "shift_in", "shift_out", "threshold_f32"]
    epilogue: dict[str, Any] = {name: rng.standard_normal(cout).astype(np.float32) for name in names}
    epilogue |= {"table": epilogue["mul"].reshape(1, 1, cout), "residual": rng.standard_normal((out * out, cout)).astype(np.float32)}
    epilogue["ascending"] = np.zeros((cout + 15) // 16, dtype=np.uint16)
    seconds = _core.conv_time(kernel, shape, x, weights, in_format, weight_format, epilogue, repeats)
    return min(seconds) * 1e6, out * out * cout * cin * k * k


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--isa", help="only kernels of this instruction set")
    parser.add_argument("--repeats", type=int, default=50)
    options = parser.parse_args()
    print(f"{'kernel':32} {'bits':5} {'layer':24} {'us':>9} {'GMAC/s':>8}")
    for kernel, family, isa, available in _core.kernels():
        if not available or isa == "scalar" or options.isa not in (None, isa):
            continue
        for bits, layers, in_format, weight_format in FAMILIES[family]:
            for layer in layers:
                us, macs = measure(kernel, family, layer, in_format, weight_format, options.repeats)
                if macs:
                    size, cin, cout, k, stride, _ = layer
                    print(f"{kernel:32} {bits:5} {f'{cin}x{size}x{size}-{cout} k{k} s{stride}':24} {us:9.1f} {macs / us / 1e3:8.1f}")


if __name__ == "__main__":
    main()
