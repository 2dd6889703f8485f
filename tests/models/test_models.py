"""Every model: runs in float, keeps its promises about names, options and shapes."""

import pytest
import torch
from torch import Tensor, nn

from bitfold import models
from bitfold.errors import ConfigError

INPUTS = {"digits_cnn": (1, 8, 8), "mlp": (1, 28, 28), "resnet18": (3, 32, 32), "resnet20": (3, 32, 32), "vgg_small": (3, 32, 32)}
SMALL = dict.fromkeys(("mobilenet_v1", "reactnet_a", "resnet18_imagenet", "resnet34_imagenet"), (3, 33, 33)) | {"alexnet": (3, 67, 67)}
ALL = INPUTS | SMALL
OPTIONS = {
    "alexnet": {"image_size": 67, "width": 2},
    "mobilenet_v1": {"width": 8},
    "reactnet_a": {"width": 8},
}  # where the defaults are large


def run(model: nn.Module, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return model(torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed)))


def test_every_model_is_listed_and_described() -> None:
    assert models.names() == sorted(ALL)
    rows = {row["name"]: row for row in models.describe()}
    assert sorted(rows) == models.names() and all(len(row["summary"]) > 20 for row in rows.values())
    assert rows["resnet20"]["options"]["block"] == {"default": "double", "allowed": "'double', 'normal'"}


@pytest.mark.parametrize("name", sorted(ALL))
def test_forward_backward_and_state_dict(name: str) -> None:
    torch.manual_seed(0)
    model = models.create(name, num_classes=7, **OPTIONS.get(name, {}))
    out = run(model, ALL[name])
    assert out.shape == (2, 7) and torch.isfinite(out).all()
    out.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    twin = models.create(name, num_classes=7, **OPTIONS.get(name, {}))
    twin.load_state_dict(model.state_dict())
    assert torch.equal(run(model.eval(), ALL[name]), run(twin.eval(), ALL[name]))


@pytest.mark.parametrize("name", sorted(ALL))
def test_models_trace_into_plain_operations(name: str) -> None:
    model = models.create(name, **OPTIONS.get(name, {})).eval()
    traced = torch.fx.symbolic_trace(model)
    assert torch.equal(run(traced, ALL[name]), run(model, ALL[name]))


@pytest.mark.parametrize("shortcut", ["subsample_pad", "avgpool_pad", "conv", "avgpool_conv"])
@pytest.mark.parametrize("size", [32, 33, 19, 7])
def test_shortcuts_fit_even_and_odd_images(shortcut: str, size: int) -> None:
    model = models.create("resnet20", shortcut=shortcut, act="relu").eval()
    assert run(model, (3, size, size)).shape == (2, 10)


