"""Swapping layers: what is eligible, what stays the same, what is refused."""

import pytest
import torch
from torch import nn

import bitfold
from bitfold.errors import ConfigError
from bitfold.layers.parallel import Parallel
from bitfold.layers.quant import QuantConv2d, QuantLinear
from bitfold.layers.swap import roles
from bitfold.methods import get
from bitfold.quantizers.base import Identity
from bitfold.quantizers.scaled_sign import ScaledSign


class Own(nn.Module):
    """A user's module: a shared layer, a shortcut, an odd registration."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.downsample = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False))
        self.body = nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2)
        self.again = self.body
        self.hidden = nn.Linear(4, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = self.again(self.body(x)) + self.downsample(x)
        y: torch.Tensor = self.head(self.hidden(x.mean((2, 3))))
        return y


def test_roles() -> None:
    expected = {"stem": "first", "downsample.0": "shortcut", "body": "inner", "hidden": "inner", "head": "last"}
    assert roles(Own()) == expected
    convs = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 3, 1))  # no linear layer: the last conv
    assert list(roles(convs).values()) == ["first", "inner", "last"]


@pytest.mark.parametrize("chosen", [[], ["first"], ["last"], ["shortcut"], ["first", "last", "shortcut"]])
def test_fields_choose_roles(chosen: list[str]) -> None:
    model = bitfold.apply(Own(), get("bireal", **dict.fromkeys(chosen, True)))
    swapped = {m.role for m in model.modules() if isinstance(m, QuantConv2d | QuantLinear)}
    assert swapped == {"inner", *chosen}


def test_parameters_names_and_settings_stay() -> None:
    model = Own().double().eval()
    model.body.weight.requires_grad_(False)
    before = dict(model.named_parameters())
    keys = list(model.state_dict())
    out = bitfold.apply(model, "bireal")
    assert out is model and isinstance(model.body, QuantConv2d) and isinstance(model.hidden, QuantLinear)
    assert model.again is model.body  # shared stays shared
    assert list(model.state_dict()) == keys
    for name, p in model.named_parameters():
        assert p is before[name] and p.dtype == torch.float64
    assert not model.body.training and not model.body.weight.requires_grad
    assert (model.body.groups, model.body.dilation, model.body.padding) == (2, (2, 2), (2, 2))
    assert type(model.stem) is nn.Conv2d and type(model.head) is nn.Linear
    assert isinstance(model.body.weight_quant, ScaledSign)
    assert model(torch.randn(2, 3, 5, 5, dtype=torch.float64)).shape == (2, 2)


def test_quantiser_parameters_follow_the_layer() -> None:
    model = bitfold.apply(Own().double(), "adabin")
    assert {p.dtype for p in model.parameters()} == {torch.float64}


def test_quant_layers_with_identities_are_the_plain_layers() -> None:
    torch.manual_seed(0)
    conv = QuantConv2d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2)
    plain = nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2)
    plain.load_state_dict(conv.state_dict())
    x = torch.randn(2, 4, 9, 7)
    assert torch.equal(conv(x), plain(x)) and isinstance(conv.act_quant, Identity)
    linear = QuantLinear(4, 3, bias=False)
    assert torch.equal(linear(x.mean((2, 3))), x.mean((2, 3)) @ linear.weight.T)
    with pytest.raises(ConfigError, match="padding_mode='reflect'"):
        QuantConv2d(1, 1, 3, padding_mode="reflect")


def test_padded_taps_add_nothing() -> None:
    """baselines.md 10.9: all-ones input and weights, one channel."""
    conv = bitfold.apply(nn.Conv2d(1, 1, 3, padding=1, bias=False), get("bireal", first=True, activation="keep"))
    nn.init.ones_(conv.weight)
    y = conv(torch.ones(1, 1, 3, 3))[0, 0]
    assert y.tolist() == [[4, 6, 4], [6, 9, 6], [4, 6, 4]]


def test_keep_float() -> None:
    model = bitfold.apply(Own(), "bireal", keep_float=["body"])
    assert type(model.body) is nn.Conv2d and isinstance(model.hidden, QuantLinear)
    nested = nn.ModuleDict({"stem": nn.Conv2d(3, 4, 1), "block": nn.Sequential(nn.Conv2d(4, 4, 1)), "blocky": nn.Conv2d(4, 4, 1)})
    nested["head"] = nn.Linear(4, 2)
    bitfold.apply(nested, "bireal", keep_float=("block",))
    assert type(nested["block"][0]) is nn.Conv2d and isinstance(nested["blocky"], QuantConv2d)
    with pytest.raises(ConfigError, match=r"unknown module in keep_float 'bodi'; did you mean 'body'\?"):
        bitfold.apply(Own(), "bireal", keep_float=["bodi"])
    with pytest.raises(ConfigError, match="expected a list"):
        bitfold.apply(Own(), "bireal", keep_float="body")


def test_layers_of_subclasses_are_refused_with_the_list_that_keeps_them() -> None:
    class Padded(nn.Conv2d):
        pass

    model = nn.Sequential(nn.Conv2d(3, 4, 1), Padded(4, 4, 3), nn.Conv2d(4, 4, 1), nn.Sequential(Padded(4, 4, 3)), nn.Linear(4, 2))
    with pytest.raises(ConfigError, match=r"layer '1' is a Padded, a subclass .*; keep_float=\['1', '3.0'\] leaves all such layers"):
        bitfold.apply(model, "bireal")
    bitfold.apply(model, "bireal", keep_float=["1", "3.0"])
    assert [type(m) for m in model] == [nn.Conv2d, Padded, QuantConv2d, nn.Sequential, nn.Linear]


def test_refusals() -> None:
    model = bitfold.apply(Own(), "bireal")
    with pytest.raises(ConfigError, match="already has 2 quantised layers"):
        bitfold.apply(model, "adabin")
    with pytest.raises(ConfigError, match=r"nothing to quantise; found 0: first, 1: last; set first/last"):
        bitfold.apply(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Linear(1, 1)), "bireal")
    with pytest.raises(ConfigError, match="no conv or linear layer"):
        bitfold.apply(nn.ReLU(), "bireal")
    with pytest.raises(ConfigError, match="unknown method 'birael'; did you mean 'bireal'"):
        bitfold.apply(Own(), "birael")

    class Odd(nn.Conv2d):
        pass

    def with_inner(layer: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Conv2d(2, 2, 1), layer, nn.Linear(2, 2))

    with pytest.raises(ConfigError, match="layer '1' is a Odd, a subclass"):
        bitfold.apply(with_inner(Odd(2, 2, 1)), "bireal")
    bitfold.apply(nn.Sequential(nn.Conv2d(2, 2, 1), Odd(2, 2, 1), nn.Conv2d(2, 2, 1), nn.Linear(2, 2)), "bireal", keep_float=["1"])
    with pytest.raises(ConfigError, match="conv '1' has padding_mode='circular'"):
        bitfold.apply(with_inner(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")), "bireal")
    hooked = nn.Conv2d(2, 2, 1)
    hooked.register_forward_hook(lambda *_: None)
    with pytest.raises(ConfigError, match="layer '1' has hooks"):
        bitfold.apply(with_inner(hooked), "bireal")


def test_layers_side_by_side_share_their_input_quantiser() -> None:
    """Parallel's layers read one tensor; its parameters are learned, saved and exported once."""

    def branch() -> nn.Module:
        return nn.Conv2d(4, 4, 1, bias=False)

    model = nn.Sequential(nn.Conv2d(3, 4, 1), Parallel([branch(), nn.Sequential(branch(), nn.BatchNorm2d(4)), nn.Identity()]))
    bitfold.apply(model, get("reactnet", last=True), keep_float=[])
    parallel = model[1]
    assert parallel[0].act_quant is parallel[1][0].act_quant and isinstance(parallel[1][0], QuantConv2d)
    assert sum(name.endswith("shift") for name, _ in model.named_parameters()) == 1
    assert parallel[0].weight_quant is not parallel[1][0].weight_quant
    outputs = model(torch.randn(2, 3, 5, 5))
    assert len(outputs) == 3 and torch.equal(outputs[0], parallel[0](outputs[2]))
