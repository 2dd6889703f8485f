"""What cannot be exported is refused with the place, what came and what is allowed; nothing is changed on the way."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.export.nets import Lambda, inputs, sign_conv
from torch import Tensor, nn

import bitfold
from bitfold.errors import ExportError
from bitfold.ir.encoding import Binary, Encoding, Float, Uniform
from bitfold.layers.quant import QuantConv2d, QuantLinear
from bitfold.quantizers.base import Quantizer, sign
from bitfold.quantizers.scaled_sign import ScaledSign
from bitfold.quantizers.sign import Sign


class Claims(Quantizer):
    """A sign with a made-up encoding."""

    def __init__(self, made_up: Encoding | None) -> None:
        super().__init__()
        self.made_up = made_up

    def codes(self, x: Tensor) -> Tensor:
        return sign(x).to(torch.int32)

    def forward(self, x: Tensor) -> Tensor:
        return sign(x)

    def encoding(self, x: Tensor | None = None) -> Encoding:
        return super().encoding(x) if self.made_up is None else self.made_up


def quantised(act: Quantizer | None = None, weight: Quantizer | None = None) -> nn.Module:
    return nn.Sequential(QuantConv2d(3, 4, 3, act_quant=act, weight_quant=weight if weight is not None else ScaledSign("swap")))


def circular() -> nn.Module:
    conv = sign_conv(3, 4)
    conv.padding_mode = "circular"
    return nn.Sequential(conv)


def one_sided() -> nn.Module:
    return nn.Sequential(QuantConv2d(3, 4, 2, padding="same", act_quant=Sign(), weight_quant=ScaledSign("swap")))


def branch(x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


def into_zeros(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[:, 1:] = x[:, :-1]
    return x + y


def set_item(x: Tensor, key: Any, value: Any) -> Tensor:
    x[key] = value
    return x


def into_parameter() -> nn.Module:
    """A copy of a parameter that takes data where a view of it is changed: its elements are the input's from then on."""

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        copy = self.bn.weight.clone()
        copy[:2].copy_(x[0, :2, 0, 0])
        return x * copy[0].item()

    return nn.Sequential(nn.ReLU(), Lambda(forward, bn=nn.BatchNorm2d(3)))


def viewed_before(x: Tensor) -> Tensor:
    y = x * 2
    half = y[:, 1:]
    y[:, :2] = x[:, 1:]
    return y[:, 1:] + half


ELEMENTS: list[Callable[[Tensor], Any]] = [
    lambda x: x * x[0, 0, 0, 0].item(),
    lambda x: x * x.flatten().tolist()[0],
    lambda x: x * torch.from_numpy(x.detach().numpy()),
    lambda x: x * 2 if torch.equal(x, x.abs()) else x,
    lambda x: x * 2 if torch.allclose(x, -x) else x,
    lambda x: x * torch.nonzero(x > 0).shape[0],
    lambda x: x * len(torch.nonzero(x > 0)),
    lambda x: x * torch.nonzero(x > 0).size(0),
    lambda x: x * torch.unique(x).numel(),
    lambda x: x * (x[x > 0] * 2).shape[0],
    lambda x: x * float(x.mean((1, 2, 3)).sum(0)),
    lambda x: x[:, int(x[0, 0, 0, 0])],
]


def function(f: Callable[[Tensor], Any]) -> nn.Module:
    return nn.Sequential(nn.ReLU(), Lambda(lambda self, x: f(x)))


