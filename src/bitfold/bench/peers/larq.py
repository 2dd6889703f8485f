"""Larq Compute Engine: not run, and the row says why.

By its documentation ``convert_keras_model`` takes Keras models alone (a low-bit network would have to be built once more, in TensorFlow),
and its Python interpreter falls back on reference kernels on every CPU but 64-bit ARM, for which no Python package is published. A time
taken here would be that of code which its authors call not optimised for speed.
"""

from bitfold.bench.peers._base import Prepared, Subject
from bitfold.errors import ExportError

PRECISION = "low-bit"
PAIRS = (("binary", "binary"),)

REASON = (
    "not run: converts Keras models alone, and its Python interpreter has optimised kernels on 64-bit ARM only (reference kernels here)"
)


def available() -> str | None:
    return REASON


def prepare(subject: Subject) -> Prepared:
    raise ExportError(f"larq: {REASON}")
