"""Tensors with any axes: what moves elements, and what reads them, against PyTorch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.export.nets import Lambda, ViT, batch_norm, compare, inputs, kinds, sign_conv
from torch import Tensor, nn

import bitfold
from bitfold.errors import ExportError
from bitfold.quantizers.sign import Sign

GAMMA, POSITIONS = torch.linspace(-1, 2, 7), torch.linspace(-3, 3, 28).view(1, 4, 7)

MASK = torch.ones(4, 4).tril()


def f(function: Callable[[Tensor], Tensor]) -> nn.Module:
    return Lambda(lambda self, x: function(x))


def tokens(function: Callable[[Tensor], Tensor]) -> nn.Module:
    """Of (N, 4, 7) tokens, which are pixels of an image and so as the IR has them."""
    return Lambda(lambda self, x: function(x.flatten(2).transpose(1, 2)))


def shuffle(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


def windows(x: Tensor) -> Tensor:
    n, h, w, c = x.shape
    return x.view(n, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(n, -1, 4 * c)


MOVES: dict[str, tuple[Callable[[Tensor], Tensor], list[str]]] = {
    "shuffle": (shuffle, ["Rearrange"]),
    "shuffle_function": (lambda x: F.channel_shuffle(x, 3), ["Rearrange"]),
    "transpose_and_back": (lambda x: F.relu(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), ["Clamp"]),
    "permute": (lambda x: x.permute(0, 2, 3, 1), ["Rearrange"]),
    "transposed": (lambda x: x.mT, ["Rearrange"]),
    "tokens": (lambda x: x.flatten(2).transpose(1, 2), ["Rearrange"]),
    "space_to_depth": (lambda x: F.pixel_unshuffle(x, 2), ["Rearrange"]),
    "windows": (lambda x: windows(x.permute(0, 2, 3, 1)), ["Rearrange"]),
    "flip": (lambda x: x.flip(1, 3), ["Rearrange", "Upsample"]),
    "roll": (lambda x: x.roll((1, -2), (2, 3)), ["Upsample"]),
    "crop": (lambda x: x[:, :, 1:5, 2:], ["Upsample"]),
    "crop_steps": (lambda x: x[:, :, 1::2, ::3], ["Upsample"]),
    "subsample": (lambda x: x[:, :, ::2, ::3], ["MaxPool"]),
    "channel_steps": (lambda x: x[:, ::2], ["Rearrange"]),
    "channels_and_rows": (lambda x: x[:, 1:4, 2:], ["Slice", "Upsample"]),
    "split_rows": (lambda x: x.split(4, 2)[1], ["Upsample"]),
    "select": (lambda x: x[:, 2], ["Rearrange"]),
    "flatten": (lambda x: x.flatten(1), ["Flatten"]),
    "expand": (lambda x: x[:, :1].expand(-1, 4, -1, -1), ["Rearrange"]),
    "zero_pad": (lambda x: F.pad(x, (1, 2, 0, 3)), ["Upsample"]),
    "negative_pad": (lambda x: F.pad(x, (-1, 2)), ["Upsample"]),
    "pad_all": (lambda x: F.pad(x, (1, 1, 1, 1, 2, 0)), ["Upsample", "PadChannels"]),
    "pad_after_slice": (lambda x: F.pad(x[:, 1:3], (0, 0, 0, 0, 1, 1)), ["Slice", "PadChannels"]),
    "reflect": (lambda x: F.pad(x, (1, 2, 2, 1), mode="reflect"), ["Upsample"]),
    "replicate": (lambda x: F.pad(x, (1, 2, 2, 1), mode="replicate"), ["Upsample"]),
    "unbind": (lambda x: x.unbind(1)[1] + x.unbind(1)[0], ["Rearrange", "Rearrange", "Add", "Rearrange"]),
    "repeat": (lambda x: x.repeat(1, 2, 1, 1), ["Rearrange"]),
}


@pytest.mark.native
@pytest.mark.parametrize("name", MOVES)
def test_movements(name: str, rng: np.random.Generator) -> None:
    function, nodes = MOVES[name]
    assert kinds(compare(f(function), inputs(rng, 2, 6, 6, 6))) == nodes


MODULES: dict[str, nn.Module] = {
    "ZeroPad2d": nn.ZeroPad2d((1, 0, 2, 1)),
    "ReflectionPad2d": nn.ReflectionPad2d(2),
    "CircularPad2d": nn.CircularPad2d(1),
    "ChannelShuffle": nn.ChannelShuffle(2),
    "PixelUnshuffle": nn.PixelUnshuffle(3),
    "MaxPool1d": nn.Sequential(nn.Flatten(2), nn.MaxPool1d(3, 2, padding=1)),
    "AvgPool1d": nn.Sequential(nn.Flatten(2), nn.AvgPool1d(4)),
    "AdaptiveAvgPool1d": nn.Sequential(nn.Flatten(2), nn.AdaptiveAvgPool1d(6)),
    "Conv2d_reflect": nn.Conv2d(6, 4, 3, padding=(1, 2), padding_mode="reflect"),
    "Conv2d_circular": nn.Conv2d(6, 4, 3, padding=1, padding_mode="circular", bias=False),
    "Conv2d_same": nn.Conv2d(6, 4, (2, 4), padding="same"),
    "Conv1d_replicate": nn.Sequential(nn.Flatten(2), nn.Conv1d(6, 4, 5, padding=2, padding_mode="replicate", dilation=2)),
    "Conv1d_groups": nn.Sequential(nn.Flatten(2), nn.Conv1d(6, 6, 3, padding=1, groups=3, stride=2)),
    "Unflatten": nn.Sequential(nn.Flatten(), nn.Unflatten(1, (12, 3, 6))),
}


@pytest.mark.native
@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", MODULES)
def test_modules_that_move(name: str, rng: np.random.Generator) -> None:
    compare(nn.Sequential(MODULES[name]), inputs(rng, 2, 6, 6, 6))


class LayerNormOfChannels(nn.Module):
    """ConvNeXt's: the norm of each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(7)
        nn.init.normal_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