CASES: dict[str, tuple[nn.Module, str]] = {
    "module": (nn.Sequential(nn.Softplus()), "Softplus at '0' is not supported; allowed: .*BatchNorm2d.*QuantConv2d"),
    "rms_norm": (nn.Sequential(nn.RMSNorm((3, 6, 6))), r"RMSNorm at '0': normalises \(3, 6, 6\), several axes"),
    "instance_norm_statistics": (nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True)), "track_running_stats=True; allowed: False"),
    "indices_of_maxima": (function(lambda x: x * x.max(1, keepdim=True)[1]), "argmax at '1.argmax' is not part of deployment"),
    "shape_behind_a_function": (
        function(lambda x: (y := torch.erf(x) * 2).flatten(2) + y.shape[1]),
        "shape of what mul at '1.mul' gives may depend .*; erf at '1.erf' is not supported",
    ),
    "function": (function(torch.erf), "erf at '1.erf' is not supported; allowed: .*relu"),
    "norm_of_all": (nn.Sequential(nn.LayerNorm((3, 6, 6))), r"LayerNorm at '0': normalises \(3, 6, 6\), several axes; allowed: the last"),
    "method": (function(lambda x: x.cumsum(1)), "cumsum at '1.cumsum' is not supported"),
    "sign": (function(torch.sign), "sign at '1.sign' has no codes; use a quantiser"),
    "log_softmax": (function(lambda x: F.log_softmax(x, 1)), "log_softmax at '1.log_softmax' is not part of deployment: export the logits"),
    "log_softmax_module": (nn.Sequential(nn.LogSoftmax(1)), "LogSoftmax at '0': is not part of deployment"),
    "conv_of_data": (
        nn.Sequential(nn.ReLU(), Lambda(lambda self, x: F.conv2d(x, x.mean((0,), keepdim=True)))),
        "mean at '1.mean': gives|conv2d at '1.conv2d': its weight or its bias is computed",
    ),
    "linear_of_data": (function(lambda x: F.linear(x, x[0, 0])), "select|getitem|linear at '1.linear'"),
    "batch_norm_training": (
        function(lambda x: F.batch_norm(x, None, None, training=True)),
        "batch_norm at '1.batch_norm': statistics of the",
    ),
    "einsum_of_three": (
        function(lambda x: torch.einsum("bchw,bdhw,bdhw->bc", x, x, x)),
        "einsum at '1.einsum' is written .*allowed: two operands",
    ),
    "root": (function(lambda x: x**0.5), "pow at '1.pow' has an exponent other than"),
    "half": (function(lambda x: x.to(torch.float16)), "to at '1.to': gives a type other than float32"),
    "batch_in_view": (
        function(lambda x: x.view(1, -1)),
        r"returns \(1, 108\) per sample, the samples not in front: '1.view' moves them or has a batch size written into it",
    ),
    "folded_images": (
        nn.Sequential(nn.ReLU(), Lambda(lambda self, x: self.conv(x.reshape(-1, 1, 6, 6)), conv=nn.Conv2d(1, 2, 3))),
        r"Conv2d at '1.conv': reads samples folded into an axis of \[\(3, 1, 6, 6\)\]; allowed: layers and functions of the last axis",
    ),
    "folded_repeat": (function(lambda x: x[:, 0].repeat(3, 1, 1)), "repeat at '1.repeat': mixes samples"),
    "folded_beside_unfolded": (function(lambda x: x[:, 0] + x[:1].flatten(0, 1)), "batch|samples"),
    "folded_output": (function(lambda x: x.flatten(0, 1)), "samples not in front: '1.flatten' moves them"),
    "antialias_of_one_column": (function(lambda x: F.interpolate(x[..., :1], (9, 1), mode="bicubic", antialias=True)), "antialias=True"),
    **{f"element_{i}": (function(f), "may depend on elements of the input") for i, f in enumerate(ELEMENTS)},
    "item_of_a_constant": (function(into_zeros), "setitem at '1.*' writes data into a constant"),
    "item_of_a_parameter": (into_parameter(), "copy_ at .* writes data into a constant"),
    "items_that_overlap": (function(lambda x: set_item(y := x * 2, (slice(None), slice(1, None)), y[:, :-1])), "that they overlap"),
    "item_by_mask": (function(lambda x: set_item(x * 2, torch.ones(6) > 0, 1.0)), "an assignment to the items"),
    "item_of_every_second": (function(lambda x: set_item(x * 2, (slice(None), slice(None, None, 2)), 1.0)), "slices without a step"),
    "item_of_what_is_viewed": (function(viewed_before), "changes a tensor in place that is read elsewhere"),
    "folded_mean": (function(lambda x: x.flatten(0, 1).mean(0, keepdim=True)), "mean at '1.mean': reads samples folded into an axis"),
    "folded_maximum": (
        function(lambda x: x.flatten(0, 1).amax(0, keepdim=True)),
        "amax at '1.amax': changes the axis into which samples are folded",
    ),
    "folded_softmax": (function(lambda x: x.flatten(0, 1).softmax(0)), r"softmax at '1.softmax': dim=0.*allowed: an axis of the sample"),
    "transposed_output": (
        function(lambda x: x.flatten(2).transpose(0, 1)),
        "samples not in front: '1.transpose' moves them",
    ),
    "add_alpha": (function(lambda x: torch.add(x, x, alpha=2)), "alpha=2; allowed: 1"),
    "broadcast_batch": (function(lambda x: x * x.mean((0,), keepdim=True)), "mean at '1.mean': gives"),
    "pool_uneven": (nn.Sequential(nn.AdaptiveAvgPool2d(4)), "6x6 does not divide evenly into 4x4"),
    "pool_indices": (nn.Sequential(nn.MaxPool2d(2, return_indices=True)), "MaxPool2d at '0': return_indices=True; allowed: False"),
    "pool_divisor": (nn.Sequential(nn.AvgPool2d(2, divisor_override=3)), "divisor_override=3"),
    "pool_ceil": (nn.Sequential(nn.AvgPool2d(3, 2, padding=1, ceil_mode=True)), "ceil_mode, padding and count_include_pad together"),
    "dropout": (function(lambda x: F.dropout(x, 0.5)), "training=True written into it"),
    "arguments": (function(lambda x: F.relu6(x, out=None)), "cannot be traced|not supported|failed"),
    "batch_norm_without_statistics": (nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), "track_running_stats=False"),
    "branch": (function(branch), "Sequential cannot be traced: .*; allowed: a forward without branches"),
    "same_one_sided": (one_sided(), r"padding=.same., .*kernel \(2, 2\); allowed: zeros, as many on both sides"),
    "padding_mode": (circular(), "QuantConv2d at '0': padding=.*, padding_mode='circular' .*allowed: zeros"),
    "scale_per_channel": (quantised(Claims(Binary((1.0, 2.0, 3.0)))), "at '0.act_quant': scale of the activations is .*one finite number"),
    "scale_nan": (quantised(Claims(Binary(float("nan")))), "at '0.act_quant': scale of the activations"),
    "weight_scales": (quantised(weight=Claims(Binary((1.0, 2.0)))), "QuantConv2d at '0': the weights' scale has 2 entries"),
    "weight_wrong": (quantised(weight=Claims(Binary(2.0))), "weight quantiser Claims: forward and .* differ by 1"),
    "act_wrong": (quantised(Claims(Binary(1.0, 0.5))), "Claims at '0.act_quant': forward and .* differ by 0.5"),
    "codes_wrong": (quantised(Claims(Uniform(2, False))), "codes outside its encoding"),
    "no_encoding": (quantised(Claims(None)), "QuantConv2d at '0': quantiser Claims states no encoding"),
    "float_but_changes": (quantised(Claims(Float())), "changes its input but states no codes"),
    "constant_output": (Lambda(lambda self, x: torch.ones(3)), "the model returns"),
    "dict_output": (Lambda(lambda self, x: {"y": x.relu()}), "the model returns"),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", CASES)
