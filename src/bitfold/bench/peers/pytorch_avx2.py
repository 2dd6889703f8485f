"""PyTorch limited to AVX2, in a process of its own: its libraries choose their instructions once, while they are loaded.

The process prepares what ``pytorch`` does and times its own rounds, so that no pipe stands in the times; rounds are interleaved with those
of the other contestants as any.
"""

import os
import subprocess
import sys
import weakref

import numpy as np
import torch

from bitfold.bench.peers._base import Prepared, Subject

PRECISION = "float32"
LIMITS = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}


def available() -> str | None:
    found = torch.backends.cpu.get_cpu_capability()
    if found.startswith("AVX512"):
        return None
    return f"PyTorch uses {found} here, nothing beyond AVX2: " + ("the row pytorch is this row" if found == "AVX2" else "not an AVX2 CPU")


def prepare(subject: Subject) -> Prepared:
    remote = _Remote(subject)
    return Prepared(remote, f"own process, {remote.form}, {remote.capability}")


class _Remote:
    """A call in a process that lives as long as this object; ``round`` is what ``timing.compare`` asks for instead of timing calls."""

    def __init__(self, subject: Subject) -> None:
        self.errors, self.output = subject.folder / "pytorch_avx2.log", subject.folder / "pytorch_avx2.npy"
        given = subject.folder / "pytorch_avx2.pt"
        torch.save((subject.model, torch.from_numpy(subject.x), subject.threads), given)
        with self.errors.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bitfold.bench.peers._pytorch_process", str(given), str(self.output)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **LIMITS},
            )
        weakref.finalize(self, _end, self.process)
        self.capability, self.form = self._line().split("|")
        if self.capability != "AVX2":
            raise RuntimeError(f"PyTorch took {self.capability} in a process that was limited to AVX2")

    def __call__(self) -> np.ndarray:
        self._ask("output")
        return np.load(self.output)  # type: ignore[no-any-return]

    def round(self, loops: int) -> float:
        """Seconds per call over so many calls, by the process's own clock."""
        return float(self._ask(str(loops)))

    def _ask(self, words: str) -> str:
        assert self.process.stdin is not None
        print(words, file=self.process.stdin, flush=True)
        return self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            said = self.errors.read_text().strip().splitlines()
            raise RuntimeError(f"the process of pytorch_avx2 ended: {said[-1] if said else 'no message'}")
        return line


def _end(process: "subprocess.Popen[str]") -> None:
    """End of input ends it."""
    process.communicate()
