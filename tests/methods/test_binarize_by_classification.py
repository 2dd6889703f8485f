"""binarize-by-classification.md: rows 7 (export) and what the method does beyond its quantisers. Row 8 is in training/test_schedule.py."""

import copy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.methods.resuming import check_resuming
from tests.training.recipes import state
from torch import Tensor, nn

import bitfold
from bitfold.errors import ConfigError
from bitfold.layers.quant import QuantConv2d, QuantLinear
from bitfold.methods import get
from bitfold.quantizers.approx_sign import ApproxSign
from bitfold.quantizers.classifier_sign import Classifier, ClassifierSign
from bitfold.quantizers.weight_sign import WeightSign


def net(channels: int = 8, padding: int = 1, image: int = 6) -> nn.Module:
    stem = [nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.PReLU(channels)]
    body = [nn.Conv2d(channels, channels, 3, padding=padding, bias=False), nn.BatchNorm2d(channels), nn.PReLU(channels)]
    more = [nn.Conv2d(channels, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5)]
    return nn.Sequential(*stem, *body, *more, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4))


def applied(**fields: object) -> nn.Module:
    torch.manual_seed(0)
    return bitfold.apply(net(), get("binarize_by_classification", **fields))


def stirred(model: nn.Module, x: Tensor) -> nn.Module:
    """Batch statistics, and slopes of both signs."""
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.weight)
            nn.init.normal_(m.bias)
    model.train()(x)
    return model.eval()


def test_one_network_for_all_layers() -> None:
    model = applied()
    (own,) = [m for m in model.modules() if isinstance(m, Classifier)]
    estimators = [m for m in model.modules() if isinstance(m, ClassifierSign)]
    assert len(estimators) == 2 and all(e.net is own for e in estimators)
    assert [n for n in model.state_dict() if "own" in n] == [f"3.weight_quant.estimator.own.{n}" for n in ("inner", "outer")]
    assert sum(p.numel() for p in own.parameters()) == 300  # 1.2: no biases
    clone = copy.deepcopy(model)
    copies = [m.net for m in clone.modules() if isinstance(m, ClassifierSign)]
    assert copies[0] is copies[1] and copies[0] is not own
    model.double()
    assert estimators[1].net.outer.dtype == torch.float64  # moved with the model, for the borrower too


def test_both_layers_train_the_network() -> None:
    model = applied()
    x = torch.randn(4, 3, 6, 6)
    model(x).square().sum().backward()
    together = model[3].weight_quant.estimator.net.outer.grad.clone()
    single = []
    for frozen in (3, 6):
        model.zero_grad()
        hook = model[frozen].weight_quant.register_forward_hook(lambda m, args, out: out.detach())
        model(x).square().sum().backward()
        hook.remove()
        single.append(model[3].weight_quant.estimator.net.outer.grad.clone())
    torch.testing.assert_close(together, single[0] + single[1], rtol=1e-4, atol=1e-5)
    assert all(g.abs().max() > 0 for g in single)


def test_activations_have_a_network_of_their_own() -> None:
    model = applied(activation_binarizer="classifier", classifier="linear")
    weights, acts = model[3].weight_quant.estimator, model[3].act_quant
    assert model[6].act_quant.net is acts.net and acts.net is not weights.net and acts.net.inner is None
    assert len([m for m in model.modules() if isinstance(m, Classifier)]) == 2
    assert isinstance(applied()[3].act_quant, ApproxSign)


def test_the_classifier_has_an_adam_of_its_own() -> None:
    model = applied()
    rest, own = get("binarize_by_classification").param_groups(model, 1e-4)
    net = model[3].weight_quant.estimator.net
    assert [id(p) for p in own["params"]] == [id(net.inner), id(net.outer)]
    assert (own["optimizer"], own["lr"], own["weight_decay"], rest["weight_decay"]) == ("adam", 1e-3, 0.0, 1e-4)
    assert {"optimizer", "lr", "factor"}.isdisjoint(rest)
    at = {0: 1, 69: 1, 70: 0.1, 89: 0.1, 90: 1e-2, 100: 1e-3, 109: 1e-3, 110: 1e-4, 119: 1e-4}
    assert [own["factor"](e / 120) for e in at] == pytest.approx(list(at.values()))


def test_slopes_stay_positive_where_asked() -> None:
    """A step that turns the classifiers around is taken back as far as a total slope of 0.25; "free" leaves it."""
    for slope, expected in (("positive", 0.25), ("free", -3.0)):
        method = get("binarize_by_classification", slope=slope, activation_binarizer="classifier", classifier="linear")
        torch.manual_seed(0)
        model = bitfold.apply(net(), method)
        nets = [m for m in model.modules() if isinstance(m, Classifier)]
        assert len(nets) == 2
        for own in nets:
            own.outer.data = torch.tensor([[-1.0], [-2.0]])
        method.after_step(model, 0.5)
        assert [own.outer.sum().item() for own in nets] == pytest.approx([expected] * 2)