def test_refused(name: str, rng: np.random.Generator) -> None:
    model, message = CASES[name]
    with pytest.raises(ExportError) as caught:
        bitfold.export(model, inputs(rng, 1, 3, 6, 6))
    assert re.search(message, str(caught.value)), str(caught.value)


def test_weight_on_other_dtypes_is_refused() -> None:
    with pytest.raises(ExportError, match=r"'0.weight' is torch.float64; allowed: torch.float32; call model.float\(\)"):
        bitfold.export(nn.Sequential(nn.Linear(3, 2)).double(), torch.zeros(1, 3))


@pytest.mark.parametrize("example", [torch.zeros(3), torch.zeros(1, 3, dtype=torch.int64), torch.zeros(0, 3), torch.zeros(1, 2, 3, 3, 3)])
def test_examples_that_are_no_batch(example: Tensor) -> None:
    with pytest.raises(ExportError, match=r"example is .*; allowed: float32 of"):
        bitfold.export(nn.Linear(3, 2), example)


def test_an_example_of_the_wrong_size_names_the_layer() -> None:
    with pytest.raises(ExportError, match="at '1' failed on the example"):
        bitfold.export(nn.Sequential(nn.ReLU(), nn.Linear(3, 2)), torch.zeros(1, 4))


def test_the_model_is_not_changed(rng: np.random.Generator) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), sign_conv(4, 2)).train()
    model[1].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    bitfold.export(model, inputs(rng, 2, 3, 8, 8))
    assert [m.training for m in model] == [True, False, True, True]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(p.grad is not None for p in model.parameters())


def test_names_and_metadata(rng: np.random.Generator) -> None:
    model = nn.Sequential(nn.Flatten(), QuantLinear(12, 3, act_quant=Sign(), weight_quant=ScaledSign("swap")))
    graph = bitfold.export(model, inputs(rng, 1, 3, 2, 2), name="tiny", metadata={"method": "none"})
    assert graph.name == "tiny" and graph.metadata == {"method": "none"}
    assert [n.name for n in graph.nodes] == ["1.act_quant", "0", "1"]
    assert bitfold.export(model, inputs(rng, 1, 3, 2, 2)).name == "Sequential"


def test_the_number_of_examples_is_that_of_the_inputs() -> None:
    class Two(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a + b

    x = torch.zeros(1, 3)
    with pytest.raises(ExportError, match="1 example inputs; the model's forward takes a, b"):
        bitfold.export(Two(), x)
    with pytest.raises(ExportError, match="2 example inputs, of which the model's forward takes 1 as tensors"):
        bitfold.export(nn.Linear(3, 2), (x, x))
