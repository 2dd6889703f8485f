"""binarize-by-classification.md, section 8: rows 1 to 6."""

import pytest
import torch
from torch import Tensor

from bitfold.ir.encoding import Binary
from bitfold.quantizers.classifier_sign import Centre, Classifier, ClassifierSign, share
from bitfold.quantizers.weight_sign import WeightSign

X, INNER, OUTER = [-3, -0.5, 0, 0.25, 1.5, 6], [0.8, -0.5, 1.2], [[0.6, 0.1, 0.5], [0.4, -0.9, 0.2]]


def classifier(outer: list[list[float]], inner: list[float] | None = None) -> Classifier:
    net = Classifier(len(inner) if inner is not None else 0).double()
    net.outer.data = torch.tensor(outer, dtype=torch.float64)
    if inner is not None:
        assert net.inner is not None
        net.inner.data = torch.tensor(inner, dtype=torch.float64)
    return net


def linear(a0: float, a1: float) -> Classifier:
    return classifier([[a0], [a1]])


def gradient(quantizer: torch.nn.Module, x: Tensor, g: Tensor | float = 1.0) -> Tensor:
    x = x.detach().clone().requires_grad_()
    (quantizer(x) * g).sum().backward()
    assert x.grad is not None
    return x.grad


@pytest.mark.parametrize(
    ("a", "expected"),
    [((0.5, 0.5), [0, 1, 1, 1, 1, 0]), ((2, 1), [0, 0, 3, 3, 0, 0]), ((-0.3, 0.8), [-0.3, -0.3, 0.5, 0.5, -0.3, -0.3])],
)
def test_row_1_linear_estimator(a: tuple[float, float], expected: list[float]) -> None:
    x = torch.tensor([-2.5, -1.5, -0.4, 0.2, 1.9, 2.1], dtype=torch.float64)
    quantizer = ClassifierSign(linear(*a))
    assert quantizer(x).tolist() == [-1, -1, -1, 1, 1, 1]
    assert gradient(quantizer, x).tolist() == pytest.approx(expected, abs=1e-12)


def test_row_2_mlp_estimator() -> None:
    x = torch.tensor(X, dtype=torch.float64)
    net = classifier(OUTER, INNER)
    scores = net(x).tolist()
    assert scores[0] == pytest.approx([-0.998944, -0.472002, 0, 0.251646, 0.910081, 1.000413], abs=1e-6)
    assert scores[1] == pytest.approx([-1.407805, -0.479816, 0, 0.249130, 1.094457, 1.495495], abs=1e-6)
    expected = [0.008298, 1.658242, 2.04, 1.931364, 0.178715, 0]
    assert gradient(ClassifierSign(net), x).tolist() == pytest.approx(expected, abs=1e-6)


def test_row_3_weight_path() -> None:
    w = torch.tensor([[0.6, -0.2, 0.1, -0.9, 0.4, 0.3]], dtype=torch.float64)
    quantizer = WeightSign(ClassifierSign(linear(0.5, 0.5)), "filter", Centre())
    assert quantizer(w)[0].tolist() == pytest.approx([0.4, -0.4, 0.4, -0.4, 0.4, 0.4])
    grad = gradient(quantizer, w, torch.tensor([1, 2, -1, 0.5, 0, 3]))
    assert grad[0].tolist() == pytest.approx([1 / 30, 13 / 30, -23 / 30, -1 / 6, -11 / 30, 5 / 6])
    assert grad.sum().item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("decision", ["sign", "argmax"])
@pytest.mark.parametrize("hidden", [0, 7])
def test_row_4_gradients_of_a_filter_sum_to_zero(decision: str, hidden: int) -> None:
    torch.manual_seed(3)
    w, g = torch.randn(5, 4, 3, 3, dtype=torch.float64), torch.randn(5, 4, 3, 3, dtype=torch.float64)
    net = Classifier(hidden, positive=False).double()
    grad = gradient(WeightSign(ClassifierSign(net, decision), "filter", Centre()), w, g)  # type: ignore[arg-type]
    assert grad.abs().max() > 0.01
    assert grad.sum((1, 2, 3)).abs().max() <= 1e-12


