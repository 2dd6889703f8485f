"""Holds the import table of docs/design.md, section 3, and the promise that the engine never waits for PyTorch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import bitfold

SOURCE = Path(__file__).parent.parent / "src" / "bitfold"
MAY_IMPORT = {  # besides itself, errors and the standard library
    "errors": set(),
    "ir": {"numpy", "safetensors"},
    "engine": {"ir", "_core", "numpy"},
    "quantizers": {"ir", "torch", "numpy"},
    "layers": {"quantizers", "ir", "torch"},
    "methods": {"layers", "quantizers", "ir", "torch", "numpy"},
    "models": {"layers", "torch"},
    "data": {"torch", "numpy", "PIL", "datasets", "kornia", "sklearn"},
    "tasks": {"data", "torch"},
    "training": {
        "methods",
        "models",
        "layers",
        "quantizers",
        "data",
        "tasks",
        "ir",
        *("torch", "numpy", "lightning_fabric", "safetensors", "rich"),
    },
    "importers": {"training", "data", "torch"},
    "export": {"ir", "engine", "layers", "quantizers", "torch", "numpy"},  # the engine in verify
    "bench": {
        "engine",
        "_core",
        "export",
        "ir",
        "layers",
        "models",
        "methods",
        *("torch", "numpy", "onnx", "onnxruntime", "openvino", "nncf"),
    },
    "report": {"bench", "ir", "numpy", "plotly"},
}
TOP = {"__init__", "__main__", "cli", "commands", "demo"}  # these may import everything
MODULES = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))


def part_of(module: Path) -> str:
    """The package of the table that a file belongs to."""
    return module.parts[0].removesuffix(".py")


def imports(tree: ast.AST, *, when_loaded: bool = False) -> Iterator[str]:
    """Dotted names that a file imports; ``when_loaded``: leaves out what functions and TYPE_CHECKING blocks import."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not (when_loaded and (isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or is_type_checking(node))):
            yield from imports(node, when_loaded=when_loaded)


def through_the_facade(tree: ast.AST) -> Iterator[str]:
    """What a file reaches as ``bitfold.name`` after ``import bitfold``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "bitfold":
            yield bitfold._LAZY.get(node.attr, f"bitfold.{node.attr}")


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def parsed(module: Path) -> ast.Module:
    return ast.parse((SOURCE / module).read_text())


def test_every_package_is_in_the_table():
    assert {part_of(module) for module in MODULES} <= MAY_IMPORT.keys() | TOP


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_point_downwards(module):
    part = part_of(module)
    if part in TOP:
        return
    tree = parsed(module)
    for name in (*imports(tree), *through_the_facade(tree)):
        package, _, rest = name.partition(".")
        if package == "bitfold":
            imported, free = rest.split(".")[0], {part, "errors", "__version__", "__file__", ""}
        else:
            imported, free = package, sys.stdlib_module_names
        assert imported in MAY_IMPORT[part] | free, f"{module} imports {name}; {part} may import {sorted(MAY_IMPORT[part])}"


def test_files_of_a_package_do_not_import_each_other_in_a_circle():
    known = {".".join(("bitfold", *module.with_suffix("").parts)).removesuffix(".__init__"): module for module in MODULES}
    graph: dict[str, set[str]] = {}
    for name, module in known.items():
        found = set(imports(parsed(module), when_loaded=True))
        graph[name] = {target for each in found for target in (each, each.rpartition(".")[0]) if target in known and target != name}
        graph[name].discard("bitfold")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports in a circle: {' -> '.join(reversed(error.args[1]))}")


def loaded_by(statement: str) -> set[str]:
    """Top-level modules outside the standard library that a fresh interpreter loads for a statement."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*{{m.split('.')[0] for m in set(sys.modules) - before}})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split()) - set(sys.stdlib_module_names)


def test_import_loads_nothing_else():
    assert loaded_by("import bitfold") == {"bitfold"}


def test_graphs_need_numpy_only():
    assert loaded_by("import bitfold; bitfold.Graph; bitfold.interpret; bitfold.BitfoldError") <= {"bitfold", "numpy", "safetensors"}


@pytest.mark.native
def test_the_engine_needs_no_torch():
    assert loaded_by("import bitfold; bitfold.load; bitfold.Engine") <= {"bitfold", "numpy", "safetensors"}


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="nothing_like_this"):
        bitfold.nothing_like_this  # noqa: B018
    assert "load" in dir(bitfold)
