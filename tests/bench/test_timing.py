import gc
import time
from itertools import pairwise

import pytest

from bitfold.bench.timing import Timing, compare, rest


def spin(microseconds: float) -> None:
    end = time.perf_counter() + microseconds * 1e-6
    while time.perf_counter() < end:
        pass


def test_measures_known_durations_and_their_ratio():
    times = compare({"short": lambda: spin(100), "long": lambda: spin(300)}, repeats=30, min_time=1e-4)
    assert times["short"].median_us >= 100
    assert times["short"].min_us <= times["short"].q1_us <= times["short"].median_us <= times["short"].q3_us <= times["short"].max_us
    assert 2.5 < times["long"].min_us / times["short"].min_us < 3.5  # the fastest round: this machine may be busy


def test_contestants_are_interleaved():
    order: list[str] = []
    times = compare({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=5, warmup=1, min_time=1e-9)
    assert all(t.loops == 1 for t in times.values())
    assert "".join(order[-10:]) == "ababababab"


def test_every_round_lasts_min_time():
    times = compare({"fast": lambda: None}, repeats=5, min_time=0.001)
    assert times["fast"].loops > 1000
    assert times["fast"].n == 5


def test_collector_is_off_while_timing_and_back_on_after_an_error():
    seen: list[bool] = []
    compare({"probe": lambda: seen.append(gc.isenabled())}, repeats=5, warmup=1, min_time=1e-9)
    assert seen[-1] is False
    assert gc.isenabled()

    def fail_when_timed() -> None:
        if not gc.isenabled():
            raise RuntimeError("in the clock")

    with pytest.raises(RuntimeError):
        compare({"broken": fail_when_timed}, repeats=5, min_time=1e-9)
    assert gc.isenabled()


def test_max_time_stops_early_but_keeps_five_rounds():
    times = compare({"slow": lambda: spin(2000)}, repeats=1000, warmup=1, min_time=0.001, max_time=0.0)
    assert times["slow"].n == 5


def test_refuses_a_single_shot():
    with pytest.raises(ValueError, match="repeats=1"):
        compare({"x": lambda: None}, repeats=1)
    assert compare({}) == {}


def test_spread_is_the_middle_half():
    assert Timing(100.0, 90.0, 120.0, 80.0, 500.0, n=10, loops=1).spread == pytest.approx(0.3)


def test_a_contestant_with_its_own_clock_is_asked_for_its_time():
    class Elsewhere:
        def __call__(self) -> None:
            time.sleep(0.001)  # which its clock does not see

        def round(self, loops: int) -> float:
            return 5e-6

    assert compare({"elsewhere": Elsewhere()}, repeats=5)["elsewhere"].median_us == pytest.approx(5)


def test_contestants_of_several_threads_rest_before_they_are_timed():
    calls = []
    times = compare({"one": lambda: (calls.append(time.perf_counter()), spin(200))}, repeats=5, warmup=1, min_time=1e-4, rest=0.01)
    assert rest(1) == 0 and rest(2) > 0
    assert len(calls) == 1 + 1 + 2 * 5  # warm-up, calibration; then a call that is not timed before each that is
    gaps = [b - a for a, b in pairwise(calls)]
    assert sum(gap >= 0.01 for gap in gaps) >= 5 and times["one"].median_us < 10_000