@pytest.mark.parametrize("decision", ["sign", "argmax"])
@pytest.mark.parametrize("hidden", [0, 6])
def test_row_5_parameter_gradients_are_those_of_the_surrogate(decision: str, hidden: int) -> None:
    """10,000 scalars, so that the gradient is put together from pieces."""
    torch.manual_seed(1)
    x, g = 3 * torch.randn(10_000, dtype=torch.float64), torch.randn(10_000, dtype=torch.float64)
    net = Classifier(hidden, positive=False).double()
    mine = gradient(ClassifierSign(net, decision), x, g)  # type: ignore[arg-type]
    own = {n: p.grad for n, p in net.named_parameters()}
    net.zero_grad()
    t = x.clone().requires_grad_()
    scores = net(t)
    gate = (scores.abs() < 1).detach() if decision == "sign" else 2
    (g * (gate * scores).sum(0)).sum().backward()
    torch.testing.assert_close(mine, t.grad, rtol=1e-12, atol=1e-12)
    assert len(own) == (2 if hidden else 1)
    for name, p in net.named_parameters():
        torch.testing.assert_close(own[name], p.grad, rtol=1e-10, atol=1e-10)


def test_row_6_sharing_adds_gradients() -> None:
    torch.manual_seed(2)
    a, b = torch.randn(2, 50, dtype=torch.float64)
    alone = []
    for x in (a, b):
        net = classifier(OUTER, INNER)
        gradient(ClassifierSign(net), x)
        alone.append((net.inner.grad, net.outer.grad))  # type: ignore[union-attr]
    first, second = ClassifierSign(classifier(OUTER, INNER)), ClassifierSign(Classifier(3))
    share([first, second])
    (first(a).sum() + second(b).sum()).backward()
    assert first.net is second.net and not list(second.parameters()) and not second.state_dict()
    torch.testing.assert_close(first.net.inner.grad, alone[0][0] + alone[1][0])  # type: ignore[union-attr]
    torch.testing.assert_close(first.net.outer.grad, alone[0][1] + alone[1][1])


def test_argmax_decides_with_the_scores() -> None:
    x = torch.tensor([-2.0, -0.5, 0.0, 0.25, 3.0], dtype=torch.float64)
    assert ClassifierSign(linear(0.8, 0.3), "argmax")(x).tolist() == [1, 1, 1, -1, -1]  # the polarity is learned; a tie is +1
    net = classifier(OUTER, INNER)
    scores = net(x)
    quantizer = ClassifierSign(net, "argmax")
    expected = torch.where(scores[1] >= scores[0], 1, -1)
    assert quantizer(x).tolist() == quantizer.codes(x).tolist() == expected.tolist()
    assert set(expected.tolist()) == {-1, 1} and expected.tolist() != ClassifierSign(net).codes(x).tolist()
    assert gradient(ClassifierSign(linear(-0.3, 0.8), "argmax"), x).tolist() == pytest.approx([1.0] * 5)
    assert quantizer.encoding() == Binary()


def test_trap_1_half_of_the_faithful_starts_climb_and_no_positive_one() -> None:
    torch.manual_seed(0)
    at_zero = torch.zeros(1)
    faithful = torch.tensor([gradient(ClassifierSign(Classifier(positive=False)), at_zero).item() for _ in range(300)])
    assert 0.4 < (faithful < 0).float().mean() < 0.6
    assert faithful.std().item() == pytest.approx(0.471, abs=0.06)
    for hidden in (0, 1, 100):
        for _ in range(20):
            net = Classifier(hidden)
            assert gradient(ClassifierSign(net), at_zero).item() == pytest.approx(1.0, abs=1e-5)
            assert ClassifierSign(net, "argmax")(torch.tensor([-1e-3, 1e-3])).tolist() == [-1, 1]


@pytest.mark.parametrize("hidden", [0, 1, 100])
def test_a_slope_that_has_become_negative_is_projected(hidden: int) -> None:
    torch.manual_seed(0)
    net = Classifier(hidden).double()
    before = net.outer.detach().clone()
    net.keep_positive()
    assert torch.equal(net.outer, before)  # 1 is not touched
    with torch.no_grad():
        net.outer.mul_(-7).add_(torch.randn_like(net.outer) / 100)
    before = net.outer.detach().clone()
    net.keep_positive()
    assert gradient(ClassifierSign(net, "argmax"), torch.zeros(1, dtype=torch.float64)).item() == pytest.approx(2 * 0.25)
    moved = net.outer.detach() - before
    normal = torch.ones(2, 1, dtype=torch.float64) if net.inner is None else net.inner.detach().expand(2, -1)
    torch.testing.assert_close(moved, normal * (moved * normal).sum() / normal.square().sum())  # along the normal: the nearest point


def test_hidden_values_are_not_kept_for_the_backward_pass() -> None:
    saved: list[int] = []

    def pack(t: Tensor) -> Tensor:
        saved.append(t.numel())
        return t

    x = torch.randn(5000, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        ClassifierSign(Classifier(100))(x)
    assert max(saved) == 5000
