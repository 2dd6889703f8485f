"""Our larger networks with a method: export -> interpreter -> engine, at small sizes."""

import numpy as np
import pytest
import torch
from tests.export.nets import inputs

import bitfold
from bitfold import models

CASES = {
    "reactnet_a": ("reactnet", {"width": 4, "stem_stride": 1}, (3, 18, 18)),
    "alexnet": ("xnor_net", {"width": 2, "image_size": 67}, (3, 67, 67)),
    "mobilenet_v1": ("bireal", {"width": 4, "stem_stride": 1}, (3, 18, 18)),
}


@pytest.mark.native
@pytest.mark.parametrize("name", CASES)
def test_export_of(name: str, rng: np.random.Generator) -> None:
    method, options, shape = CASES[name]
    torch.manual_seed(int(rng.integers(1 << 30)))
    model = bitfold.apply(models.create(name, num_classes=5, **options), method)
    x = inputs(rng, 6, *shape)
    for _ in range(5):
        model.train()(x)  # BatchNorm sees data
    model.eval()
    graph = bitfold.export(model, x[:1])
    report = bitfold.verify(model, graph, x)
    assert report.accumulators_differ == 0 and report.ok, str(report)
    by_oracle = bitfold.interpret(graph, x.numpy())
    np.testing.assert_allclose(bitfold.load(graph)(x.numpy()), by_oracle, rtol=0, atol=1e-5 * np.abs(by_oracle).max())
    binary = [k for k in bitfold.load(graph).kernels if k.kernel.startswith("conv_b1")]
    assert len(binary) == {"reactnet_a": 31, "alexnet": 6, "mobilenet_v1": 26}[name]
