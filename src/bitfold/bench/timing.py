"""Interleaved medians: the only way times are taken in this project.

All contestants run in turn, round after round, so that a machine whose speed drifts slows all of them alike. A round of a contestant
is a loop of calls long enough for the clock; the time of one call is the round's time divided by the loop count. The garbage
collector is off while the clock runs. Rounds are short, a millisecond or one call, so that on a shared machine most of them fit between
two interruptions and the median stays that of the work. Quote the median, judge the noise by the quartiles, compare only within one call.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Timing:
    """Microseconds per call over ``n`` rounds of ``loops`` calls each."""

    median_us: float
    q1_us: float
    q3_us: float
    min_us: float
    max_us: float
    n: int
    loops: int

    @staticmethod
    def of(samples_us: Iterable[float], loops: int) -> "Timing":
        """The summary of at least two rounds, each given in microseconds per call."""
        us = sorted(samples_us)
        q1, median, q3 = statistics.quantiles(us, n=4, method="inclusive")
        return Timing(median, q1, q3, us[0], us[-1], len(us), loops)

    @property
    def spread(self) -> float:
        """Interquartile range as a share of the median: above about 0.1 the machine was noisy."""
        return (self.q3_us - self.q1_us) / self.median_us if self.median_us > 0 else 0.0


def compare(
    contestants: Mapping[str, Callable[[], Any]],
    repeats: int = 50,
    warmup: int = 3,
    min_time: float = 0.001,
    max_time: float = 60.0,
    rest: float = 0.0,
) -> dict[str, Timing]:
    """Times all contestants against each other. Seconds: ``min_time`` is the least time of one round of one contestant;
    ``max_time`` bounds the whole (fewer rounds then, but never under five: the bound gives way before the median does);
    ``rest``, if not 0, is slept before every round, and a call that is not timed follows it."""
    if repeats < 5:
        raise ValueError(f"compare: repeats={repeats}; at least 5 rounds make a median with quartiles")
    if not contestants:
        return {}
    loops = {}
    for name, call in contestants.items():
        for _ in range(max(1, warmup)):
            call()
        loops[name] = _calibrate(call, min_time)
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    deadline = time.perf_counter() + max_time
    with collector_off():
        for done in range(repeats):
            if done >= 5 and time.perf_counter() > deadline:
                break
            for name, call in contestants.items():
                if rest > 0:
                    time.sleep(rest)
                    call()
                samples[name].append(seconds_per_call(call, loops[name]))
    return {name: Timing.of((1e6 * s for s in seconds), loops[name]) for name, seconds in samples.items()}


def rest(threads: int) -> float:
    """Of ``compare``: threads of the contestant before still look for work, on cores that the next one needs, and then fall asleep."""
    return 0.02 if threads > 1 else 0.0


def seconds_per_call(call: Callable[[], Any], loops: int) -> float:
    """Of one round. A contestant in another process has its own clock: its attribute ``round`` takes the loops and gives the seconds."""
    own_clock: Callable[[int], float] | None = getattr(call, "round", None)
    if own_clock is not None:
        return own_clock(loops)
    start = time.perf_counter()
    for _ in range(loops):
        call()
    return (time.perf_counter() - start) / loops


def _calibrate(call: Callable[[], Any], min_time: float) -> int:
    """The loop count whose round takes at least ``min_time``; found by doubling, so a lucky first shot cannot decide it."""
    loops = 1
    while True:
        elapsed = seconds_per_call(call, loops) * loops
        if elapsed >= min_time:
            return loops
        grow = 2.0 if elapsed <= 0 else min(10.0, max(1.2, 1.1 * min_time / elapsed))
        loops = int(loops * grow) + 1


@contextmanager
def collector_off() -> Iterator[None]:
    """No garbage collection inside; as before outside."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
