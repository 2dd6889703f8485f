"""The core of another machine, called from this one: cases are made, computed by scalar C and compared here, where that is fast, and only
the calls of kernels travel, through a pipe, to a Python under emulation (``python -m tests.native.far`` there).

A message is two lengths, JSON, and the bytes of its arrays one after the other; an array's place in the JSON holds its type and shape.
"""

import json
import shlex
import struct
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from bitfold import _core

LENGTHS = struct.Struct("<QQ")


def send(stream: BinaryIO, value: Any) -> None:
    data: list[bytes] = []

    def described(array: np.ndarray) -> dict[str, Any]:
        data.append(array.tobytes())
        return {"dtype": array.dtype.str, "shape": array.shape}

    text, together = json.dumps(value, default=described).encode(), b"".join(data)
    stream.write(LENGTHS.pack(len(text), len(together)) + text + together)
    stream.flush()


def receive(stream: BinaryIO) -> Any:
    """The next message; EOFError where the other side has ended."""
    lengths = LENGTHS.unpack(exactly(stream, LENGTHS.size))
    text, data = (exactly(stream, length) for length in lengths)
    at = 0

    def array(found: dict[str, Any]) -> Any:
        nonlocal at
        if "dtype" not in found:
            return found
        here = np.ndarray(found["shape"], found["dtype"], data, at)
        at += here.nbytes
        return here

    return json.loads(text, object_hook=array)  # which sees the arrays in the order in which they were described


def exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError(f"the other side of the pipe has ended: {len(data)} of {count} bytes")
    return data


class FarCore:
    """``kernels``, ``conv_refusal`` and ``conv_run`` of the core that ``command`` starts, until ``close`` or the end of this process."""

    def __init__(self, command: str) -> None:
        self._process = subprocess.Popen(shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def _call(self, function: str, arguments: Sequence[Any]) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        send(self._process.stdin, [function, arguments])
        answer = receive(self._process.stdout)
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer["result"]

    def close(self) -> None:
        self._process.communicate()

    def kernels(self) -> list[tuple[str, str, str, bool]]:
        return [tuple(row) for row in self._call("kernels", [])]

    def conv_refusal(self, kernel: str, shape: list[int]) -> str | None:
        return self._call("conv_refusal", [kernel, shape])  # type: ignore[no-any-return]

    def conv_run(self, *arguments: Any) -> dict[str, np.ndarray]:
        return self._call("conv_run", arguments)  # type: ignore[no-any-return]


def serve(asked: BinaryIO, answered: BinaryIO) -> None:
    """Calls the core of this process until the other side ends."""
    functions = {"kernels": _core.kernels, "conv_refusal": _core.conv_refusal, "conv_run": _core.conv_run}
    while True:
        try:
            name, arguments = receive(asked)
        except EOFError:
            return
        try:
            answer = {"result": functions[name](*arguments)}
        except ValueError as error:
            answer = {"error": str(error)}
        send(answered, answer)


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
