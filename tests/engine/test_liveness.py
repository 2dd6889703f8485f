"""The liveness table: the engine's own arena, and at each step what it reads, writes and keeps for later."""

import numpy as np
from hypothesis import given, settings
from tests.engine.resnet import binary_resnet18
from tests.ir.graphs import graphs

import bitfold
from bitfold.engine.forced import forced
from bitfold.engine.liveness import liveness
from bitfold.engine.plan import lay_out
from bitfold.ir.graph import Graph


@settings(max_examples=30, deadline=None)
@given(graphs())
def test_every_step_s_values_are_alive_and_fit_the_arena(drawn: tuple[int, Graph]) -> None:
    _, graph = drawn
    found, made = liveness(graph), lay_out(graph, forced(None))
    assert found.arena_bytes == bitfold.load(graph).arena_bytes
    assert found.peak_bytes <= found.arena_bytes
    assert len(found.moments) == len(made.steps)
    for moment, step in zip(found.moments, made.steps, strict=True):
        assert {f"{slot.value}:{slot.form}" for slot in (*step.reads, *step.writes)} <= set(moment.values)


def test_a_residual_is_alive_until_it_is_added(rng: np.random.Generator) -> None:
    found = liveness(binary_resnet18(rng, size=32, classes=10))
    alive = {moment.layer: moment.values for moment in found.moments}
    assert "maxpool:f32" in alive["layer1.0"], "the shortcut"
    assert "maxpool:f32" not in alive["layer1.1"]
    in_place = next(m for m in found.moments if m.layer == "layer1.0")
    image = 8 * 8 * 64 * 4
    bits = 8 * 8 * 2 * 4
    assert in_place.bytes == found.images * (image + 2 * bits), "the stream is in the shortcut's place; packed codes read and written"


def test_the_table_names_layers_and_ends_with_the_arena(rng: np.random.Generator) -> None:
    found = liveness(binary_resnet18(rng, size=32, classes=10))
    lines = str(found).splitlines()
    assert len(lines) == len(found.moments) + 3
    assert lines[2].startswith("stem") and "#" in lines[2] and "x:f32" in lines[2]
    assert f"arena {found.arena_bytes:,} bytes for {found.images} images together" in lines[-1]
