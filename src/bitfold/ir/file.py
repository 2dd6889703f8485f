"""The file ``*.bitfold``: a safetensors file whose metadata holds the graph as JSON. ``docs/format.md`` specifies both.

A file may come from anywhere. The reader checks every count, name, shape and offset before it uses it, maps the file instead of
copying it, and raises nothing but FormatError for what is inside (and OSError when the file cannot be opened).
"""

import json
import mmap
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Union

import numpy as np

from bitfold.errors import FormatError, GraphError
from bitfold.ir import ops
from bitfold.ir.encoding import Float
from bitfold.ir.graph import Constant, Graph, TensorType
from bitfold.ir.schema import decode, encode, short
from bitfold.ir.shorthand import expand, shorten, stacked, unstacked

VERSION = 1
MAX_HEADER = 1 << 24  # bytes
MAX_TENSORS = 1 << 16
MAX_RANK = 8

_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "I32": np.dtype("<i4"), "U8": np.dtype("u1")}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


@dataclass(frozen=True)
class Document:
    """The JSON text under "bitfold" in the metadata."""

    version: int
    name: str
    inputs: tuple[tuple[str, TensorType], ...]
    nodes: tuple[Union[tuple(ops.OPS.values())], ...]  # type: ignore[valid-type]  # noqa: UP007
    outputs: tuple[str, ...]
    constants: tuple[tuple[str, TensorType], ...]  # of the tensors that are not F32; F32 tensors are Float constants of their shape
    metadata: tuple[tuple[str, str], ...] = ()


# ---- writing --------------------------------------------------------------------------------------------------------------------


def save(graph: Graph, path: str | Path) -> int:
    """Writes the graph; the same graph gives the same bytes. Either the whole file appears under ``path`` or nothing. Returns its size."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(header(graph))
            for arrays in _tensors(graph.constants).values():
                for array in arrays:
                    file.write(array.data)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return size


def file_size(graph: Graph) -> int:
    """Bytes that ``save`` writes."""
    return len(header(graph)) + sum(constant.data.nbytes for constant in graph.constants.values())


def header(graph: Graph) -> bytes:
    """The length (8 bytes, little-endian) and the JSON header, padded with spaces to a multiple of 8."""
    tensors = _tensors(graph.constants)
    document = Document(
        version=VERSION,
        name=graph.name,
        inputs=tuple(graph.inputs.items()),
        nodes=graph.nodes,
        outputs=graph.outputs,
        constants=tuple((name, graph.constants[name].type) for name, (array, *_) in tensors.items() if array.dtype != np.float32),
        metadata=tuple(graph.metadata.items()),
    )
    data: Any = encode(document, Document)
    data["nodes"] = shorten(data["nodes"], next(iter(graph.inputs)))
    table: dict[str, Any] = {"__metadata__": {"bitfold": _dumps(data)}}
    begin = 0
    for name, arrays in tensors.items():
        end = begin + sum(array.nbytes for array in arrays)
        shape = arrays[0].shape if len(arrays) == 1 else (len(arrays), *arrays[0].shape)
        table[name] = {"dtype": _NAMES[arrays[0].dtype], "shape": shape, "data_offsets": [begin, end]}
        begin = end
    text = _dumps(table).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise GraphError(f"graph {graph.name!r} needs a header of {len(text)} bytes; allowed: {MAX_HEADER}")
    return len(text).to_bytes(8, "little") + text


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _tensors(constants: Mapping[str, Constant]) -> dict[str, tuple[np.ndarray, ...]]:
    """The file's tensors in their order, each of one constant or several. Those of 32 bits first, so that all are aligned in the file."""
    arrays = {name: constant.data for name, constant in constants.items()}
    return dict(sorted(stacked(arrays).items(), key=lambda item: -item[1][0].itemsize))


# ---- reading --------------------------------------------------------------------------------------------------------------------


def load(path: str | Path) -> Graph:
    """Reads and validates a file; constants are read-only views of the mapped file. FormatError if anything in it is wrong."""
    try:
        return _load(Path(path))
    except (FormatError, GraphError) as error:
        raise FormatError(f"{path}: {error}") from None


def _load(path: Path) -> Graph:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < 16:
            raise FormatError(f"the file has {size} bytes; a bitfold file has at least 16")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    length = int.from_bytes(mapped[:8], "little")
    if length > min(MAX_HEADER, size - 8):
        raise FormatError(f"the header is said to have {length} bytes; allowed: up to {min(MAX_HEADER, size - 8)} in this file")
    table = _parse(mapped[8 : 8 + length], "header")
    metadata = table.pop("__metadata__", None)
    if not isinstance(metadata, dict) or not isinstance(metadata.get("bitfold"), str):
        raise FormatError("the metadata has no text 'bitfold': a safetensors file perhaps, but not a bitfold file")
    document = _document(metadata["bitfold"])
    constants = _constants(_arrays(table, mapped, 8 + length), dict(document.constants))
    return Graph(dict(document.inputs), document.nodes, document.outputs, constants, document.name, dict(document.metadata))


