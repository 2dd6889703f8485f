"""Fixtures shared by all tests."""

import os
import zlib
from collections.abc import Generator

import numpy as np
import pytest

SEED_VARIABLE = "BITFOLD_TEST_SEED"  # set it to explore other random cases, or to repeat a failure


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator seeded by the test's name, so that runs repeat; the seed stands in the report of a failed test."""
    seed = int(os.environ.get(SEED_VARIABLE, zlib.crc32(request.node.nodeid.encode())))
    request.node.user_properties.append(("seed", seed))
    return np.random.default_rng(seed)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    seeds = [value for key, value in item.user_properties if key == "seed"]
    if report.failed and seeds:
        report.sections.append(("random seed", f"{SEED_VARIABLE}={seeds[-1]}"))
    return report
