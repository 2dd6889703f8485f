"""By a clock that only the contestants move: a busy machine cannot change what is found here."""

import gc
from collections.abc import Iterator
from itertools import cycle, pairwise

import pytest

from bitfold.bench import timing
from bitfold.bench.timing import Timing, compare, rest


class Clock:
    """Stands in for the module ``time``."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def lasting(clock: Clock, *microseconds: float):
    """A contestant whose calls last so long, one after the other and over again."""
    lengths: Iterator[float] = cycle(microseconds)
    return lambda: clock.sleep(next(lengths) * 1e-6)


def test_measures_known_durations_and_their_spread(clock):
    times = compare({"short": lasting(clock, 100), "long": lasting(clock, 300, 300, 600)}, repeats=30, warmup=1, min_time=9e-5)
    short, long = times["short"], times["long"]
    assert [short.min_us, short.q1_us, short.median_us, short.q3_us, short.max_us] == pytest.approx([100] * 5)
    assert [long.min_us, long.q1_us, long.median_us, long.q3_us, long.max_us] == pytest.approx([300, 300, 300, 600, 600])
    assert short.n == long.n == 30 and short.loops == long.loops == 1


def test_contestants_are_interleaved(clock):
    order: list[str] = []
    call = lasting(clock, 1)
    times = compare(
        {"a": lambda: order.append("a") or call(), "b": lambda: order.append("b") or call()}, repeats=5, warmup=1, min_time=1e-9
    )
    assert all(t.loops == 1 for t in times.values())
    assert "".join(order[-10:]) == "ababababab"


def test_every_round_lasts_min_time(clock):
    times = compare({"fast": lasting(clock, 0.1)}, repeats=5, min_time=0.001)
    assert 10_000 <= times["fast"].loops < 12_000
    assert times["fast"].n == 5 and times["fast"].median_us == pytest.approx(0.1)


def test_a_lucky_first_shot_does_not_decide_the_loops(clock):
    lengths = iter([5.0, 5.0, *([1.0] * 10_000)])  # the first of warm-up and the calibration's first are slow
    times = compare({"a": lambda: clock.sleep(next(lengths) * 1e-6)}, repeats=5, warmup=1, min_time=1e-4)
    assert times["a"].loops >= 100


def test_collector_is_off_while_timing_and_back_on_after_an_error(clock):
    seen: list[bool] = []
    call = lasting(clock, 1)
    compare({"probe": lambda: seen.append(gc.isenabled()) or call()}, repeats=5, warmup=1, min_time=1e-9)
    assert seen[-1] is False
    assert gc.isenabled()

    def fail_when_timed() -> None:
        call()
        if not gc.isenabled():
            raise RuntimeError("in the clock")

    with pytest.raises(RuntimeError):
        compare({"broken": fail_when_timed}, repeats=5, min_time=1e-9)
    assert gc.isenabled()


def test_max_time_stops_early_but_keeps_five_rounds(clock):
    times = compare({"slow": lasting(clock, 2000)}, repeats=1000, warmup=1, min_time=0.001, max_time=0.0)
    assert times["slow"].n == 5
    times = compare({"slow": lasting(clock, 2000)}, repeats=1000, warmup=1, min_time=0.001, max_time=0.0201)
    assert times["slow"].n == 11


def test_refuses_a_single_shot():
    with pytest.raises(ValueError, match="repeats=1"):
        compare({"x": lambda: None}, repeats=1)
    assert compare({}) == {}


def test_spread_is_the_middle_half():
    assert Timing(100.0, 90.0, 120.0, 80.0, 500.0, n=10, loops=1).spread == pytest.approx(0.3)


def test_a_contestant_with_its_own_clock_is_asked_for_its_time(clock):
    class Elsewhere:
        def __call__(self) -> None:
            clock.sleep(0.001)  # which its clock does not see

        def round(self, loops: int) -> float:
            return 5e-6

    assert compare({"elsewhere": Elsewhere()}, repeats=5)["elsewhere"].median_us == pytest.approx(5)


def test_contestants_of_several_threads_rest_before_they_are_timed(clock):
    starts = []
    call = lasting(clock, 200)
    times = compare({"one": lambda: starts.append(clock.now) or call()}, repeats=5, warmup=1, min_time=1e-4, rest=0.01)
    assert rest(1) == 0 and rest(2) > 0
    assert len(starts) == 1 + 1 + 2 * 5  # warm-up, calibration; then a call that is not timed before each that is
    gaps = [b - a for a, b in pairwise(starts)]
    assert gaps == pytest.approx([0.0002, 0.0102] + [0.0002, 0.0102] * 4 + [0.0002])
    assert times["one"].max_us == pytest.approx(200)
