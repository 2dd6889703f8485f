"""Which nodes one kernel call serves: Conv or Linear -> copies of channels -> Affine -> Add -> TwoSlope or Clamp -> Quantize
to one bit or to a byte.

A node is absorbed when nothing else needs the value in between. The float stream is still written when someone else reads it.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from bitfold.ir import ops
from bitfold.ir.encoding import Binary, Float
from bitfold.ir.graph import Graph

BLOCK = 16  # channels: a product's epilogue can write whole blocks of them more than once, and parts of a block fill one by repetition


@dataclass(frozen=True)
class Product:
    """A Conv or Linear with everything its epilogue does."""

    node: ops.Conv | ops.Linear
    copies: int = 1  # times that the output channels stand in the result, one copy after the other
    affine: ops.Affine | None = None
    residual: str | None = None
    activation: ops.TwoSlope | ops.Clamp | None = None
    quantize: ops.Quantize | None = None
    stream: str | None = None  # the value written unquantised: int32 without epilogue and affine, else float32
    absorbed: tuple[ops.Node, ...] = ()


def fuse(graph: Graph, in_bytes: Callable[[ops.Quantize], bool] = lambda node: False) -> list[ops.Node | Product]:
    """The nodes that compute the outputs, in order, with the absorbed ones inside their Product. Unused nodes are left out.

    ``in_bytes``: whether an epilogue may make the codes of a Quantize that is not Binary.
    """
    fuser = _Fuser(graph, in_bytes)
    return [step for node in _additions_last(graph) if (step := fuser.step(node)) is not None]


def _additions_last(graph: Graph) -> list[ops.Node]:
    """The live nodes; a product that only an Add reads comes right before it, when the shortcut is known and can be fused."""
    before: dict[str, list[ops.Node]] = defaultdict(list)
    order: list[ops.Node] = []
    later = {node.name: add for product in graph.live for node, add in _until_addition(graph, product)}
    for node in graph.live:
        if node.name in later:
            before[later[node.name]].append(node)
        else:
            order += [*before.pop(node.name, ()), node]
    return order


def _until_addition(graph: Graph, product: ops.Node) -> list[tuple[ops.Node, str]]:
    """A product and what its call may do before an Add, if nothing else reads it; with the Add's name."""
    if not isinstance(product, ops.Conv | ops.Linear):
        return []
    chain: list[ops.Node] = [product]
    while True:
        readers = graph.readers[chain[-1].output]
        if len({node.name for node in readers}) != 1 or chain[-1].output in graph.outputs:
            return []
        if isinstance(readers[0], ops.Add):
            return [(node, readers[0].name) for node in chain]
        if not isinstance(readers[0], ops.Affine) and not copies(graph, readers[0]):
            return []
        chain.append(readers[0])


def copies(graph: Graph, node: ops.Node) -> int:
    """How often a Concat takes the one value that it reads; 0 for any other node, and where copies do not fill whole blocks."""
    if not isinstance(node, ops.Concat) or len(set(node.xs)) != 1:
        return 0
    channels, times = graph.types[node.xs[0]].shape[0], len(node.xs)
    return times if times % repeated_weights(channels, times) == 0 and channels * repeated_weights(channels, times) % BLOCK == 0 else 0


def repeated_weights(channels: int, times: int) -> int:
    """How many of the copies are made by repeated weights, so that they fill a block; the epilogue makes the others."""
    return 1 if times == 1 else max(1, BLOCK // channels)


class _Fuser:
    def __init__(self, graph: Graph, in_bytes: Callable[[ops.Quantize], bool]) -> None:
        self.in_bytes = in_bytes
        self.graph, self.defined, self.outputs = graph, set(graph.inputs), set(graph.outputs)
        self.absorbed: set[str] = set()  # names of nodes

    def step(self, node: ops.Node) -> ops.Node | Product | None:
        if node.name in self.absorbed:
            return None
        step = self.product(node) if isinstance(node, ops.Conv | ops.Linear) else node
        self.defined.add(node.output)
        if isinstance(step, Product):
            self.absorbed.update(n.name for n in step.absorbed)
            self.defined.update(n.output for n in step.absorbed)
        return step

    def only_user(self, value: str) -> ops.Node | None:
        users = self.graph.readers[value]
        return users[0] if len(users) == 1 and value not in self.outputs else None

    def product(self, node: ops.Conv | ops.Linear) -> Product:
        """Follows the chain of single users as far as one epilogue can do it."""
        chain: list[ops.Node] = []
        value, times = node.output, 1
        affine, residual, activation = None, None, None

        readers = self.graph.readers[value]
        if readers and len(readers) == copies(self.graph, readers[0]) and value not in self.outputs and getattr(node, "groups", 1) == 1:
            times, value = len(readers), readers[0].output
            chain.append(readers[0])
        user = self.only_user(value)
        if isinstance(user, ops.Affine) and node.epilogue is None:
            affine, value = user, user.output
            chain.append(user)
        if isinstance(self.graph.types[value].element, Float):
            user = self.only_user(value)
            if isinstance(user, ops.Add) and (other := self.residual(user, value)) is not None:
                residual, value = other, user.output
                chain.append(user)
            user = self.only_user(value)
            if isinstance(user, ops.TwoSlope | ops.Clamp):
                activation, value = user, user.output
                chain.append(user)

        quantize = next((u for u in self.graph.readers[value] if isinstance(u, ops.Quantize) and self.takes(u)), None)
        stream: str | None = value
        if quantize is not None:
            chain.append(quantize)
            if self.only_user(value) is quantize:
                stream = None
        return Product(node, times, affine, residual, activation, quantize, stream, tuple(chain))

    def takes(self, node: ops.Quantize) -> bool:
        return isinstance(node.encoding, Binary) or self.in_bytes(node)

    def residual(self, add: ops.Add, value: str) -> str | None:
        """The other operand of an Add, if it is of the same shape and known before the product runs."""
        other = add.b if add.a == value else add.a
        same = self.graph.types[other].shape == self.graph.types[value].shape
        return other if other in self.defined and same else None
