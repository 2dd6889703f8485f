"""The cost summary of modules: hand-counted layers, bits from encodings, nothing left changed."""

import pytest
import torch
from torch import nn

import bitfold
from bitfold import methods, models
from bitfold.errors import ConfigError


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 16, 3, stride=2, groups=4),
        nn.PReLU(16),
        nn.Flatten(),
        nn.Linear(16 * 9, 12),
        nn.ReLU(),
        nn.Linear(12, 10),
    )


def test_hand_counted_layers() -> None:
    s = bitfold.summary(net(), (3, 8, 8))
    rows = {r.name: r for r in s.rows}
    assert list(rows) == ["0", "1", "2", "3", "5", "7"]  # layers with parameters, in order
    assert [rows[p].macs for p in rows] == [3 * 8 * 9 * 64, 0, 2 * 16 * 9 * 9, 0, 144 * 12, 120]
    assert [rows[p].parameters for p in rows] == [216, 16, 2 * 16 * 9 + 16, 16, 144 * 12 + 12, 130]
    assert rows["2"].out_shape == (16, 3, 3) and rows["7"].out_shape == (10,)
    assert s.flops == s.ops == sum(r.macs for r in s.rows) and s.bops == 0
    assert s.size_bytes == 4 * s.parameters == 4 * sum(p.numel() for p in net().parameters())


@pytest.mark.parametrize(("weight_bits", "act_bits"), [(1, 1), (2, 3), (4, 8)])
def test_bits_come_from_the_encodings(weight_bits: int, act_bits: int) -> None:
    model = methods.get("qnn", weight_bits=weight_bits, act_bits=act_bits, first=False, last=False).transform(net())
    s = bitfold.summary(model, (3, 8, 8))
    inner = [r for r in s.rows if r.name in ("2", "5")]
    assert {(r.activation_bits, r.weight_bits) for r in inner} == {(act_bits, weight_bits)}
    coded = 2 * 16 * 9 + 144 * 12
    macs = 2 * 16 * 9 * 9 + 144 * 12
    assert s.macs == {(act_bits, weight_bits): macs, (32, 32): 3 * 8 * 9 * 64 + 120}
    assert s.bops == macs * weight_bits * act_bits and s.ops == s.bops / 64 + s.flops
    assert s.size_bytes == coded * weight_bits // 8 + (s.parameters - coded) * 4


def test_binary_weights_with_float_activations_are_flops() -> None:
    s = bitfold.summary(methods.get("xnor_net", mode="bwn").transform(net()), (3, 8, 8))
    assert (32, 1) in s.macs and s.bops == 0


def test_the_model_is_left_as_it_was() -> None:
    model = net().train()
    model[1].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    bitfold.summary(model, torch.randn(4, 3, 8, 8))
    assert [m.training for m in model] == [True, False, *[True] * 6]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())


def test_batch_and_shape_give_the_same_summary_and_calls_add_up() -> None:
    assert bitfold.summary(net(), torch.randn(5, 3, 8, 8)) == bitfold.summary(net(), (3, 8, 8))
    shared = nn.Linear(4, 4)
    twice = bitfold.summary(nn.Sequential(shared, nn.ReLU(), shared), (4,))
    assert (twice.parameters, twice.flops) == (20, 32)  # stored once, computed twice


def test_parameters_of_quantisers_belong_to_their_layer() -> None:
    model = methods.get("adabin").transform(models.create("digits_cnn"))
    s = bitfold.summary(model, (1, 8, 8))
    assert s.parameters == sum(p.numel() for p in model.parameters())
    first = next(r for r in s.rows if r.weight_bits == 1)
    assert (first.parameters, first.size_bytes) == (32 * 32 * 9 + 2, 32 * 32 * 9 // 8 + 8)  # distance and centre of the activations


def test_the_table() -> None:
    text = str(bitfold.summary(net(), (3, 8, 8)))
    assert text.splitlines()[0].split() == ["layer", "op", "output", "a", "bits", "w", "bits", "parameters", "MACs", "bytes"]
    assert "BatchNorm2d" in text and "32x32: 18,264" in text and "= 18,264" in text


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="a module needs example="):
        bitfold.summary(net())
    with pytest.raises(ConfigError, match="'0' is a Conv1d, whose cost is not known"):
        bitfold.summary(nn.Sequential(nn.Conv1d(3, 3, 3)), (3, 9))


@pytest.mark.parametrize("name", ["digits_cnn", "resnet20", "vgg_small"])
def test_a_module_and_its_graph_have_the_same_operations(name: str) -> None:
    model = methods.get("adabin").transform(models.create(name)).eval()
    x = torch.zeros(1, 1 if name == "digits_cnn" else 3, *((8, 8) if name == "digits_cnn" else (32, 32)))
    module, graph = bitfold.summary(model, x), bitfold.summary(bitfold.export(model, x))
    assert module.macs == graph.macs and module.ops == graph.ops
    weights = {r.name: r.weight_bits for r in module.rows if r.macs}
    assert weights == {r.name: r.weight_bits for r in graph.rows if r.macs}
    assert (
        abs(graph.size_bytes - graph.header_bytes - module.size_bytes) < 0.35 * module.size_bytes
    )  # folding trades BatchNorms for epilogues
