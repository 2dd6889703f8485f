"""In which form each value is held, from what its readers want; and the steps that follow from it, conversions included."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bitfold.engine.forced import Forced
from bitfold.engine.fuse import Product, fuse
from bitfold.engine.operations import convert_step, node_step, reading_form
from bitfold.engine.product import choice_for, codes_form, patch_sum_buffer, product_step
from bitfold.engine.step import LANES, Buffer, Slot, Step, buffer, natural_form, rounded
from bitfold.ir import ops
from bitfold.ir.encoding import Accumulator, Float, Ternary, Uniform
from bitfold.ir.graph import Graph

QUANTIZED = ("bits", "u8", "i16")  # of the forms that are wanted, a quantiser makes the smallest; the others are converted from it

MOST_LEVELS = 16  # of a Quantize that an epilogue counts one by one; above, ``plan.quantize`` searches


class Forms:
    """``buffers`` lists every slot after ``steps()``."""

    def __init__(self, graph: Graph, forced: Forced) -> None:
        self.graph = graph
        products = [node for node in graph.live if isinstance(node, ops.Conv | ops.Linear)]
        forced.check_layers(node.name for node in products)
        self.choices = {node.name: choice_for(graph, node, forced) for node in products}
        self.units = fuse(graph, self._made_in_bytes)
        self.alias = _flattened_pixels(graph)
        self.parts = channel_parts(graph, self.units, self.alias)
        self.wanted = self._wanted()
        self.whole_blocks = self._read_in_blocks()
        self.buffers: dict[Slot, Buffer] = {}

    def slot(self, value: str, form: str) -> Slot:
        return Slot(self.alias.get(value, value), form)

    def door(self, value: str) -> str:
        """The form of graph inputs and outputs: bytes where the caller's array holds them."""
        element = self.graph.types[value].element
        if isinstance(element, Uniform) and element.bits == 8 and not element.signed:
            return "u8"
        return "f32" if isinstance(element, Float) else "i32" if isinstance(element, Accumulator) else "i16"

    def steps(self) -> list[Step]:
        steps: list[Step] = []
        for name in self.graph.inputs:
            self._define(name, self.door(name), dense=self._is_picture(name))
            steps += self._conversions(name, self.door(name), name)
        for unit in self.units:
            if isinstance(unit, Product):
                steps += self._product(unit)
            elif unit.output not in self.alias:
                form = self._made_as(unit)
                self._define(unit.output, form)
                steps.append(node_step(self.graph, unit, form, self.slot))
                steps += self._conversions(unit.output, form, unit.name)
        return steps

    def _product(self, unit: Product) -> list[Step]:
        choice = self.choices[unit.node.name]
        if unit.stream is not None:
            self._define(unit.stream, self.door(unit.stream))
        if unit.quantize is not None:
            self._define(unit.quantize.output, codes_form(unit.quantize))
        sums = patch_sum_buffer(self.graph, unit, choice)
        if sums is not None:
            self.buffers[Slot(unit.node.output, "sums")] = sums
        steps = [product_step(self.graph, unit, choice, sums is not None, self.slot)]
        if unit.quantize is not None:
            steps += self._conversions(unit.quantize.output, codes_form(unit.quantize), unit.quantize.name)
        return steps

    def _define(self, value: str, form: str, *, dense: bool = False) -> None:
        made = buffer(self.graph.types[value], form, dense=dense)
        if value in self.parts and form == "f32":
            root, at = self._root(value)
            made = replace(made, stride=rounded(self.graph.types[root].shape[0]), root=Slot(root, form), at=at)
        self.buffers[Slot(value, form)] = made

    def _root(self, value: str) -> tuple[str, int]:
        """The value that has the memory of a part, and the part's first channel in it."""
        at = 0
        while value in self.parts:
            value, start = self.parts[value]
            at += start
        return value, at

    def _conversions(self, value: str, made_as: str, layer: str) -> list[Step]:
        """Codes that someone wants in another form than they are made in."""
        steps = []
        for form in sorted(self.wanted[value] - {made_as}):
            self._define(value, form)
            steps.append(convert_step(layer, Slot(value, made_as), Slot(value, form)))
        return steps

    def _made_in_bytes(self, node: ops.Quantize) -> bool:
        """Few levels in steps of one that nobody reads as bits: counted in the epilogue of the product before."""
        products = [self.choices[u.name].form for u in self.graph.readers[node.output] if isinstance(u, ops.Conv | ops.Linear)]
        return isinstance(node.encoding, Ternary | Uniform) and len(node.encoding.alphabet()) <= MOST_LEVELS and "bits" not in products

    def _made_as(self, node: ops.Node) -> str:
        tensor = self.graph.types[node.output]
        if isinstance(node, ops.Quantize):
            forms = self.wanted[node.output]
            return min(forms, key=QUANTIZED.index) if forms else natural_form(tensor)
        return natural_form(tensor)

    def _wanted(self) -> dict[str, set[str]]:
        """The forms in which each value is read; aliases count for the value they stand for."""
        wanted: dict[str, set[str]] = defaultdict(set)
        for unit in self.units:
            if isinstance(unit, Product):
                reads = [(unit.node.x, self.choices[unit.node.name].form)]
                reads += [(unit.residual, "f32")] if unit.residual is not None else []
            elif unit.output in self.alias:
                continue
            else:
                reads = [(name, reading_form(unit, self.graph.types[name])) for name in ops.input_names(unit)]
            for value, form in reads:
                wanted[self.alias.get(value, value)].add(form)
        for name in self.graph.outputs:
            wanted[self.alias.get(name, name)].add(self.door(name))
        return wanted

    def _read_in_blocks(self) -> set[str]:
        """Values with a reader that is not an ungrouped convolution."""
        values: set[str] = set()
        for unit in self.units:
            if not isinstance(unit, Product):
                values.update(ops.input_names(unit))
            else:
                values |= {unit.node.x} if ops.as_conv(unit.node).groups > 1 else set()
                values |= {unit.residual} if unit.residual is not None else set()
        return values

    def _is_picture(self, name: str) -> bool:
        """An input that only ungrouped convolutions read keeps its pixels dense, 3 channels, not 16, if it is float or conv_u8 reads it."""
        if name in self.whole_blocks:
            return False
        families = {self.choices[node.name].family for node in self.graph.readers[name]}
        return isinstance(self.graph.types[name].element, Float) or families == {"conv_u8"}


