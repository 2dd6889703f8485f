"""Tiling, RepConv (repbnn.md rows 1, 2, 4, 7) and the walk that makes networks wider."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitfold.errors import ConfigError
from bitfold.layers.tile import Tile, tiled
from bitfold.layers.widen import widen


def test_row_1_the_whole_tensor_is_copied() -> None:
    x = torch.tensor([0.0, 1.0, 2.0])
    want = [0, 1, 2] * 4
    assert Tile(4)(x.reshape(1, 3, 1, 1)).flatten().tolist() == want
    assert Tile(4, -1)(x.reshape(1, 1, 3)).flatten().tolist() == want


@pytest.mark.parametrize(("beta", "kernel", "copies"), [(2, (32, 128, 3, 3), 4), (4, (16, 256, 3, 3), 16)])
def test_row_2_shapes_and_parameters(beta: int, kernel: tuple[int, ...], copies: int) -> None:
    base = nn.Conv2d(64, 64, 3, padding=1, bias=False)
    conv, tile = tiled("conv", base, beta, wide=True)
    assert tuple(conv.weight.shape) == kernel and conv.weight.numel() == base.weight.numel() == 36_864
    assert isinstance(tile, Tile) and tile.copies == copies and copies * kernel[0] == beta * 64


@pytest.mark.parametrize("wide", [True, False])
def test_row_4_equals_a_plain_layer_with_the_kernel_tiled(wide: bool) -> None:
    torch.manual_seed(0)
    rep = tiled("conv", nn.Conv2d(3, 4, 3, padding=1, stride=2), 2, wide=wide)
    conv = next(m for m in rep if isinstance(m, nn.Conv2d))
    x = torch.randn(2, 6 if wide else 3, 7, 7)
    copies = 4 if wide else 2
    seen = x if wide else torch.cat([x, x], 1)
    expected = F.conv2d(seen, conv.weight.repeat(copies, 1, 1, 1), conv.bias.repeat(copies), 2, 1)
    assert torch.equal(rep(x), expected) and expected.shape[1] == (8 if wide else 4)


def test_row_7_the_gradient_sums_over_the_copies() -> None:
    n = torch.zeros(1, 3, requires_grad=True)
    upstream = torch.arange(12.0).reshape(1, 12)
    Tile(4)(n).backward(upstream)
    assert n.grad is not None and n.grad.tolist() == [[0 + 3 + 6 + 9, 1 + 4 + 7 + 10, 2 + 5 + 8 + 11]]
    n.grad = None
    Tile(4)(n).sum().backward()
    assert n.grad.tolist() == [[4, 4, 4]]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("inputs", "outputs", "groups", "beta", "wide", "weight", "copies"),
    [
        (5, 7, 1, 2, True, (7, 10), 2),  # 2 does not divide 7: the next number of filters that fills 14 channels
        (6, 8, 2, 2, True, (4, 6), 4),
        (8, 8, 8, 2, True, (8, 2), 2),  # depthwise: a filter for each group
        (4, 6, 1, 4, True, (2, 16), 12),
        (6, 8, 1, 2, False, (4, 12), 2),
        (5, 7, 1, 2, False, (7, 10), 1),
    ],
)
def test_any_width_and_groups(inputs: int, outputs: int, groups: int, beta: int, wide: bool, weight: tuple[int, int], copies: int) -> None:
    rep = tiled("conv", nn.Conv2d(inputs, outputs, 1, groups=groups), beta, wide=wide)
    conv, tile = rep[-2], rep[-1]
    assert tuple(conv.weight.shape[:2]) == weight and tile.copies == copies
    y = rep(torch.randn(2, beta * inputs if wide else inputs, 3, 3))
    assert y.shape[1] == (beta * outputs if wide else outputs)


def test_a_new_layer_keeps_what_the_old_one_had() -> None:
    torch.manual_seed(0)
    old = nn.Conv2d(
        64, 64, (3, 1), stride=2, padding=(1, 0), dilation=(2, 1), bias=True, padding_mode="circular", dtype=torch.float64
    ).eval()
    nn.init.normal_(old.weight, 0.0, 0.37)
    new = tiled("conv", old, 2, wide=True)[0]
    for name in ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode", "training"):
        assert getattr(new, name) == getattr(old, name)
    assert new.weight.dtype == torch.float64 and torch.equal(new.bias, old.bias[:32])
    x = torch.randn(4, 128, 9, 9, dtype=torch.float64)
    assert new(x).std().item() == pytest.approx(old(x[:, :64]).std().item(), rel=0.05)  # outputs keep their variance


def test_a_layer_of_a_subclass_is_refused() -> None:
    class Own(nn.Linear):
        pass

    with pytest.raises(ConfigError, match=r"layer 'fc' is a Own, a subclass with its own behaviour; allowed: nn\.Conv2d and nn\.Linear"):
        tiled("fc", Own(2, 2), 2, wide=True)


class Net(nn.Module):
    """A user's network, one part of which a case replaces."""

    def __init__(self, part: nn.Module | None = None) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv, self.act = nn.Conv2d(4, 4, 3, padding=1), nn.PReLU(4)
        self.part = part if part is not None else nn.Identity()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.stem(x))
        x = self.part(self.act(self.conv(x)) + x)
        return self.fc(x.mean((2, 3)).view(x.size(0), -1))  # type: ignore[no-any-return]


