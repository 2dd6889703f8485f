"""What the file leaves out or puts together, so that the header of a small network stays small: ``docs/format.md``, sections 1 and 2.

Short forms of a node's JSON: "output" is left out where it is the node's name, the first value that the node reads where it is what
the node before made, and ".bias" stands for the node's name and ".bias", "." alone for the node's name, a dot and the field's name.
Stacks: channel constants with one beginning and one shape, such as "conv1.mul" and "conv1.bias", are one tensor "conv1.{mul,bias}".

Whatever is read here may be hostile: what has not the form that ``shorten`` writes is left as it is, and the graph's own checks refuse it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bitfold.errors import FormatError
from bitfold.ir import ops
from bitfold.ir.infer import MAX_NAME
from bitfold.ir.schema import short

MAX_STACK = 8  # constants in one tensor


def shorten(nodes: Any, first_input: str) -> list[Any]:
    """Nodes as JSON objects with all fields -> with short forms."""
    before, result = first_input, []
    for node in nodes:
        name, value = node["name"], ops.OPS[node["type"]].INPUTS[0]
        brief = {**node, **_renamed(node, lambda field, text, name=name: _relative(field, text, name))}
        if node["output"] == name:
            del brief["output"]
        if node[value] == before:
            del brief[value]
        before = node["output"]
        result.append(brief)
    return result


def expand(nodes: Any, inputs: Any) -> Any:
    """The inverse of ``shorten``; ``inputs`` as in the document."""
    try:
        before = inputs[0][0]
    except (TypeError, LookupError):
        before = None
    result = []
    for node in nodes if isinstance(nodes, list) else ():
        name = node.get("name") if isinstance(node, dict) else None
        if not isinstance(name, str) or len(name) > MAX_NAME or not isinstance(node.get("type"), str) or node["type"] not in ops.OPS:
            result.append(node)
            before = None
            continue
        full = {**node, **_renamed(node, lambda field, text, name=name: _absolute(field, text, name))}
        full.setdefault("output", name)
        if isinstance(before, str):
            full.setdefault(ops.OPS[node["type"]].INPUTS[0], before)
        before = full["output"]
        result.append(full)
    return result if isinstance(nodes, list) else nodes


def _renamed(node: dict[str, Any], rename: Any) -> dict[str, Any]:
    """The fields of a node that name values or constants, renamed; the epilogue's too. Fields that are no text stay away."""
    op = ops.OPS[node["type"]]
    found = {field: rename(field, node[field]) for field in (*op.INPUTS, *op.CONSTANTS, "output") if isinstance(node.get(field), str)}
    if isinstance(epilogue := node.get("epilogue"), dict):
        found["epilogue"] = {field: rename(field, text) if isinstance(text, str) else text for field, text in epilogue.items()}
    return found


def _relative(field: str, text: str, name: str) -> str:
    if text == f"{name}.{field}":
        return "."
    rest = text.removeprefix(name)
    return rest if rest != text and rest.startswith(".") and rest != "." else text


def _absolute(field: str, text: str, name: str) -> str:
    if text == ".":
        return f"{name}.{field}"
    return name + text if text.startswith(".") else text


# ---- stacks ---------------------------------------------------------------------------------------------------------------------


def stacked(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, ...]]:
    """The tensors of the file, by name: one constant or several. A stack stands where its first member stood."""
    groups: dict[tuple[str, int], list[str]] = {}
    for name, array in arrays.items():
        if array.dtype == np.float32 and array.ndim == 1 and not set("{},") & set(_last(name)):
            groups.setdefault((name.removesuffix(_last(name)), len(array)), []).append(name)
    leader, member_of = {}, {}
    for (prefix, _), names in groups.items():
        for i in range(0, len(names), MAX_STACK):
            part = names[i : i + MAX_STACK]
            if len(part) > 1:
                leader[part[0]] = (f"{prefix}{{{','.join(map(_last, part))}}}", tuple(arrays[name] for name in part))
                member_of.update(dict.fromkeys(part[1:], part[0]))
    return dict(leader.get(name, (name, (array,))) for name, array in arrays.items() if name not in member_of)


def unstacked(arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """The constants of the file's tensors. FormatError for a stack of another form than ``stacked`` writes."""
    for name, array in arrays.items():
        if not name.endswith("}"):
            yield name, array
            continue
        prefix, brace, inner = name[:-1].rpartition("{")
        members = inner.split(",")
        if not brace or array.dtype != np.float32 or array.ndim != 2 or not 2 <= len(members) <= MAX_STACK or len(members) != len(array):
            allowed = f"float32 (names, channels) and 2 to {MAX_STACK} names in braces"
            raise FormatError(f"tensor {short(name)} is {array.dtype} {array.shape}; allowed for a stack: {allowed}")
        yield from ((prefix + member, row) for member, row in zip(members, array, strict=True))


def _last(name: str) -> str:
    return name.rpartition(".")[2]
