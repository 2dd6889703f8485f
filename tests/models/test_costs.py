"""Parameters, operations and sizes of the models against computed and published figures, to 4 digits.

OPs = BOPs / 64 + FLOPs, 1 MAC = 1 FLOP, conv and linear only; packed = binary / 8 + others * 4 bytes. The figures of Bi-Real Net and
ReActNet agree with those printed in their repositories (1.63e8 OPs).
"""

import pytest
import torch
from torch import nn

import bitfold
from bitfold import methods, models
from bitfold.ir.summary import Summary


def cost(name: str, size: int, method: str = "bireal", fields: dict[str, bool] | None = None, **options: object) -> Summary:
    model = methods.get(method, **fields or {}).transform(models.create(name, **options))
    return bitfold.summary(model, (3, size, size))


#   network, image size, model options, method fields; BOPs, FLOPs, OPs, binary weights, other parameters, packed bytes
ROWS = [
    ("resnet18_imagenet", 224, {}, {}, "1.676e9 1.378e8 1.640e8 1.09855e7 7.04e5 4.19e6"),
    ("resnet18_imagenet", 224, {}, {"shortcut": True}, "1.696e9 1.185e8 1.450e8 1.11575e7 5.32e5 3.52e6"),
    ("resnet34_imagenet", 224, {}, {}, "3.526e9 1.378e8 1.929e8 2.10862e7 7.11e5 5.48e6"),
    ("alexnet", 227, {}, {}, "1.026e9 1.095e8 1.255e8 5.8237e7 4.169e6 2.396e7"),
    ("resnet20", 32, {}, {}, "4.011e7 4.43e5 1.070e6 2.673e5 2.6e3 4.4e4"),
    ("resnet18", 32, {}, {}, "5.474e8 8.07e6 1.66e7 1.09855e7 1.90e5 2.13e6"),
    ("resnet18", 32, {"shortcut": "avgpool_pad"}, {}, "5.474e8 1.77e6 1.03e7 1.09855e7 1.6e4 1.44e6"),
    ("vgg_small", 32, {}, {}, "6.040e8 3.62e6 1.31e7 4.571e6 8.9e4 9.3e5"),
]


def rounded(value: float, figure: str) -> str:
    """``value`` with as many digits as ``figure`` (such as 1.676e9)."""
    digits, exponent = figure.split("e")
    return f"{value / 10.0 ** int(exponent):.{len(digits.partition('.')[2])}f}e{exponent}"


def binary_weights(s: Summary) -> int:
    """Of p parameters b are stored in a bit: size = b / 8 + 4 (p - b)."""
    return round((4 * s.parameters - s.size_bytes) / (4 - 1 / 8))


@pytest.mark.parametrize("row", ROWS, ids=lambda r: "-".join([r[0], *r[2].values(), *r[3]]))
def test_costs(row: tuple[str, int, dict[str, str], dict[str, bool], str]) -> None:
    name, size, options, fields, figures = row
    s = cost(name, size, fields=fields, **options)
    found = (s.bops, s.flops, s.ops, binary_weights(s), s.parameters - binary_weights(s), s.size_bytes)
    assert [rounded(v, f) for v, f in zip(found, figures.split(), strict=True)] == figures.split()


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_total_parameters() -> None:
    assert count(models.create("resnet18_imagenet")) == 11_689_512
    assert count(models.create("resnet34_imagenet")) == 21_797_672
    reactnet = methods.get("reactnet").transform(models.create("resnet18_imagenet", act="prelu"))
    assert count(reactnet) == 11_704_424


def test_reactnet_a() -> None:
    """Parameters to the digit; the rest of the row to the digits printed: .871e8 OPs, 28.2532 M binary, 1.090 M others, 7.89 MB."""
    s = cost("reactnet_a", 224, "reactnet")
    assert (s.parameters, s.bops, s.flops) == (29_343_592, 4_816_896_000, 11_862_016)
    found = (s.bops, s.flops, s.ops, binary_weights(s), s.parameters - binary_weights(s), s.size_bytes)
    figures = ["4.817e9", "1.19e7", "8.71e7", "2.82532e7", "1.090e6", "7.89e6"]
    assert [rounded(v, f) for v, f in zip(found, figures, strict=True)] == figures


def test_alexnet_weights() -> None:
    """xnor-net.md row 8 (weights per layer) and section 8: 62,367,776 weights, 58,236,928 of them binary, 7.28 MB packed."""
    with torch.device("meta"):
        layers = [m for m in models.create("alexnet").modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    weights = [m.weight.numel() for m in layers]
    assert weights == [34_848, 614_400, 884_736, 1_327_104, 884_736, 37_748_736, 16_777_216, 4_096_000]
    assert sum(weights) == 62_367_776 and sum(weights[1:-1]) == 58_236_928 and sum(weights[1:-1]) / 8 == pytest.approx(7.28e6, rel=1e-3)


@pytest.mark.parametrize(
    ("channels", "taps", "speed_up"), [(256, 9, 62.27), (3, 1, 2.866), (256, 1, 51.2), (128, 9, 60.63), (1024, 9, 63.56)]
)
def test_speed_up_formula(channels: int, taps: int, speed_up: float) -> None:
    """xnor-net.md row 8: S = 64 c N_W / (c N_W + 64), one real operation a position beside the binary ones, from our counter's OPs."""
    from bitfold.ir.summary import Row, Summary

    rows = [Row("conv", "Conv", (), 1, 1, 0, channels * taps, 0), Row("scale", "Conv", (), 32, 32, 0, 1, 0)]
    ops = Summary("", tuple(rows), 0).ops
    digits = len(str(speed_up).partition(".")[2])
    assert round(channels * taps / ops, digits) == speed_up


def test_mobilenet_v1() -> None:
    """569 million multiply-adds and 4.2 million parameters (arXiv 1704.04861, table 8)."""
    s = bitfold.summary(models.create("mobilenet_v1"), (3, 224, 224))
    assert (s.parameters, s.flops) == (4_231_976, 568_740_352)


def test_reactnet_size_with_all_its_parameters() -> None:
    s = cost("resnet18_imagenet", 224, "reactnet", act="prelu")
    assert s.size_bytes == pytest.approx(4.25e6, rel=1e-3) and s.parameters - binary_weights(s) == pytest.approx(0.719e6, rel=1e-3)


def test_double_skip_and_normal_block_cost_the_same() -> None:
    double, normal = (cost("resnet20", 32, block=b) for b in ("double", "normal"))
    assert (double.ops, double.size_bytes, double.macs) == (normal.ops, normal.size_bytes, normal.macs)


def test_the_float_twin_has_the_same_macs() -> None:
    binary, plain = cost("resnet20", 32), bitfold.summary(models.create("resnet20"), (3, 32, 32))
    assert plain.flops == sum(binary.macs.values()) and plain.bops == 0 and plain.size_bytes == 4 * plain.parameters
