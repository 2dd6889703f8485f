"""Results are checked before anything is timed: a wrong answer has no speed."""

from typing import NamedTuple

import numpy as np

FLOAT_TOLERANCE = 1e-3  # largest difference as a share of the largest reference value: sums of thousands of float32 terms in any order
LOW_BIT_COSINE = 0.99  # the same codes but for those that float rounding flips next to a threshold
INT8_COSINE = 0.9  # an int8 network of untrained weights, ranges from a few inputs: 0.93 to 0.99 was seen


class Check(NamedTuple):
    """``problem`` is None where the output is acceptable for the precision; the figures are relative to the reference."""

    problem: str | None
    max_difference: float = float("nan")
    cosine: float = float("nan")


def check(got: np.ndarray, want: np.ndarray, precision: str) -> Check:
    """Compares an output with the reference's; ``precision`` is "float32", "int8" or "low-bit"."""
    if got.shape != want.shape:
        return Check(f"output has shape {got.shape}, expected {want.shape}")
    if not np.isfinite(got).all():
        return Check("output is not finite")
    a, b = got.astype(np.float64).ravel(), want.astype(np.float64).ravel()
    difference = float(np.abs(a - b).max()) / max(float(np.abs(b).max()), 1e-30)
    cosine = float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-30)
    problem = None
    least = {"int8": INT8_COSINE, "low-bit": LOW_BIT_COSINE}.get(precision, -1.0)
    if cosine < least:
        problem = f"wrong result: cosine similarity to the reference is {cosine:.3f}, {precision} must reach {least}"
    if precision == "float32" and difference > FLOAT_TOLERANCE:
        problem = f"wrong result: differs from the reference by {difference:.2e} of its range, float32 may by {FLOAT_TOLERANCE}"
    return Check(problem, difference, cosine)
