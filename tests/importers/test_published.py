"""The published files themselves. BITFOLD_WEIGHTS: a folder that holds them, at any depth; BITFOLD_DATA: one with CIFAR-10."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bitfold import importers
from bitfold.commands.runs import evaluate_run, verify_run
from bitfold.quantizers.adabin import AdaBinActivation
from bitfold.training.run import Run

WEIGHTS = os.environ.get("BITFOLD_WEIGHTS")
FILES = {  # format -> file, SHA-256 of the published one, accuracy of all 10,000 test images
    "adabin": ("resnet20_1w1a_model.th", "d5cd1cb55c4d768db02b1321a2b5ff1e7e4250fed1a59f2e4a5cf68a92b1c3bc", 87.99),
    "resnet20_float": ("resnet20-12fca82f.th", "12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8", 91.73),
}
pytestmark = [
    pytest.mark.shared,
    pytest.mark.slow,
    pytest.mark.skipif(not (WEIGHTS and os.environ.get("BITFOLD_DATA")), reason="BITFOLD_WEIGHTS or BITFOLD_DATA is not set"),
]


@pytest.fixture(scope="module", params=FILES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    name, digest, _ = FILES[request.param]
    (file,) = Path(str(WEIGHTS)).rglob(name)
    assert hashlib.sha256(file.read_bytes()).hexdigest() == digest
    return importers.import_run(request.param, file, tmp_path_factory.mktemp("import") / request.param)


def test_accuracy_on_all_test_images(run: Run) -> None:
    """Two images may fall elsewhere: float sums differ in their order between machines, and a binary network tells."""
    expected = FILES[run.facts["imported"]["format"]][2]
    assert evaluate_run(run.path, None)["accuracy"] == pytest.approx(expected, abs=0.021)


def test_the_engine_computes_the_same(run: Run) -> None:
    report = verify_run(run.path, None, 1000)
    assert report.ok and report.accumulators_differ == 0, report
    assert report.accuracy is not None and report.accuracy_torch is not None
    assert abs(report.accuracy - report.accuracy_torch) <= (report.images - report.images_without_flips) / report.images


def test_adabin_row_9_of_the_specification(run: Run) -> None:
    """18 pairs (alpha, beta), every alpha above 0; first layer 0.884369 and 0.512458."""
    if run.facts["imported"]["format"] != "adabin":
        pytest.skip("of AdaBin")
    pairs = [(m.alpha.item(), m.beta.item()) for m in run.model().modules() if isinstance(m, AdaBinActivation)]
    assert len(pairs) == 18 and all(alpha > 0 for alpha, _ in pairs)
    assert pairs[0] == pytest.approx((0.884369, 0.512458), abs=1e-6)


def test_adabin_by_its_formulas_alone(run: Run) -> None:
    """The published tensors through the formulas of the paper's code, without our layers: the same logits on 20 images but for flips."""
    if run.facts["imported"]["format"] != "adabin":
        pytest.skip("of AdaBin")
    (file,) = Path(str(WEIGHTS)).rglob(FILES["adabin"][0])
    s = {k.removeprefix("module."): v for k, v in torch.load(file, map_location="cpu", weights_only=True)["state_dict"].items()}

    def bn(x: Any, name: str) -> Any:
        return F.batch_norm(x, *(s[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")))

    def maxout(x: Any, name: str) -> Any:
        pos, neg = (s[f"{name}.{part}_scale"].view(1, -1, 1, 1) for part in ("pos", "neg"))
        return pos * F.relu(x) - neg * F.relu(-x)

    def conv(x: Any, name: str, stride: int = 1) -> Any:
        w, alpha, beta = s[f"{name}.weight"], s[f"{name}.binary_a.alpha_a"], s[f"{name}.binary_a.beta_a"]
        mean = w.mean((1, 2, 3), keepdim=True)
        std = ((w - mean) ** 2).mean((1, 2, 3), keepdim=True).sqrt()
        a = alpha * (torch.where((x - beta) / alpha >= 0, 1.0, -1.0) + beta)
        return F.conv2d(a, std * torch.where(w >= mean, 1.0, -1.0) + mean, stride=stride, padding=1)

    x = torch.from_numpy(np.random.default_rng(0).standard_normal((20, 3, 32, 32)).astype(np.float32))
    y = maxout(bn(F.conv2d(x, s["conv1.weight"], padding=1), "bn1"), "nonlinear1")
    for layer, width in ((1, 16), (2, 32), (3, 64)):
        for i in range(3):
            block, down = f"layer{layer}.{i}", layer > 1 and i == 0
            short = F.pad(y[:, :, ::2, ::2], (0, 0, 0, 0, width // 4, width // 4)) if down else y
            y = maxout(bn(conv(y, f"{block}.conv1", 2 if down else 1), f"{block}.bn1") + short, f"{block}.nonlinear1")
            y = maxout(bn(conv(y, f"{block}.conv2"), f"{block}.bn2") + y, f"{block}.nonlinear2")
    expected = F.linear(bn(y.mean((2, 3)), "bn2"), s["linear.weight"], s["linear.bias"])
    with torch.no_grad():
        distance = (run.model()(x) - expected).abs().amax(dim=1)
    assert (distance < 1e-3).sum() >= 18, distance
