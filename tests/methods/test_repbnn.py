"""RepBNN: the rows of repbnn.md that are about networks (1, 2, 4 and 7: tests/layers/test_tile.py)."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bitfold
from bitfold import models
from bitfold.errors import ConfigError
from bitfold.ir import ops
from bitfold.ir.encoding import Binary
from bitfold.layers.activations import RPReLU
from bitfold.layers.quant import QuantConv2d, QuantLinear
from bitfold.layers.tile import Tile
from bitfold.methods import get
from bitfold.methods.base import Method
from bitfold.quantizers.quantile_clamp import QuantileClamp
from bitfold.quantizers.rsign import RSign

SMALL = {  # every model of ours, its options and an image that it takes
    "alexnet": ({"width": 2, "image_size": 67}, (3, 67, 67)),
    "digits_cnn": ({"width": 6}, (1, 8, 8)),
    "mlp": ({"width": 18, "image_size": 6}, (1, 6, 6)),
    "mobilenet_v1": ({"width": 4, "stem_stride": 1}, (3, 16, 16)),
    "reactnet_a": ({"width": 4, "stem_stride": 1}, (3, 8, 8)),
    "resnet18": ({}, (3, 8, 8)),
    "resnet20": ({"act": "prelu"}, (3, 16, 16)),
    "vgg_small": ({"image_size": 16}, (3, 16, 16)),
}


def make(name: str, method: Method | str, seed: int = 0, **options: object) -> nn.Module:
    torch.manual_seed(seed)
    return bitfold.apply(models.create(name, **{**SMALL[name][0], **options}), method)


def images(name: str, n: int = 2) -> Tensor:
    return torch.randn(n, *SMALL[name][1], generator=torch.Generator().manual_seed(1))


def count(model: nn.Module, *kinds: type[nn.Module]) -> int:
    return sum(p.numel() for p in {p for m in model.modules() if isinstance(m, kinds) for p in m.parameters(recurse=False)})


@pytest.mark.parametrize("repeat", ["output", "input"])
@pytest.mark.parametrize("name", ["resnet20", "reactnet_a"])
def test_row_3_beta_1_is_the_base(name: str, repeat: str) -> None:
    base, rep = make(name, "reactnet"), make(name, get("repbnn", base="reactnet", beta=1, repeat=repeat))
    assert list(base.state_dict()) == list(rep.state_dict())
    assert torch.equal(base(images(name)), rep(images(name)))


def test_row_5_counts() -> None:
    """The table of section 5: ReActNet-A at 224x224. The base's operations: tests/models/test_costs.py."""
    base, model = (bitfold.apply(models.create("reactnet_a"), m) for m in ("reactnet", get("repbnn", base="reactnet")))

    def counts(m: nn.Module) -> tuple[int, ...]:
        kinds = ((QuantConv2d,), (nn.BatchNorm2d,), (RSign, RPReLU), (nn.Linear,))
        return (sum(p.numel() for p in m.parameters()), *(count(m, *kind) for kind in kinds))

    assert counts(base) == (29_343_592, 28_253_184, 21_888, 42_656, 1_025_000)
    assert counts(model) == (30_432_072, 28_253_184, 43_712, 85_312, 2_049_000)
    s = bitfold.summary(model, (3, 224, 224))
    assert (s.parameters, s.bops, s.flops, s.ops) == (30_432_072, 4_816_896_000, 12_886_016, 4_816_896_000 / 64 + 12_886_016)
    assert s.size_bytes == 28_253_184 // 8 + 4 * (s.parameters - 28_253_184)


def first_block(model: nn.Module, x: Tensor) -> Tensor:
    return model.blocks[0](model.stem(x))  # type: ignore[operator, index, no-any-return]


