"""Memory: values that are alive together never overlap; little is wasted; element-wise steps run in place."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.resnet import binary_resnet18
from tests.ir.graphs import graphs

from bitfold.engine.arena import assign
from bitfold.engine.forced import forced
from bitfold.engine.forms import Forms
from bitfold.engine.step import Slot, Step
from bitfold.ir.graph import Graph


def planned(graph: Graph) -> tuple[Forms, list[Step], list[Slot], list[Slot]]:
    forms = Forms(graph, forced(""))
    steps = forms.steps()
    ends = [[forms.slot(name, forms.door(name)) for name in names] for names in (graph.inputs, graph.outputs)]
    return forms, steps, ends[0], ends[1]


@settings(max_examples=60, deadline=None)
@given(graphs(), st.integers(1, 4))
def test_values_survive_until_they_are_read(drawn: tuple[int, Graph], chunk: int) -> None:
    """Replays the plan on tags: whoever reads a slot must find its own bytes."""
    _, graph = drawn
    forms, steps, inputs, outputs = planned(graph)
    offsets, size = assign(forms.buffers, steps, inputs, outputs, chunk)
    held: list[set[Slot]] = [set() for _ in range(size // 64)]  # whose bytes lie there: a value, and what it is put together of

    def root(slot: Slot) -> Slot:
        return forms.buffers[slot].root or slot

    def cells(slot: Slot) -> list[int]:
        b, begin = forms.buffers[slot], offsets[slot]
        assert begin % 64 == 0
        if b.root is None:
            return list(range(begin // 64, -(-(begin + b.image_bytes * chunk) // 64)))
        pixels = range(begin, begin + b.image_bytes * chunk, b.stride * b.element_bytes)
        return [at // 64 + i for at in pixels for i in range(-(-b.hwc[2] * b.element_bytes // 64))]

    def write(slot: Slot, moves: bool) -> None:
        for i in cells(slot):
            held[i] = {slot} | {other for other in held[i] if moves and root(other) == root(slot)}

    def check(slot: Slot) -> None:
        assert all(slot in held[i] for i in cells(slot)), f"{slot} was overwritten"

    for slot in inputs:
        write(slot, False)
    for step in steps:
        for slot in step.reads:
            check(slot)
        for slot in step.writes:
            write(slot, step.op in ("Concat", "Slice"))
        for slot in step.writes:
            check(slot)  # outputs of one step lie apart
    for slot in outputs:
        check(slot)


def test_the_residual_stream_stays_in_place(rng: np.random.Generator) -> None:
    forms, steps, inputs, outputs = planned(binary_resnet18(rng, size=32, classes=10))
    offsets, size = assign(forms.buffers, steps, inputs, outputs, 1)
    assert offsets[Slot("layer1.1.prelu", "f32")] == offsets[Slot("layer1.0.prelu", "f32")]
    largest = max(b.image_bytes for b in forms.buffers.values())
    assert size <= 2.5 * largest