def _constants(tensors: dict[str, np.ndarray], listed: dict[str, TensorType]) -> dict[str, Constant]:
    arrays: dict[str, np.ndarray] = {}
    for name, array in unstacked(tensors):
        if name in arrays:
            raise FormatError(f"constant {short(name)} stands in two tensors")
        arrays[name] = array
    if missing := listed.keys() - arrays.keys():
        raise FormatError(f"graph: constant {short(min(missing))} has no tensor")
    for name, array in arrays.items():
        if name not in listed and array.dtype != np.float32:
            raise FormatError(f"tensor {short(name)} is {_NAMES[array.dtype]} but not among the constants of the graph")
    return {name: Constant(listed.get(name, TensorType(array.shape, Float())), array) for name, array in arrays.items()}


def _document(text: str) -> Document:
    data = _parse(text, "graph")
    if data.get("version") != VERSION:
        raise FormatError(f"graph version is {short(data.get('version'))}; this bitfold reads version {VERSION}")
    data["nodes"] = expand(data.get("nodes"), data.get("inputs"))
    document: Document = decode(data, Document)
    for kind, pairs in (("inputs", document.inputs), ("constants", document.constants), ("metadata", document.metadata)):
        if len({name for name, _ in pairs}) != len(pairs):
            raise FormatError(f"graph: a name stands twice in {kind}")
    return document


def _parse(text: bytes | str, what: str) -> dict[str, Any]:
    """A JSON object; refuses duplicate keys, NaN and infinities, deep nesting and bytes that are not UTF-8."""
    try:
        data = json.loads(text.decode() if isinstance(text, bytes) else text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # ValueError: also of UnicodeDecodeError and of integers with too many digits
        raise FormatError(f"{what} is not valid JSON: {str(error)[:200]!a}") from None
    if not isinstance(data, dict):
        raise FormatError(f"{what} is not a JSON object")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice in an object")
    return result


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _arrays(table: dict[str, Any], mapped: mmap.mmap, start: int) -> dict[str, np.ndarray]:
    """Views of the tensors. They must lie one after the other and fill the rest of the file."""
    if len(table) > MAX_TENSORS:
        raise FormatError(f"the file has {len(table)} tensors; allowed: up to {MAX_TENSORS}")
    places = {name: _place(name, entry) for name, entry in table.items()}
    arrays = {}
    end = 0
    for name, (dtype, shape, first, last) in sorted(places.items(), key=lambda item: item[1][2]):
        if first != end or last > len(mapped) - start:
            raise FormatError(f"tensor {short(name)}: bytes {first} to {last}; allowed: from {end} on, {len(mapped) - start} at most")
        if (start + first) % dtype.itemsize:
            raise FormatError(f"tensor {short(name)}: begins at byte {start + first}; allowed: a multiple of {dtype.itemsize}")
        arrays[name] = np.frombuffer(mapped, dtype, prod(shape), start + first).reshape(shape)
        end = last
    if end != len(mapped) - start:
        raise FormatError(f"the tensors fill {end} of {len(mapped) - start} bytes after the header")
    return arrays


def _place(name: str, entry: Any) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    """dtype, shape, first byte and end of a tensor, consistent with each other."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"tensor {short(name)}: got {short(entry)}; allowed: an object of dtype, shape, data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise FormatError(f"tensor {short(name)}: dtype {short(dtype)}; allowed: {', '.join(_DTYPES)}")
    if not _are_counts(shape, 1) or len(shape) > MAX_RANK:
        raise FormatError(f"tensor {short(name)}: shape {short(shape)}; allowed: up to {MAX_RANK} sizes of 1 or more")
    if not _are_counts(offsets, 0) or len(offsets) != 2 or offsets[1] - offsets[0] != prod(shape) * _DTYPES[dtype].itemsize:
        raise FormatError(f"tensor {short(name)}: data_offsets {short(offsets)} do not agree with {dtype} {short(shape)}")
    return _DTYPES[dtype], tuple(shape), offsets[0], offsets[1]


def _are_counts(value: Any, least: int) -> bool:
    return isinstance(value, list) and all(type(n) is int and least <= n < 1 << 63 for n in value)
