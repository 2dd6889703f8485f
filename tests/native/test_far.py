"""A core in another process gives what the core of this one gives, errors too."""

import io
import sys
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from tests.native.conv_cases import random_case
from tests.native.far import FarCore, receive, send
from tests.native.test_conv_kernels import SCALAR, check_against_scalar

from bitfold import _core as core

pytestmark = pytest.mark.native


@pytest.fixture(scope="module")
def far() -> Iterator[FarCore]:
    with closing(FarCore(f"{sys.executable} -m tests.native.far")) as core:
        yield core


def test_messages_keep_types_shapes_and_order() -> None:
    value = {
        "none": None,
        "inf": float("inf"),
        "arrays": [np.arange(6, dtype=np.uint16).reshape(2, 3), {"b": np.zeros((0, 4), np.float32)}],
    }
    pipe = io.BytesIO()
    send(pipe, value)
    pipe.seek(0)
    got = receive(pipe)
    assert got["none"] is None and got["inf"] == float("inf")
    first, second = got["arrays"][0], got["arrays"][1]["b"]
    assert first.dtype == np.uint16 and first.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert second.dtype == np.float32 and second.shape == (0, 4)
    with pytest.raises(EOFError):
        receive(pipe)


@pytest.mark.parametrize("family", sorted(SCALAR))
def test_far_kernels_equal_scalar(rng: np.random.Generator, far: FarCore, family: str) -> None:
    names = [name for name, f, isa, available in far.kernels() if f == family and available and isa != "scalar"]
    check_against_scalar(rng, names, family, 5, there=far)


def test_a_difference_is_found(rng: np.random.Generator) -> None:
    class Wrong:
        conv_refusal = staticmethod(core.conv_refusal)

        def conv_run(self, *arguments: object) -> dict[str, np.ndarray]:
            found = core.conv_run(*arguments)  # type: ignore[arg-type]
            found["i32"][0, 0] ^= 1
            return found

    names = [name for name, f, isa, available in core.kernels() if f == "conv_b1" and available and isa != "scalar"]
    with pytest.raises(AssertionError, match="1 accumulators differ"):
        check_against_scalar(rng, names, "conv_b1", 5, there=Wrong())


def test_errors_travel(rng: np.random.Generator, far: FarCore) -> None:
    case = random_case(rng, "conv_b1")
    case.input = case.input[:-1]
    with pytest.raises(ValueError, match="input has"):
        case.run(far, SCALAR["conv_b1"])