def test_row_6_copies_are_alike_until_the_first_step() -> None:
    method = get("repbnn", base="reactnet")
    model = make("reactnet_a", method).train()
    x, width = images("reactnet_a", 4), 4
    y = first_block(model, x)
    quarters = y.split(width, 1)
    assert y.shape[1] == 4 * width  # 4 -> 8 channels, twice
    assert torch.equal(quarters[0], quarters[1]) and torch.equal(quarters[2], quarters[3])
    assert not torch.equal(quarters[0], quarters[2])  # the two parallel convs differ
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(x).square().sum().backward()
    optimizer.step()
    quarters = first_block(model, x).split(width, 1)
    assert (quarters[0] - quarters[1]).abs().max() > 0


@pytest.mark.native
def test_row_8_the_engine_computes_each_base_channel_once() -> None:
    """One binary kernel call with O/beta filters a layer (in lanes that are there anyway it may make the copies too: see
    ``engine.fuse``); its integers and the logits are those of the network."""
    method = get("repbnn", base="reactnet")
    model = make("reactnet_a", method)
    x = images("reactnet_a", 4)
    model.train()(x)
    model.eval()
    graph = bitfold.export(model, x[:1])
    plain = bitfold.export(make("reactnet_a", "reactnet").eval(), x[:1])

    def binary(g: bitfold.Graph) -> dict[str, tuple[int, ...]]:
        return {
            n.name: g.constants[n.weight].type.shape
            for n in g.nodes
            if isinstance(n, ops.Conv) and isinstance(g.constants[n.weight].type.element, Binary)
        }

    rep, base = binary(graph), binary(plain)
    assert len(rep) == len(base) == 13 + 8 + 2 * 5
    for (o, i, *kernel), (name, shape) in zip(base.values(), rep.items(), strict=True):
        assert shape == (o // 2, 2 * i, *kernel), name
    engine = bitfold.load(graph)
    steps = {k.layer: k.kernel for k in engine.kernels if k.op.split("+")[0] == "Conv" and k.kernel.startswith("conv_b1")}
    assert set(steps) == set(rep)
    done, wanted = bitfold.summary(graph), bitfold.summary(plain)
    assert done.macs[1, 1] == wanted.macs[1, 1] and done.bops == wanted.bops  # no more binary products than the base

    report = bitfold.verify(model, graph, x)
    assert report.accumulators_differ == 0 and report.ok, str(report)
    if report.flipped == 0:
        np.testing.assert_allclose(engine(x.numpy()), model(x).detach().numpy(), rtol=0, atol=1e-4 * report.max_output)


@pytest.mark.parametrize(("name", "repeat"), [*((name, "output") for name in sorted(SMALL)), ("alexnet", "input"), ("resnet20", "input")])
def test_every_model(name: str, repeat: str) -> None:
    """Twice as wide between stem and classifier, or as it was; binary weights as many as the base has."""
    base = make(name, "bireal")
    model = make(name, get("repbnn", base="bireal", repeat=repeat))
    out = model(images(name))
    assert out.shape == base(images(name)).shape and out.isfinite().all()
    out.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())

    def weights(m: nn.Module) -> int:
        return count(m, QuantConv2d, QuantLinear)

    assert weights(model) == weights(base) or name == "mobilenet_v1"  # depthwise filters cannot be halved
    norms = [m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    before = [m.num_features for m in base.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    times = 2 if repeat == "output" else 1
    assert norms == [before[0], *(times * n for n in before[1:])]


@pytest.mark.native
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("alexnet", {}),
        ("mlp", {"repeat": "input"}),
        ("resnet20", {}),
        ("resnet20", {"beta": 4, "base": {"method": "adabin", "maxout": False}}),
    ],
)
def test_exports(name: str, fields: dict[str, object]) -> None:
    model = make(name, get("repbnn", **{"base": "bireal", **fields}))
    x = images(name, 4)
    model.train()(x)
    model.eval()
    graph = bitfold.export(model, x[:1])
    report = bitfold.verify(model, graph, x)
    assert report.accumulators_differ == 0 and report.ok, str(report)
    np.testing.assert_allclose(
        bitfold.load(graph)(x.numpy()), bitfold.interpret(graph, x.numpy()), rtol=1e-5, atol=1e-5 * report.max_output
    )


