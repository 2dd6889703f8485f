"""``_core.pyi`` says what the compiled module has: the same functions, methods, arguments and defaults."""

import ast
import importlib.util
from pathlib import Path

import pytest

import bitfold
from bitfold import _core


def surface(text: str) -> dict[str, tuple[list[str], int]]:
    """Every function and method of a stub: its arguments, and how many have defaults."""
    found = {}
    for node in ast.parse(text).body:
        inner = [(f"{node.name}.", f) for f in node.body] if isinstance(node, ast.ClassDef) else [("", node)]
        for prefix, function in inner:
            if isinstance(function, ast.FunctionDef):
                names = [a.arg for a in (*function.args.args, *function.args.kwonlyargs)]
                found[prefix + function.name] = (names, len(function.args.defaults))
    return found


@pytest.mark.native
@pytest.mark.skipif(importlib.util.find_spec("nanobind") is None, reason="nanobind is not installed")
def test_the_stub_is_that_of_the_compiled_core() -> None:
    from nanobind.stubgen import StubGen

    generated = StubGen(_core)
    generated.put(_core)
    stub = Path(bitfold.__file__).with_name("_core.pyi").read_text()
    assert surface(stub) == surface(generated.get())
