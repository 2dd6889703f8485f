"""Random differential cases by the hundred thousand, of every conv kernel of this CPU: ``make test-long``, or

    python -m tests.native.long --cases 100000 --family conv_b1 --seed 7

Vector kernels run against scalar C, scalar C against NumPy; no integer may differ and floats are equal bit for bit. Most cases are small,
so that a case takes about a millisecond; one in 20 is of any size. A difference names the seed that brings it back in a few seconds.
"""

import argparse
import os
import time
from functools import partial

import numpy as np
from tests.native.test_conv_kernels import KERNELS, SCALAR, check_against_numpy, check_against_scalar

BATCH, ANY_SIZE = 500, 20
LIGHT = 100_000  # products


def sizes(rng: np.random.Generator, shape: list[int]) -> bool:
    """Whether a shape is light, or one of those that may be of any size."""
    h, w, cin, cout, kh, kw, sh, sw, *_, groups, _ = shape
    return h * w // (sh * sw) * cin * cout * kh * kw // groups <= LIGHT or rng.random() < 1 / ANY_SIZE


def run(family: str, first: int, cases: int, seed: int, minutes: float) -> None:
    """Cases [first, cases) of every kernel of the family, or as many as the time allows. AssertionError at a difference."""
    vector = [name for name, f in KERNELS if f == family and name != SCALAR[family]]
    start = shown = time.monotonic()
    done = first
    while done < cases and time.monotonic() - start < 60 * minutes:
        count = min(BATCH, cases - done)
        rng = np.random.default_rng([seed, done])
        try:
            if vector:
                check_against_scalar(rng, vector, family, count, partial(sizes, rng))
            check_against_numpy(rng, family, count, partial(sizes, rng))
        except AssertionError:
            print(f"{family}: a difference; again with --family {family} --seed {seed} --cases {done + count} --first {done}", flush=True)
            raise
        done += count
        if time.monotonic() - shown > 10 or done == cases:
            shown = time.monotonic()
            print(f"{family}: {done:,} of {cases:,} cases, {shown - start:.0f} s", flush=True)
    print(f"{family}: {done - first:,} cases, seed {seed}, 0 differences: {', '.join([SCALAR[family], *vector])}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Random differential cases of the conv kernels.")
    parser.add_argument("--cases", type=int, default=int(os.environ.get("BITFOLD_TEST_CASES", "100000")), help="of every kernel")
    parser.add_argument("--first", type=int, default=0, help="begin with this case, as a difference says")
    parser.add_argument("--family", choices=sorted(SCALAR), help="one family only")
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, which is printed")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="for each family; what was run until then counts")
    options = parser.parse_args()
    seed = int(np.random.SeedSequence().entropy) % 2**32 if options.seed is None else options.seed  # type: ignore[arg-type]
    print(f"seed {seed}, {options.cases:,} cases of every kernel", flush=True)
    for family in [options.family] if options.family else sorted(SCALAR):
        run(family, options.first, options.cases, seed, options.minutes)


if __name__ == "__main__":
    main()