def channel_parts(graph: Graph, units: Sequence[ops.Node | Product], alias: Mapping[str, str]) -> dict[str, tuple[str, int]]:
    """Float values that are written or read where the channels of another value lie, with its name and the first channel: what a Concat
    puts together is made in its place, and what a Slice takes stays there. Kernels write whole blocks of LANES channels, so parts begin at
    one and only the last may end within one. A value is part of one other; a second Concat copies it."""
    parts: dict[str, tuple[str, int]] = {}
    for unit in units:
        if isinstance(unit, ops.Slice) and unit.start % LANES == 0:
            parts[unit.output] = (alias.get(unit.x, unit.x), unit.start)
        if not isinstance(unit, ops.Concat) or not isinstance(graph.types[unit.output].element, Float):
            continue
        at = 0
        for x in unit.xs:
            name, channels = alias.get(x, x), graph.types[x].shape[0]
            whole = channels % LANES == 0 or at + channels == graph.types[unit.output].shape[0]
            if at % LANES == 0 and whole and name not in parts and name not in graph.inputs:
                parts[name] = (unit.output, at)
            at += channels
    return parts


def _flattened_pixels(graph: Graph) -> dict[str, str]:
    """Flatten of a 1x1 image changes nothing: its output is another name of its input."""
    alias: dict[str, str] = {}
    for node in graph.nodes:
        if isinstance(node, ops.Flatten) and graph.types[node.x].shape[1:] == (1, 1):
            alias[node.output] = alias.get(node.x, node.x)
    return alias
