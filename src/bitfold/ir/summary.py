"""What a graph costs: bits, parameters, multiply-accumulates by bit pair, additions of distances, bytes in the file."""

from collections import Counter
from dataclasses import dataclass
from math import prod

from bitfold.ir import ops
from bitfold.ir.encoding import Accumulator, Element, Float
from bitfold.ir.file import file_size
from bitfold.ir.graph import Graph

BitPair = tuple[int, int]  # bits of the activations, bits of the weights; 32 is float32


@dataclass(frozen=True)
class Row:
    """One node. ``macs`` and ``additions`` are 0 and the bits are None unless it is a Conv, Linear or MatMul (whose weights are b)."""

    name: str
    op: str
    out_shape: tuple[int, ...]
    activation_bits: int | None
    weight_bits: int | None
    parameters: int  # elements of the constants that no earlier node has
    macs: int  # per sample; taps in the padding count, as in the literature
    size_bytes: int  # of the same constants in the file
    additions: int = 0  # of a distance, per sample: two for each |w - a|, as in the literature


@dataclass(frozen=True)
class Summary:
    """All nodes and totals. ``size_bytes`` is the size of the saved file, exactly: the rows' sum and ``header_bytes``."""

    name: str
    rows: tuple[Row, ...]
    header_bytes: int

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def size_bytes(self) -> int:
        return self.header_bytes + sum(row.size_bytes for row in self.rows)

    @property
    def macs(self) -> dict[BitPair, int]:
        """Multiply-accumulates of a sample by (activation bits, weight bits), fewest bits first."""
        total: Counter[BitPair] = Counter()
        for row in self.rows:
            if row.activation_bits is not None and row.weight_bits is not None and row.macs:
                total[row.activation_bits, row.weight_bits] += row.macs
        return dict(sorted(total.items()))

    @property
    def additions(self) -> int:
        """Of a sample, in layers that take distances; in none of the other counts."""
        return sum(row.additions for row in self.rows)

    @property
    def bops(self) -> int:
        """Binary operations: multiply-accumulates of codes with codes, times both numbers of bits."""
        return sum(macs * a * w for (a, w), macs in self.macs.items() if max(a, w) < 32)

    @property
    def flops(self) -> int:
        """Multiply-accumulates with a float32 on either side, one each."""
        return sum(macs for pair, macs in self.macs.items() if max(pair) == 32)

    @property
    def ops(self) -> float:
        """FLOPs + BOPs / 64, the common measure of papers on binary networks."""
        return self.flops + self.bops / 64

    def __str__(self) -> str:
        head = ("layer", "op", "output", "a bits", "w bits", "parameters", "MACs", "bytes")
        lines = [head, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        text = [
            "  ".join(cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True)))
            for line in lines
        ]
        text.insert(1, "-" * len(text[0]))
        macs = ", ".join(f"{a}x{w}: {count:,}" for (a, w), count in self.macs.items())
        distances = [f"additions of distances: {self.additions:,}"] if self.additions else []
        return "\n".join(
            [
                *text,
                f"{self.name}: {self.parameters:,} parameters, {self.size_bytes:,} bytes (header {self.header_bytes:,})",
                f"MACs by activation x weight bits: {macs or 'none'}",
                *distances,
                f"BOPs {self.bops:,}, FLOPs {self.flops:,}, OPs = FLOPs + BOPs / 64 = {self.ops:,.0f}",
            ]
        )


def summarize(graph: Graph) -> Summary:
    """Counts a graph; nothing is executed."""
    rows: list[Row] = []
    seen: set[str] = set()
    for node in graph.nodes:
        own = [graph.constants[name] for name in dict.fromkeys(ops.constant_names(node)) if name not in seen]
        seen.update(ops.constant_names(node))
        activation_bits, weight_bits, terms = _product(graph, node)
        distance = isinstance(node, (ops.Conv, ops.Linear)) and node.metric == ops.DISTANCE
        rows.append(
            Row(
                name=node.name,
                op=type(node).__name__,
                out_shape=graph.types[node.output].shape,
                activation_bits=activation_bits,
                weight_bits=weight_bits,
                parameters=sum(prod(constant.type.shape) for constant in own),
                macs=0 if distance else terms,
                size_bytes=sum(constant.data.nbytes for constant in own),
                additions=2 * terms if distance else 0,
            )
        )
    return Summary(graph.name, tuple(rows), file_size(graph) - sum(row.size_bytes for row in rows))


def _product(graph: Graph, node: ops.Node) -> tuple[int | None, int | None, int]:
    """Bits of activations and weights, and the number of terms: every output is a sum over one output channel's weights."""
    if isinstance(node, ops.MatMul):
        return 32, 32, matmul_terms(graph, node)
    if not isinstance(node, ops.Conv | ops.Linear):
        return None, None, 0
    weight = graph.constants[node.weight].type
    terms = prod(graph.types[node.output].shape) * prod(weight.shape[1:])
    return _bits(graph.types[node.x].element), _bits(weight.element), terms


def matmul_terms(graph: Graph, node: ops.MatMul) -> int:
    """Products of a sample."""
    return prod(graph.types[node.output].shape) * graph.types[node.a].shape[0]


def _bits(element: Element) -> int:
    return 32 if isinstance(element, (Float, Accumulator)) else element.planes


def _cells(row: Row) -> tuple[str, ...]:
    bits = ["" if b is None else str(b) for b in (row.activation_bits, row.weight_bits)]
    return (row.name, row.op, "x".join(map(str, row.out_shape)), *bits, f"{row.parameters:,}", f"{row.macs:,}", f"{row.size_bytes:,}")