class Part(nn.Module):
    def __init__(self, function, *weights: nn.Parameter) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.function = function
        self.bn = nn.BatchNorm2d(4)
        for i, w in enumerate(weights):
            self.register_parameter(f"w{i}", w)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)  # type: ignore[no-any-return]


def wider(model: nn.Module, times: int = 2) -> nn.Module:
    def rep(path: str, layer: nn.Conv2d | nn.Linear) -> nn.Module:
        return tiled(path, layer, times, wide=True)

    return widen(model, times, rep, rep)


def test_a_network_behind_its_stem() -> None:
    model = Net()
    nn.init.uniform_(model.act.weight)
    nn.init.uniform_(model.bn.weight)
    slopes, stem_bn = model.act.weight.clone(), model.bn
    assert wider(model, 3) is model
    assert model.stem.out_channels == 4 and model.bn[0] is stem_bn and model.bn[1].copies == 3
    assert isinstance(model.act, nn.PReLU) and torch.equal(model.act.weight, slopes.repeat(3)) and model.act.num_parameters == 12
    assert model.fc.in_features == 12 and model.fc.out_features == 3
    assert model(torch.randn(2, 3, 5, 5)).shape == (2, 3)


def test_batch_norm_is_copied_with_its_statistics() -> None:
    model = Net(nn.BatchNorm2d(4, eps=0.1, momentum=None))
    nn.init.uniform_(model.part.weight)
    model.part.running_var.uniform_(1, 2)
    old = model.part
    bn = wider(model).part
    assert bn.num_features == 8 and (bn.eps, bn.momentum) == (0.1, None)
    assert torch.equal(bn.weight, old.weight.repeat(2)) and torch.equal(bn.running_var, old.running_var.repeat(2))
    assert bn.weight is not old.weight and old.num_features == 4
    assert model(torch.randn(2, 3, 5, 5)).isfinite().all()


def test_a_stem_without_batch_norm_and_of_a_linear_layer() -> None:
    plain = wider(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(4, 2)))
    assert isinstance(plain[0][1], Tile) and plain(torch.randn(2, 3, 3, 3)).shape == (2, 2)
    linear = wider(nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 4), nn.PReLU(), nn.Linear(4, 2)))
    assert linear[0][1].channel_axis == -1 and linear(torch.randn(2, 7, 5)).shape == (2, 7, 2)


class Scale(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain

    def widened(self, times: int) -> "Scale":
        return Scale(times * len(self.gain))


def test_a_module_may_say_what_it_becomes() -> None:
    model = wider(Net(Scale(4)))
    assert model.part.gain.shape == (8, 1, 1) and model(torch.randn(2, 3, 5, 5)).shape == (2, 3)


def test_single_numbers_and_sizes_fit_any_width() -> None:
    part = Part(lambda self, x: self.bn(x * self.w0).reshape(x.shape[0], -1, x.size(2), x.size(3))[:, :, ::2], nn.Parameter(torch.ones(1)))
    assert wider(Net(part))(torch.randn(2, 3, 5, 5)).shape == (2, 3)


REFUSED = {
    "layer_norm": (nn.LayerNorm([4, 5, 5]), "'part' is a LayerNorm, whose width is not known; allowed: .* widened"),
    "parameter": (
        Part(lambda self, x: x * self.w0, nn.Parameter(torch.ones(4, 1, 1))),
        "'part.mul' joins a tensor that becomes wider and a parameter 'part.w0', which does not",
    ),
    "twice": (Part(lambda self, x: self.bn(self.bn(x))), "'part.bn' is called more than once"),
    "view": (Part(lambda self, x: x.view(-1, 4, 25)), "'part.view' may have the number of channels written into it"),
    "reshape": (Part(lambda self, x: torch.reshape(x, (-1, 4, 5, 5))), "'part.reshape' may have the number of channels"),
    "slice": (Part(lambda self, x: x[:, :2]), "'part.getitem' may have the number of channels written into it"),
    "split": (Part(lambda self, x: torch.cat(x.split(2, 1), 1)), "'part.split' may have the number of channels"),
    "branch": (Part(lambda self, x: x if x.sum() > 0 else -x), "Net cannot be followed: .*; allowed: a forward without branches"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_become_wider_is_refused_before_anything_changes(name: str) -> None:
    part, message = REFUSED[name]
    model = Net(part)
    before = {path: id(m) for path, m in model.named_modules()}
    with pytest.raises(ConfigError, match=message):
        wider(model)
    assert {path: id(m) for path, m in model.named_modules()} == before


def test_other_structures_that_are_refused() -> None:
    class Skip(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.fc((self.conv(self.bn(self.stem(x))) + self.stem.weight.sum() * x.mean(1, keepdim=True)).mean((2, 3)))

    with pytest.raises(ConfigError, match=r"'.*' joins a tensor that becomes wider and a "):
        wider(Skip())
    features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))
    assert wider(features)(torch.randn(2, 3, 9, 9)).shape[1] == 2  # behind the last conv nothing is wider
    two = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 4), nn.Conv2d(1, 1, 1))
    with pytest.raises(ConfigError, match="'3' reads a tensor"):
        wider(two)
    with pytest.raises(ConfigError, match="not called as a module"):
        wider(nn.Conv2d(3, 4, 3))