NORM = ["Mean", "Affine", "Add", "Mul", "Mean", "Affine", "Unary", "Mul", "Affine"]


@pytest.mark.native
@pytest.mark.parametrize("border", ["zeros", "reflect"])
def test_borders_are_read_like_other_pixels(border: str, rng: np.random.Generator) -> None:
    """What follows acts on them too: a bias, and a quantiser, whose code of 0 is +1."""
    pad = nn.ZeroPad2d(1) if border == "zeros" else nn.ReflectionPad2d(1)
    x = inputs(rng, 2, 6, 5, 5)
    compare(nn.Sequential(nn.Conv2d(6, 6, 1), pad, batch_norm(6, rng), nn.Sigmoid()), x)
    graph = compare(nn.Sequential(pad, sign_conv(6, 8, 3), batch_norm(8, rng), pad, sign_conv(8, 5, 3)), x)
    assert kinds(graph).count("Upsample") == 2
    crop = Net(lambda self, x: self.conv(self.act(x)[:, :, 1:-1, 1:]), act=Sign(), conv=sign_conv(6, 4, 3))
    compare(crop, x)


RMS = ["Mul", "Mean", "Affine", "Unary", "Mul", "Affine"]
READERS: dict[str, tuple[nn.Module, list[str]]] = {
    "gamma": (tokens(lambda x: (x * GAMMA + 0.5).transpose(1, 2)), ["Affine", "Affine"]),
    "positions": (tokens(lambda x: (x + POSITIONS).transpose(1, 2)), ["Rearrange", "Affine"]),
    "from_constant": (tokens(lambda x: (POSITIONS - x).transpose(1, 2)), ["Rearrange", "Affine"]),
    "relu": (tokens(lambda x: F.relu(x).transpose(1, 2)), ["Clamp"]),
    "two_orders": (tokens(lambda x: (x + x.flip(1)).transpose(1, 2)), ["Upsample", "Add"]),
    "padded_tokens": (tokens(lambda x: F.pad(x, (0, 0, 1, 2))), ["Rearrange", "Upsample"]),
    "padded_features": (tokens(lambda x: (F.pad(x, (2, 1)) + 1).transpose(1, 2)), ["Rearrange", "PadChannels", "Affine"]),
    "padded_channels_last": (f(lambda x: F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, 1, 2, 1)).permute(0, 3, 1, 2) + 1), ["Upsample", "Affine"]),
    "padded_and_constant": (f(lambda x: F.pad(x, (1, 0, 1, 0)) + torch.arange(9.0).view(3, 3)), []),
    "outer": (tokens(lambda x: (x[:, :, :1] * x[:, :1]).transpose(1, 2)), []),
    "softmax_of_features": (tokens(lambda x: x.softmax(-1).transpose(1, 2)), ["Softmax"]),
    "softmax_of_tokens": (tokens(lambda x: x.softmax(1).transpose(1, 2)), ["Rearrange", "Softmax", "Rearrange"]),
    "mean_of_tokens": (tokens(lambda x: x.mean(1)), ["Mean", "Flatten"]),
    "mean_of_features": (tokens(lambda x: x.mean(-1, keepdim=True)), ["Mean", "Rearrange"]),
    "first_token": (tokens(lambda x: x[:, 0]), ["Rearrange"]),
    "cat_tokens": (tokens(lambda x: torch.cat([x, 2 * x], 1).transpose(1, 2)), []),
    "cat_features": (tokens(lambda x: torch.cat([x, 2 * x], 2).transpose(1, 2)), ["Affine", "Concat"]),
    "matrix": (tokens(lambda x: (x @ torch.ones(7, 3)).transpose(1, 2)), ["Conv"]),
    "product": (tokens(lambda x: x @ x.transpose(1, 2)), []),
    "masked": (tokens(lambda x: (x @ x.mT).masked_fill(MASK == 0, float("-inf")).softmax(-1) @ x), []),
    "filled": (f(lambda x: x.masked_fill(torch.eye(2) > 0, 3.0)), []),
    "causal": (tokens(lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True)), []),
    "attention_bool_mask": (tokens(lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=MASK > 0, scale=0.3)), []),
    "attention_float_mask": (tokens(lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=MASK.log())), []),
    "norm": (LayerNormOfChannels(), NORM),
    "image_constant": (f(lambda x: x + torch.arange(4.0).view(2, 2)), []),
    "rows_mean": (f(lambda x: x.mean(2)), []),
    "row_scale": (f(lambda x: x * torch.tensor([1.0, 2.0])), []),
    "linear_of_rows": (nn.Linear(2, 3), []),
    "rms_norm": (nn.RMSNorm(2), ["Rearrange", *RMS]),
    "rms_norm_function": (
        tokens(lambda x: F.rms_norm(x, (7,), GAMMA, 0.5).transpose(1, 2)),
        ["Mul", "Mean", "Affine", "Unary", "Mul", "Affine"],
    ),
    "rms_norm_of_vector": (f(lambda x: F.rms_norm(x[:, :, 0, 0], (7,))), []),
    "norm_of_rows": (nn.LayerNorm(2), []),
    "cat_rows": (f(lambda x: torch.cat([x, x + 1], 2)), []),
}


