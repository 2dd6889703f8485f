"""Graph -> native plan: fuse, choose kernels, decide in which form each value is held, lay out one arena, hand everything over."""

from dataclasses import dataclass
from typing import Any

from bitfold import _core
from bitfold.engine.arena import assign
from bitfold.engine.forced import Forced
from bitfold.engine.forms import Forms
from bitfold.engine.step import Names, Slot, Step
from bitfold.ir.encoding import Accumulator, Float, Uniform
from bitfold.ir.graph import Graph, TensorType

CHUNK_BYTES = 2 << 20  # images computed together share about this much memory: it should stay in a core's own cache
MOST_IMAGES = 64


@dataclass(frozen=True)
class Planned:
    """The native plan and, in the order of its steps, what each step is, which kernel serves it and the bytes of activations
    it moves per image."""

    native: Any
    steps: tuple[Step, ...]
    kernels: tuple[Names, ...]
    bytes_moved: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """A graph's steps and where their values lie: ``chunk`` images together in ``arena`` bytes. ``forms`` knows every buffer."""

    forms: Forms
    steps: tuple[Step, ...]
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    chunk: int
    offsets: dict[Slot, int]
    arena: int


def lay_out(graph: Graph, forced: Forced) -> Layout:
    """Fuses, chooses kernels and forms, and assigns the memory; nothing of the native core is made."""
    forms = Forms(graph, forced)
    steps = tuple(forms.steps())
    inputs = tuple(forms.slot(name, forms.door(name)) for name in graph.inputs)
    outputs = tuple(forms.slot(name, forms.door(name)) for name in graph.outputs)
    _, single = assign(forms.buffers, steps, inputs, outputs, 1)
    chunk = max(1, min(MOST_IMAGES, CHUNK_BYTES // single))
    offsets, arena = assign(forms.buffers, steps, inputs, outputs, chunk)
    return Layout(forms, steps, inputs, outputs, chunk, offsets, arena)


def make_plan(graph: Graph, threads: int, forced: Forced) -> Planned:
    """ValueError, from the core, for a graph beyond its limits (2^24 channels, 16 GiB)."""
    made = lay_out(graph, forced)
    forms, steps, inputs, outputs = made.forms, made.steps, made.inputs, made.outputs
    native = _core.Plan(threads, made.chunk, made.arena)
    ids = {
        slot: native.value(b.kind, b.hwc, b.stride, made.offsets[slot], b.planes, b.planes_of, b.min_code)
        for slot, b in forms.buffers.items()
    }
    for name, slot in zip(graph.inputs, inputs, strict=True):
        native.input(ids[slot], outside(graph.types[name]))
    kernels = tuple(step.emit(native, ids) for step in steps)
    for name, slot in zip(graph.outputs, outputs, strict=True):
        native.output(ids[slot], outside(graph.types[name]))
    native.finish()
    moved = (sum(forms.buffers[slot].moved_bytes for slot in (*step.reads, *step.writes)) for step in steps)
    return Planned(native, steps, kernels, tuple(moved))


def outside(tensor: TensorType) -> str:
    """The type of a user's array: f32, i32 (accumulators), u8 (8-bit unsigned codes) or i16 (other codes)."""
    match tensor.element:
        case Float():
            return "f32"
        case Accumulator():
            return "i32"
        case Uniform(bits=8, signed=False):
            return "u8"
        case _:
            return "i16"