def test_subsample_pad_is_option_a() -> None:
    from bitfold.models.common import make_shortcut

    x = torch.randn(2, 16, 8, 8)
    y = make_shortcut("subsample_pad", 16, 32, 2)(x)
    expected = torch.zeros(2, 32, 4, 4)
    expected[:, 8:24] = x[:, :, ::2, ::2]
    assert torch.equal(y, expected)
    pooled = make_shortcut("avgpool_pad", 16, 32, 2)(x)[:, 8:24]
    torch.testing.assert_close(pooled, (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4)


def test_double_block_has_one_shortcut_per_conv() -> None:
    """With all conv outputs zeroed by their BatchNorms a double block passes its input through both adds."""
    from bitfold.models.resnet import Block, NormalBlock

    x = torch.rand(1, 4, 5, 5)
    for kind, expected in ((Block, x), (NormalBlock, x)):
        block = kind(4, 4, 1, "conv", "identity")
        nn.init.zeros_(block.bn1.weight)
        nn.init.zeros_(block.bn2.weight)
        torch.testing.assert_close(block(x), expected)
    double, normal = (kind(4, 4, 1, "conv", "identity") for kind in (Block, NormalBlock))
    normal.load_state_dict(double.state_dict())
    nn.init.zeros_(double.bn1.weight)
    nn.init.zeros_(normal.bn1.weight)
    difference = double.eval()(x) - normal.eval()(x)
    torch.testing.assert_close(difference, double.bn2(double.conv2(x)))  # the normal block's second conv sees nothing of x


def test_the_published_parameter_names() -> None:
    names = set(models.create("resnet20").state_dict())
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer3.2.bn2.bias", "bn2.weight", "linear.bias"} <= names
    plain = models.create("resnet20", pooled_bn=False, block="normal", act="relu").state_dict()
    assert not any(name.startswith("bn2.") for name in plain)


@pytest.mark.parametrize("act", ["hardtanh", "relu", "prelu", "identity"])
def test_activations(act: str) -> None:
    model = models.create("digits_cnn", act=act, width=8)
    kinds = {"hardtanh": nn.Hardtanh, "relu": nn.ReLU, "prelu": nn.PReLU, "identity": nn.Identity}
    assert sum(isinstance(m, kinds[act]) for n, m in model.named_modules() if n.split(".")[-1].startswith("act")) == 6
    slopes = [m.num_parameters for m in model.modules() if isinstance(m, nn.PReLU)]
    assert slopes == ([8, 8, 8, 16, 16, 16] if act == "prelu" else [])


@pytest.mark.parametrize("name", ["mobilenet_v1", "reactnet_a"])
@pytest.mark.parametrize("size", [32, 35])
def test_mobilenets_of_small_and_odd_images(name: str, size: int) -> None:
    model = models.create(name, num_classes=5, width=4, stem_stride=1)
    maps = model.blocks(model.stem(torch.randn(2, 3, size, size)))
    assert maps.shape == (2, 128, -(-size // 16), -(-size // 16)) and model(torch.randn(2, 3, size, size)).shape == (2, 5)


def test_reactnet_a_block() -> None:
    """Every conv has a shortcut; where the width doubles, two 1x1 convs stand side by side."""
    from bitfold.models.mobilenet import ReActBlock

    torch.manual_seed(0)
    x = torch.randn(2, 4, 6, 6)
    block = ReActBlock(4, 8, 2).eval()
    t = block.act1(block.bn1(block.conv1(x)) + torch.nn.functional.avg_pool2d(x, 2))
    halves = [bn(conv(t)) + t for bn, conv in zip(block.bn2, block.conv2, strict=True)]
    assert len(halves) == 2 and torch.equal(block(x), block.act2(torch.cat(halves, 1)))
    same = ReActBlock(4, 4, 1).eval()
    t = same.act1(same.bn1(same.conv1(x)) + x)
    assert torch.equal(same(x), same.act2(same.bn2[0](same.conv2[0](t)) + t)) and len(same.conv2) == 1


def test_alexnet_sizes() -> None:
    model = models.create("alexnet", num_classes=3, width=1, image_size=227)
    maps = [model.stem(torch.zeros(2, 3, 227, 227))]
    for module in model.features:
        maps.append(module(maps[-1]))
    assert [tuple(m.shape[1:]) for m, layer in zip(maps[1:], model.features, strict=True) if isinstance(layer, nn.Conv2d)] == [
        *[(8, 27, 27), (12, 13, 13), (12, 13, 13), (8, 13, 13)]
    ]
    assert maps[-1].shape[1:] == (8, 6, 6)
    assert isinstance(model.dropout, nn.Dropout) and isinstance(models.create("alexnet", width=1, dropout=False).dropout, nn.Identity)


def test_downsampling_is_called_shortcut() -> None:
    one_by_one = [
        name for name, m in models.create("resnet18_imagenet").named_modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)
    ]
    assert len(one_by_one) == 3 and all(".shortcut." in name for name in one_by_one)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet200", {}, "unknown model 'resnet200'; did you mean 'resnet20'"),
        ("resnet20", {"blok": "double"}, "unknown option of model 'resnet20' 'blok'; did you mean 'block'"),
        ("resnet20", {"block": "triple"}, r"option block='triple'; allowed: 'double', 'normal'"),
        ("resnet20", {"num_classes": 0}, "num_classes=0; allowed: an integer >= 1"),
        ("resnet20", {"num_classes": True}, "allowed: an integer"),
        ("resnet20", {"num_classes": "10"}, "allowed: an integer"),
        ("resnet20", {"stem_act": 1}, "allowed: true, false"),
        ("resnet18_imagenet", {"downsample": "subsample_pad"}, "allowed: 'avgpool_conv', 'conv'"),
    ],
)
def test_wrong_names_and_options(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        models.create(name, **options)
