import torch
from torch import nn

from bitfold.quantizers.normalized import Normalized
from bitfold.quantizers.rsign import RSign
from bitfold.quantizers.scaled_sign import ScaledSign
from bitfold.quantizers.sign import Sign
from bitfold.quantizers.standard import StandardWeight


def test_forward_and_gradient_go_through_both() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    x = (torch.randn(8, 3, 4, 4) * 3 + 1).requires_grad_()
    y = x.detach().clone().requires_grad_()
    g = torch.randn(8, 3, 4, 4)
    quantizer, sign = Normalized(Sign(), norm), Sign()
    (quantizer(x) * g).sum().backward()
    z = nn.functional.batch_norm(y, None, None, norm.weight, norm.bias, training=True)
    (sign(z) * g).sum().backward()
    assert torch.allclose(x.grad, y.grad, atol=1e-6)


def test_codes_are_those_of_evaluation_and_leave_the_statistics_alone() -> None:
    norm = nn.BatchNorm2d(3)
    quantizer = Normalized(RSign(3), norm)
    norm.running_mean.copy_(torch.tensor([5.0, -5, 0]))
    mean = norm.running_mean.clone()
    x = torch.randn(2, 3, 4, 4)
    codes = quantizer.codes(x)
    assert norm.training and torch.equal(norm.running_mean, mean)
    assert (codes[:, 0] == -1).all() and (codes[:, 1] == 1).all()
    assert torch.equal(quantizer.eval()(x), codes.float())


def test_features_of_any_rank() -> None:
    quantizer = Normalized(Sign(), nn.BatchNorm1d(5), channel_axis=-1)
    x = torch.randn(6, 7, 5)
    assert quantizer(x).shape == x.shape
    assert torch.equal(quantizer(x).reshape(-1, 5), quantizer(x.reshape(-1, 5)))


def test_a_weight() -> None:
    w = torch.randn(4, 3, 2, 2) + 2
    quantizer = Normalized(ScaledSign(), StandardWeight())
    z = StandardWeight()(w)
    assert torch.allclose(quantizer(w), ScaledSign()(z)) and quantizer.encoding(w) == ScaledSign().encoding(z)
