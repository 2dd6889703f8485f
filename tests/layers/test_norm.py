import pytest
import torch
from torch import nn

from bitfold.layers.norm import MeanShift, SampleStd, batch_norm, remove_norms_behind
from bitfold.layers.quant import QuantConv2d, QuantLinear
from bitfold.quantizers.normalized import Normalized
from bitfold.quantizers.sign import Sign


def test_mean_shift_is_a_batch_norm_without_division() -> None:
    torch.manual_seed(0)
    shift, x = MeanShift(3), torch.randn(4, 3, 2, 5) * 2 + 1
    seen = x.clone().requires_grad_()
    y = shift(seen)
    (y * torch.arange(y.numel()).view_as(y)).sum().backward()
    assert torch.allclose(y.mean((0, 2, 3)), torch.zeros(3), atol=1e-6)
    assert torch.allclose(shift.mean, 0.1 * x.mean((0, 2, 3)))
    assert torch.allclose(seen.grad.sum((0, 2, 3)), torch.zeros(3), atol=1e-3)  # differentiated through the mean
    shift.eval()
    before = shift.mean.clone()
    assert torch.equal(shift(x), x - before.view(1, 3, 1, 1)) and torch.equal(shift.mean, before)
    assert torch.allclose(MeanShift(5)(torch.randn(8, 5)).mean(0), torch.zeros(5), atol=1e-6)


def test_sample_std() -> None:
    x = torch.randn(3, 2, 4, 4) * torch.tensor([1.0, 5, 0.1]).view(3, 1, 1, 1)
    norm = SampleStd()
    assert torch.allclose(norm(x).std((1, 2, 3)), torch.ones(3), rtol=1e-2)
    assert norm.eval()(x) is x


def test_norms_behind_quantised_layers_are_taken_out() -> None:
    def quantised(a: int, b: int) -> QuantConv2d:
        return QuantConv2d(a, b, 3, act_quant=Normalized(Sign(), nn.BatchNorm2d(a)), weight_quant=Sign())

    parts = [nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), quantised(4, 4), nn.ReLU(), nn.BatchNorm2d(4), nn.BatchNorm2d(4)]
    model = nn.Sequential(*parts, quantised(4, 6), nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6))
    assert remove_norms_behind(model) == 1
    kinds = [type(m) for m in model]
    assert kinds[1] is nn.BatchNorm2d, "behind a float layer"
    assert kinds[4] is nn.Identity and kinds[5] is nn.BatchNorm2d, "one each"
    assert kinds[8] is nn.BatchNorm2d, "another layer comes first"
    assert isinstance(model[2].act_quant.normalize, nn.BatchNorm2d), "that of the input stays"


@pytest.mark.parametrize(("layer", "kind"), [(QuantConv2d(3, 4, 1), nn.BatchNorm2d), (QuantLinear(3, 4), nn.BatchNorm1d)])
def test_batch_norm_of_the_input(layer: nn.Module, kind: type) -> None:
    norm = batch_norm(layer)
    assert type(norm) is kind and norm.num_features == 3
