"""Random differential cases by the hundred thousand, of every conv kernel of this CPU: ``make test-long``, or

    python -m tests.native.long --cases 100000 --family conv_b1 --seed 7

On every case every kernel of the family that serves the shape runs against scalar C, until each kernel has run so many; one case in
NUMPY_EVERY of scalar C is compared with NumPy as well, at least one of every shape that is drawn. A shape has EACH cases, with encodings,
epilogue and data of their own. No integer may differ and floats are equal bit for bit. Most cases are small (LIGHT products; one in
ANY_SIZE of the larger ones that are drawn is kept), so that one takes a millisecond or two. Batches of BATCH cases run in --jobs processes,
and each has its own seed; a difference names the command that brings it back in a few seconds.

``--far COMMAND``: the kernels of the core that COMMAND starts (``tests.native.far`` under an emulator) against scalar C of this machine.
"""

import argparse
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import numpy as np
from tests.native.far import FarCore
from tests.native.test_conv_kernels import SCALAR, check_against_scalar

from bitfold import _core

BATCH, ANY_SIZE = 500, 50
EACH = NUMPY_EVERY = 4
LIGHT = 20_000  # products

Job = tuple[str, str, str, int, int, int]  # family, isa, command of a far core, first case, last case, seed


@cache
def core(far: str) -> Any:
    """The core of this process, or the far one of this process."""
    return FarCore(far) if far else _core


def sizes(rng: np.random.Generator, shape: list[int]) -> bool:
    """Whether a shape is light, or one of those that may be of any size."""
    h, w, cin, cout, kh, kw, sh, sw, *_, groups, _ = shape
    return h * w // (sh * sw) * cin * cout * kh * kw // groups <= LIGHT or rng.random() < 1 / ANY_SIZE


def batch(job: Job) -> tuple[str, int, str | None]:
    """(family, cases run, the difference or None) of the cases [first, last) of a family."""
    family, isa, far, first, last, seed = job
    rng = np.random.default_rng([seed, first])
    try:
        check_against_scalar(rng, kernels(family, isa, far), family, last - first, partial(sizes, rng), EACH, NUMPY_EVERY, core(far))
    except AssertionError as difference:
        again = f"python -m tests.native.long --family {family} --isa '{isa}' --far '{far}' --seed {seed} --first {first} --cases {last}"
        return family, last - first, f"{family}: a difference, again with: {again}\n{difference}"
    return family, last - first, None


def kernels(family: str, isa: str, far: str) -> list[str]:
    """The scalar kernel first, unless it would travel too; ``isa``: of the others only those of one instruction set, if it is not empty."""
    names = [name for name, f, _, available in core(far).kernels() if f == family and available and name.endswith(isa)]
    return [SCALAR[family]] * (not far) + [name for name in names if name != SCALAR[family]]


def results(jobs: list[Job], processes: int) -> Iterator[tuple[str, int, str | None]]:
    if processes == 1:
        yield from map(batch, jobs)
        return
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from pool.imap_unordered(batch, jobs)


def run(families: list[str], isa: str, far: str, first: int, cases: int, seed: int, processes: int) -> int:
    """Differences found in the cases [first, cases) of every kernel of the families."""
    jobs = [(family, isa, far, at, min(at + BATCH, cases), seed) for family in families for at in range(first, cases, BATCH)]
    start, done, failed = time.monotonic(), Counter[str](), 0
    for family, count, difference in results(jobs, processes):
        done[family] += count
        if difference is not None:
            failed += 1
            print(difference, flush=True)
        if done[family] % (20 * BATCH) == 0 or done[family] == cases - first:
            print(f"{family}: {done[family]:,} of {cases - first:,} cases, {time.monotonic() - start:.0f} s", flush=True)
    minutes = (time.monotonic() - start) / 60
    for family in families:
        print(
            f"{family}: {done[family]:,} cases of each of {', '.join(kernels(family, isa, far))}; one in {NUMPY_EVERY} against NumPy",
            flush=True,
        )
    print(f"seed {seed}, {minutes:.1f} minutes, {processes} processes: {failed} batches with differences", flush=True)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description="Random differential cases of the conv kernels.")
    parser.add_argument("--cases", type=int, default=int(os.environ.get("BITFOLD_TEST_CASES", "100000")), help="of every kernel")
    parser.add_argument("--first", type=int, default=0, help="begin with this case, as a difference says")
    parser.add_argument("--family", choices=sorted(SCALAR), help="one family only")
    parser.add_argument(
        "--isa", choices=["", "avx2", "avx512", "neon"], default="", help="kernels of one instruction set only, and scalar C"
    )
    parser.add_argument("--far", default="", metavar="COMMAND", help="starts the core whose kernels are run; default: this one")
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, which is printed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; default: one per core")
    options = parser.parse_args()
    seed = int(np.random.SeedSequence().entropy) % 2**32 if options.seed is None else options.seed  # type: ignore[arg-type]
    print(f"seed {seed}, {options.cases:,} cases of every kernel", flush=True)
    families = [options.family] if options.family else sorted(SCALAR)
    raise SystemExit(1 if run(families, options.isa, options.far, options.first, options.cases, seed, options.jobs) else 0)


if __name__ == "__main__":
    main()
