"""Methods in pairs, found by themselves: each weight slot with the next input slot, around the ring; wrappers on many bases."""

import numpy as np
import pytest
import torch
from tests.methods.test_conformance import applied, batch, float_twin, layers, train_step

import bitfold
from bitfold import methods
from bitfold.errors import ConfigError
from bitfold.methods.base import Method, Wrapper

WRAPPERS = [name for name in methods.names() if isinstance(methods.get(name), Wrapper)]
PLAIN = [name for name in methods.names() if name not in ("float", "compose", *WRAPPERS)]
RING = list(zip(PLAIN, PLAIN[1:] + PLAIN[:1], strict=True))


def check(method: Method, rng: np.random.Generator) -> None:
    """Trains a step, exports, verifies: no integer differs, the engine gives the interpreter's outputs."""
    model = applied("residual", method)
    assert model is not None
    data = batch(rng)
    for progress in (0.0, 0.5):
        assert train_step(model, method, data, progress, float_twin("residual") if method.needs_teacher else None).isfinite()
    for name, layer in layers(model).items():
        assert layer.weight.grad is not None and bool(layer.weight.grad.isfinite().all()) and bool((layer.weight.grad != 0).any()), name
    model.eval()
    graph = bitfold.export(model, data[0][:1])
    assert bitfold.verify(model, graph, data[0]).accumulators_differ == 0
    x = data[0].numpy()
    np.testing.assert_allclose(bitfold.load(graph)(x), bitfold.interpret(graph, x), rtol=1e-5, atol=1e-5)


@pytest.mark.native
@pytest.mark.parametrize(("weight", "act"), RING, ids=[f"{w}+{a}" for w, a in RING])
def test_pair(weight: str, act: str, rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    check(methods.get("compose", weight=weight, act=act), rng)


@pytest.mark.native
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("base", PLAIN[::4])
def test_wrapper_on_base(wrapper: str, base: str, rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    try:
        method = methods.get(wrapper, base=base)
        model = applied("residual", method)
    except ConfigError as error:
        assert "allowed" in str(error) or "keep_float" in str(error)
        return
    if model is not None:
        check(method, rng)
