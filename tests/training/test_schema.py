"""Strict tables and their TOML text."""

import math
import tomllib
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitfold.errors import ConfigError
from bitfold.training.schema import build, to_toml


@dataclass(frozen=True)
class Inner:
    size: int = field(default=1, metadata={"min": 1, "max": 8})


@dataclass(frozen=True)
class Outer:
    rate: float = field(metadata={"above": 0})
    kind: Literal["a", "bee"] = "a"
    flag: bool = False
    names: tuple[str, ...] = ()
    inner: Inner = Inner()
    rows: tuple[Inner, ...] = ()
    limit: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Inner] = field(default_factory=dict)


def test_converts_only_what_is_safe() -> None:
    made = build(Outer, {"rate": 1, "names": ["x"], "inner": {"size": 2}, "rows": [{"size": 3}], "options": {"k": [1, 2]}}, "f.toml")
    assert made == Outer(rate=1.0, names=("x",), inner=Inner(2), rows=(Inner(3),), options={"k": (1, 2)})
    assert isinstance(made.rate, float)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, ["f.toml", "rate is missing", "a number"]),
        ({"rate": "1"}, ["rate = '1'", "a number"]),
        ({"rate": True}, ["rate = True", "a number"]),
        ({"rate": 0}, ["rate = 0.0", "> 0"]),
        ({"rate": math.nan}, ["rate = nan"]),
        ({"rate": 1, "flag": 1}, ["flag = 1", "true or false"]),
        ({"rate": 1, "limit": 1.0}, ["limit = 1.0", "a whole number"]),
        ({"rate": 1, "kind": "be"}, ["'be'", "did you mean 'bee'", "a, bee"]),
        ({"rate": 1, "kind": 1}, ["kind = 1", "one of 'a', 'bee'"]),
        ({"rate": 1, "names": "x"}, ["names = 'x'", "a list of text"]),
        ({"rate": 1, "names": ["x", 2]}, ["names.1 = 2", "text"]),
        ({"rate": 1, "rows": [{"size": 3}, {"size": 9}]}, ["rows.1.size = 9", ">= 1 and <= 8"]),
        ({"rate": 1, "inner": {"siez": 3}}, ["unknown key 'inner.siez'", "did you mean 'inner.size'"]),
        ({"rate": 1, "inner": 3}, ["inner = 3", "a table"]),
        ({"rate": 1, "parts": {"x": {"size": 9}}}, ["parts.x.size = 9", ">= 1 and <= 8"]),
        ({"rate": 1, "parts": {"x": {"siez": 3}}}, ["unknown key 'parts.x.siez'"]),
    ],
)
def test_mistakes_name_the_key_and_what_is_allowed(table: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        build(Outer, table, "f.toml")
    for word in words:
        assert word in str(caught.value)


_scalars = st.one_of(
    st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False), st.text("a \"'\\\n\t\x00\x1f\x7fé€😀#=[]", max_size=8)
)
_keys = st.text("abcxyz_", min_size=1, max_size=4)
_tables = st.recursive(
    st.dictionaries(_keys, st.one_of(_scalars, st.lists(st.integers(), max_size=3)), max_size=4),
    lambda inner: st.dictionaries(_keys, st.one_of(_scalars, inner, st.lists(inner, min_size=1, max_size=2)), max_size=4),
    max_leaves=8,
)


@given(_tables)
def test_toml_reads_back(table: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(table)) == table


def test_named_tables_are_built_too() -> None:
    assert build(Outer, {"rate": 1, "parts": {"x": {"size": 2}, "y": {}}}, "f").parts == {"x": Inner(2), "y": Inner(1)}


def test_tables_within_lists_of_other_things_keep_their_place() -> None:
    table = {
        "options": {"also": ["plain", {"method": "wrapped", "base": {"method": "inner", "n": [1, 2]}}]},
        "rows": [{"size": 1}, {"size": 2}],
    }
    assert tomllib.loads(to_toml(table)) == table