def test_training_resumes_bit_for_bit(tmp_path: Path) -> None:
    """Two optimisers and a shared module, through checkpoints and the final file, which holds the network once."""
    run, states = check_resuming(tmp_path, "stage.method=binarize_by_classification")
    (key,) = [n for n in state(run.path) if n.endswith("own.outer")]
    values = [s["model"][key] for s in states]
    assert all(not torch.equal(a, b) for a, b in pairwise(values))  # it trains
    assert torch.equal(run.model().get_parameter(key), values[-1])


@pytest.mark.native
@pytest.mark.parametrize("fields", [{}, {"decision": "argmax"}, {"classifier": "linear", "decision": "argmax"}], ids=str)
def test_row_7_export(fields: dict[str, str], rng: np.random.Generator) -> None:
    """Integers identical, logits within 1e-4; with "argmax" the evaluated bits, for a steep mlp that is no threshold, too."""
    model = applied(**fields)
    net = model[3].weight_quant.estimator.net
    if fields.get("classifier") == "linear":
        net.outer.data = torch.tensor([[0.8], [0.3]])  # the learned polarity is negative
    elif fields:
        net.outer.data = 0.1 * torch.randn(2, 100)
        net.inner.data = 60 * torch.randn(100)
    x = torch.tensor(rng.normal(size=(8, 3, 6, 6)), dtype=torch.float32)
    stirred(model, x)
    w = model[3].weight.detach()
    c = w - w.mean((1, 2, 3), keepdim=True)
    bits = torch.where(net(c)[1] >= net(c)[0], 1, -1) if fields else torch.where(c >= 0, 1, -1)
    assert torch.equal(model[3].weight_quant.codes(w), bits)
    torch.testing.assert_close(model[3].weight_quant(w), c.abs().mean((1, 2, 3), keepdim=True) * bits)
    graph = bitfold.export(model, x[:1])
    report = bitfold.verify(model, graph, x)
    assert report.accumulators_differ == 0 and sum(layer.accumulators for layer in report.layers) > 0
    expected = model(x).detach().numpy()
    np.testing.assert_allclose(bitfold.load(graph)(x.numpy()), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert "classifier" not in str(graph.nodes) and not any("own" in name for name in graph.constants)


@pytest.mark.native
def test_row_7_one_pixel_under_a_3x3_kernel_has_only_its_centre_tap(rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    model = bitfold.apply(nn.Sequential(nn.Conv2d(13, 4, 3, padding=1, bias=False)), get("binarize_by_classification", first=True))
    x = torch.tensor(rng.normal(size=(5, 13, 1, 1)), dtype=torch.float32)
    codes = model[0].weight_quant.codes(model[0].weight)
    d = (torch.where(x >= 0, 1, -1)[:, None, :, 0, 0] * codes[:, :, 1, 1]).sum(2)
    assert bool(((d - 13) % 2 == 0).all()) and d.abs().max() <= 13  # V = 13
    scale = model[0].weight_quant.encoding(model[0].weight).scale
    got = bitfold.load(bitfold.export(model, x[:1]))(x.numpy())[:, :, 0, 0]
    np.testing.assert_allclose(got, d.numpy() * np.array(scale), rtol=1e-6)


def test_trap_7_a_constant_filter_is_all_plus_one_and_weighs_nothing() -> None:
    quantizer = get("binarize_by_classification").weight_quantizer(QuantConv2d(2, 1, 3))
    w = torch.full((1, 2, 3, 3), 0.25)
    assert isinstance(quantizer, WeightSign)
    assert torch.equal(quantizer.codes(w), torch.ones(1, 2, 3, 3, dtype=torch.int32)) and not quantizer(w).any()


def test_the_official_loss_is_the_recipes_distillation() -> None:
    """0.9 KD + 0.1 CE: the same gradient as a recipe's teacher with weight 0.9 and temperature 1."""
    from bitfold.tasks.classification import distill

    s, t = torch.randn(3, 5, dtype=torch.float64, requires_grad=True), torch.randn(3, 5, dtype=torch.float64)
    y = torch.tensor([0, 4, 2])
    kd = -(t.softmax(1) * s.log_softmax(1)).sum(1).mean()
    (official,) = torch.autograd.grad(0.9 * kd + 0.1 * F.cross_entropy(s, y), s)
    (ours,) = torch.autograd.grad(distill(F.cross_entropy(s, y), s, t, 0.9, 1.0), s)
    torch.testing.assert_close(ours, official)


def test_refusals() -> None:
    name = "binarize_by_classification"
    for bad in ({"hidden": 0}, {"classifier_lr": 0.0}, {"activation_binarizer": "classifier", "decision": "argmax"}):
        with pytest.raises(ConfigError, match="allowed"):
            get(name, **bad)
    with pytest.raises(ConfigError, match="one weight per filter"):
        get(name).weight_quantizer(QuantLinear(1, 3))
    assert get(name, activation_binarizer="classifier", decision="argmax", classifier="linear")