@pytest.mark.parametrize("shortcut", ["conv", "avgpool_conv"])
def test_shortcut_convs(shortcut: str) -> None:
    """16 -> 32 in float: as RepConv at the same cost, wide on both sides, or binary with the rest."""

    def conv(**fields: object) -> nn.Conv2d:
        model = make("resnet20", get("repbnn", base="bireal", **fields), shortcut=shortcut)
        assert model(images("resnet20")).isfinite().all()
        (found,) = [m for m in model.layer2[0].shortcut.modules() if isinstance(m, nn.Conv2d)]
        return found

    rep, wide, binary = conv(), conv(shortcut_conv="wide"), conv(shortcut=True)
    assert tuple(rep.weight.shape) == (16, 32, 1, 1) and type(rep) is nn.Conv2d
    assert tuple(wide.weight.shape) == (64, 32, 1, 1) and type(wide) is nn.Conv2d
    assert tuple(binary.weight.shape) == (16, 32, 1, 1) and isinstance(binary, QuantConv2d)


def test_two_steps_share_their_names() -> None:
    """Step 2 loads step 1, as the official recipe does."""
    steps = [make("reactnet_a", get("repbnn", base={"method": "reactnet", "weights": w}), seed=i) for i, w in enumerate(("real", "binary"))]
    steps[1].load_state_dict(steps[0].state_dict())


def test_the_base_keeps_its_hooks() -> None:
    method = get("repbnn", base={"method": "adabin", "t_max": 5.0})
    model = make("resnet20", method)
    method.before_step(model, 1.0)
    ede = [m for m in model.modules() if type(m).__name__ == "EDE"]
    assert len(ede) == 18 and all(m.t.item() == pytest.approx(5.0) for m in ede)
    wide = [m.neg.numel() for m in model.modules() if type(m).__name__ == "TwoSlope"]
    assert wide == [32] * 7 + [64] * 6 + [128] * 6  # the stem's activation follows its BatchNorm, and so the tile


def test_keep_float_names_the_old_paths() -> None:
    torch.manual_seed(0)
    model = bitfold.apply(models.create("resnet20"), get("repbnn"), keep_float=["layer1.0.conv1"])
    assert isinstance(model.layer1[0].conv1[0], nn.Conv2d) and not isinstance(model.layer1[0].conv1[0], QuantConv2d)
    assert isinstance(model.layer1[0].conv1[1], Tile) and isinstance(model.layer1[0].conv2[0], QuantConv2d)


def test_refused() -> None:
    with pytest.raises(ConfigError, match=r"repbnn: beta=0; allowed: 1 \(the base alone\) or more"):
        get("repbnn", beta=0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.LazyLinear(2))
    net(torch.zeros(1, 3, 6, 6))
    untouched = copy.deepcopy(net)
    with pytest.raises(
        ConfigError, match=r"repbnn: '1' is a GroupNorm, whose width is not known; .*; repeat='input' changes the binary layers"
    ):
        bitfold.apply(net, "repbnn")
    assert torch.equal(net(torch.ones(1, 3, 6, 6)), untouched(torch.ones(1, 3, 6, 6)))
    assert bitfold.apply(net, get("repbnn", repeat="input"))(torch.ones(1, 3, 6, 6)).shape == (1, 2)


def test_row_9_the_schedule_of_rep_recu() -> None:
    """The base's progress reaches its quantisers, which the wrapper made."""
    method = get("repbnn", base="recu")
    model = make("resnet20", method)
    for progress, tau, quantile in [(0.0, 0.85, 1.203973), (0.5, 0.90286, None), (599 / 600, 0.98963, None), (1.0, 0.99, 3.912023)]:
        method.before_step(model, progress)
        found = [m.tau.item() for m in model.modules() if isinstance(m, QuantileClamp)]
        assert len(found) == 18 and found == pytest.approx([tau] * 18, abs=5e-6)
        if quantile is not None:
            assert -math.log(2 - 2 * found[0]) == pytest.approx(quantile, abs=1e-5)