@pytest.mark.native
@pytest.mark.parametrize("name", READERS)
def test_readers(name: str, rng: np.random.Generator) -> None:
    model, nodes = READERS[name]
    graph = compare(model, inputs(rng, 3, 7, 2, 2))
    found = kinds(graph)
    if nodes:  # a last Rearrange makes the output's order
        assert found in (nodes, [*nodes, "Rearrange"])


class Net(nn.Module):
    def __init__(self, forward: Callable[[Any, Tensor], Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self._forward = forward
        for name, module in modules.items():
            self.add_module(name, module)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.normal_(module.running_mean)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def mixer(self: Any, x: Tensor) -> Tensor:
    x = self.patch(x).flatten(2).transpose(1, 2)
    x = x + self.token2(F.gelu(self.token1(self.norm(x).transpose(1, 2)))).transpose(1, 2)
    x = x + self.channel2(F.gelu(self.channel1(self.norm(x))))
    return self.head(x.mean(1))  # type: ignore[no-any-return]


def convnext(self: Any, x: Tensor) -> Tensor:
    x = self.patch(x)
    y = self.fc2(F.gelu(self.fc1(self.norm(self.depthwise(x).permute(0, 2, 3, 1))))) * self.scale.weight[0]
    return self.head((x + y.permute(0, 3, 1, 2)).mean([-2, -1]))  # type: ignore[no-any-return]


def shufflenet(self: Any, x: Tensor) -> Tensor:
    a, b = self.patch(x).chunk(2, dim=1)
    x = shuffle(torch.cat([a, F.relu(self.norm(self.conv(b)))], 1))
    return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


def sequence(self: Any, x: Tensor) -> Tensor:
    x = F.relu(self.norm(self.conv(x.flatten(2))))
    return self.head(x.mean(-1))  # type: ignore[no-any-return]


NETS: dict[str, Callable[[], nn.Module]] = {
    "vit": lambda: ViT(False),
    "vit_fused": lambda: ViT(True),
    "mixer": lambda: Net(
        mixer,
        patch=nn.Conv2d(3, 8, 4, 4),
        norm=nn.LayerNorm(8),
        token1=nn.Linear(16, 12),
        token2=nn.Linear(12, 16),
        channel1=nn.Linear(8, 20),
        channel2=nn.Linear(20, 8),
        head=nn.Linear(8, 5),
    ),
    "convnext": lambda: Net(
        convnext,
        patch=nn.Conv2d(3, 8, 4, 4),
        depthwise=nn.Conv2d(8, 8, 7, padding=3, groups=8),
        norm=nn.LayerNorm(8),
        fc1=nn.Linear(8, 32),
        fc2=nn.Linear(32, 8),
        scale=nn.Embedding(1, 8),
        head=nn.Linear(8, 5),
    ),
    "shufflenet": lambda: Net(
        shufflenet, patch=nn.Conv2d(3, 12, 3, 2), conv=nn.Conv2d(6, 6, 3, padding=1), norm=nn.BatchNorm2d(6), head=nn.Linear(12, 5)
    ),
    "sequence": lambda: Net(sequence, conv=nn.Conv1d(3, 6, 5, stride=2, padding=2), norm=nn.BatchNorm1d(6), head=nn.Linear(6, 4)),
}


@pytest.mark.native
@pytest.mark.parametrize("name", NETS)
def test_networks(name: str, rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    compare(NETS[name](), inputs(rng, 2, 3, 16, 16), tolerance=1e-5)


@pytest.mark.native
@pytest.mark.parametrize("name", ["vit_fused", "mixer"])
@pytest.mark.parametrize("method", ["bireal", "reactnet", "dorefa"])
def test_linear_layers_of_tokens_are_integer_layers(name: str, method: str, rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    model = bitfold.apply(NETS[name](), method)
    x = inputs(rng, 4, 3, 16, 16)
    with torch.no_grad():
        model.train()(x)  # scales that start at the first batch
    graph = compare(model.eval(), x, tolerance=1e-4)
    report = bitfold.verify(model, graph, x)
    assert len(report.layers) >= 4 and report.ok and report.accumulators_differ == 0


@pytest.mark.native
def test_changes_in_place_are_seen(rng: np.random.Generator) -> None:
    """Also where nobody reads what the call returns."""

    def forward(x: Tensor) -> Tensor:
        y = x * 2
        kept = y.clone()
        y.add_(1)
        F.relu(y, True)
        return y - kept

    compare(f(forward), inputs(rng, 2, 3, 4, 4))


def test_inputs_of_two_axes(rng: np.random.Generator) -> None:
    graph = compare(nn.Sequential(nn.Linear(5, 4), nn.ReLU()), inputs(rng, 2, 3, 5), engine=False)
    assert next(iter(graph.inputs.values())).shape == (3, 5, 1) and graph.types[graph.outputs[0]].shape == (3, 4, 1)


def _changed(x: Tensor) -> Tensor:
    x = x + 1
    x[:, :3].mul_(2)
    return x


def _part_changed(x: Tensor) -> Tensor:
    parts = (x + 1).chunk(2, 1)
    parts[0].mul_(2)
    return parts[0] + parts[1]


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "batch_in_view": (lambda x: x.view(1, -1), r"returns \(1, 216\) per sample, .* '1?.?.*view' .*batch size written into it"),
    "mixed_samples": (lambda x: x.flip(0), "flip at .*mixes samples"),
    "four_axes": (lambda x: x.view(x.shape[0], 2, 3, 6, 6), r"returns \(2, 3, 6, 6\) per sample; allowed: one to three axes"),
    "no_strides": (lambda x: x[:, [0, 3, 1]], "gives channels in an order without strides"),
    "constant_per_sample": (lambda x: x + torch.arange(3.0).view(3, 1, 1, 1), "differs from sample to sample"),
    "attention_dropout": (lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5), "dropout_p=0.5, .*; allowed: neither"),
    "mask_of_data": (lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=x), "allowed: .*masks that are constants"),
    "samples_beside_an_axis": (lambda x: x.mean(3)[:, :3] + x[:, :, 0, 0], "have other numbers of axes"),
    "product_beside_an_axis": (lambda x: x[:, :3] @ x[:, 0], "have other numbers of axes"),
    "part_changed": (_part_changed, "changes a tensor in place"),
    "view_changed": (_changed, "changes a tensor in place"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, rng: np.random.Generator) -> None:
    function, message = REFUSED[name]
    with pytest.raises(ExportError, match=message):
        bitfold.export(f(function), inputs(rng, 1, 6, 6, 6))
