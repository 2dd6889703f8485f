"""rbonn.md, section 9: rows 1 to 5, and the paper's backtracking (section 3.1)."""

import pytest
import torch
from torch import Tensor, nn

from bitfold.ir.encoding import Binary
from bitfold.quantizers.rbonn import RBONNWeight

W = torch.tensor([[0.03, -0.01, 0.5], [-0.2, 0.04, 0.02]], dtype=torch.float64)
S, G = [1.5, -0.5], torch.tensor([[1, -2, 0.5], [0, 1, -1]], dtype=torch.float64)


def quantizer(s: list[float], shape: tuple[int, int], backtrack: str = "off", **fields: float) -> RBONNWeight:
    q = RBONNWeight(torch.Size(shape), backtrack=backtrack, **fields).double()  # type: ignore[arg-type]
    q.s.data = torch.tensor(s, dtype=torch.float64).reshape(-1, 1)
    return q


def gradient(q: RBONNWeight, w: Tensor, g: Tensor) -> Tensor:
    w = w.detach().clone().requires_grad_()
    q(w).backward(g)
    assert w.grad is not None
    return w.grad


def test_row_1_forward_and_backward() -> None:
    q = quantizer(S, (2, 3))
    torch.testing.assert_close(q(W).tolist(), [[0.03, -0.03, 0.03], [-0.01, 0.01, 0.01]])
    grad = gradient(q, W, G)
    torch.testing.assert_close(grad.tolist(), [[1.5, -2.999998, 0.750047], [-1.9e-5, 0.500003, -0.499999]], rtol=0, atol=5e-7)
    assert q.s.grad is not None
    assert q.s.grad.flatten().tolist() == pytest.approx([0.2999991, -0.01999954], abs=1e-8)
    assert q.encoding() == Binary(scale=(0.03, 0.01)) and q.codes(W).tolist() == [[1, -1, 1], [-1, 1, 1]]


def test_row_2_the_lambda_term_alone() -> None:
    """With no gradient from the loss: that of lam/2 |w - alpha b|^2, by finite differences."""
    q, step = quantizer(S, (2, 3)), 1e-4

    def term(w: Tensor, s: Tensor) -> Tensor:
        return 0.5e-4 * (w - 0.02 * s.abs() * w.sign()).square().sum()

    grad = gradient(q, W, torch.zeros_like(W))
    assert q.s.grad is not None
    torch.testing.assert_close(grad, 1e-4 * (W - q(W).detach()), rtol=0, atol=1e-15)
    for i, index in enumerate(torch.cartesian_prod(torch.arange(2), torch.arange(3)).tolist()):
        shift = torch.zeros(6, dtype=torch.float64).index_fill(0, torch.tensor(i), step).reshape(2, 3)
        difference = (term(W + shift, q.s.detach()) - term(W - shift, q.s.detach())) / (2 * step)
        assert grad[tuple(index)].item() == pytest.approx(difference.item(), abs=1e-9)
    for o in range(2):
        shift = torch.zeros(2, 1, dtype=torch.float64).index_fill(0, torch.tensor(o), step)
        difference = (term(W, q.s.detach() + shift) - term(W, q.s.detach() - shift)) / (2 * step)
        assert q.s.grad[o].item() == pytest.approx(difference.item(), abs=1e-9)


@pytest.mark.parametrize(
    ("alpha", "code", "fixed"),
    [((0.9, 0.1, 0.5, 0.7, 0.3), {0, 4}, {1, 4}), ((0.5, 0.9, 0.1, 0.7, 0.3), {2, 4}, {2, 4})],
)
def test_row_3_indicator(alpha: tuple[float, ...], code: set[int], fixed: set[int]) -> None:
    for backtrack, expected in [("code", code), ("code_fixed_rank", fixed)]:
        q = quantizer(list(alpha), (5, 2), backtrack)
        assert set(q.small(q.s.detach().abs()).flatten().nonzero().flatten().tolist()) == expected


@pytest.mark.parametrize(("channels", "count"), [(64, 25), (128, 51), (256, 102), (512, 204), (5, 2), (2, 0)])
@pytest.mark.parametrize("backtrack", ["code", "code_fixed_rank"])
def test_row_4_count(channels: int, count: int, backtrack: str) -> None:
    torch.manual_seed(channels)
    q = RBONNWeight(torch.Size((channels, 3)), backtrack=backtrack)  # type: ignore[arg-type]
    assert q.small(q.s.detach().abs()).sum() == count


def test_row_5_backtrack() -> None:
    """Two filters, of which the first has the smaller scale: K = int(2 * 0.5) = 1."""
    q = quantizer([1.0, 2.0], (2, 2), "code_fixed_rank", tau=0.5, lam=0.0)
    q.memory.copy_(torch.tensor([[0.5, -1], [0.5, -1]]))
    w = torch.ones(2, 2, dtype=torch.float64, requires_grad=True)
    moved = q._moved(w, q.s.abs())
    torch.testing.assert_close(moved.tolist(), [[0.9, 1.2], [1.0, 1.0]])
    moved.backward(torch.tensor([[2.0, 3.0], [2.0, 3.0]], dtype=torch.float64))
    assert q.u.grad is not None and q.u.grad.flatten().tolist() == pytest.approx([2.0, 0.0])
    assert w.grad is not None and w.grad.tolist() == [[2, 3], [2, 3]]
    q.u.grad = None
    q.memory.mul_(9)  # w~ = 1 - 0.2 * 4.5 = 0.1 in one place: the sign is that of the moved weight
    assert q(w)[0].tolist() == pytest.approx([0.02, 0.02])
    q.memory.mul_(1.2)
    assert q(w)[0].tolist() == pytest.approx([-0.02, 0.02]) and q.eval()(w)[0].tolist() == pytest.approx([0.02, 0.02])


def test_remember_keeps_the_gradient_beyond_zero_grad() -> None:
    q = quantizer(S, (2, 3), "code")
    w = nn.Parameter(W.clone())
    q.remember(w)  # no gradient yet: nothing to keep
    assert not q.memory.any()
    q(w).sum().backward()
    q.remember(w)
    expected = w.grad.clone()  # type: ignore[union-attr]
    w.grad = None
    assert torch.equal(q.memory, expected) and q.memory.abs().sum() > 0
    assert torch.equal(q.state_dict()["memory"], expected)


def test_paper_backtracking() -> None:
    """tau = 0.5 of four filters: alphas among the 2 smallest are 0 and 1, L1 norms not among the 2 largest are those of 1 and 2."""
    q = quantizer([0.1, 0.2, 0.3, -0.4], (4, 2), "paper", tau=0.5, lam=0.0)
    old = torch.tensor([[4.0, -4], [1, -2], [2, 2], [-5, 5]], dtype=torch.float64)
    w = nn.Parameter(old.clone())
    q.remember(w)
    with torch.no_grad():
        w += 0.5  # the optimiser's step
        q.u.copy_(torch.tensor([[0.2], [-0.3], [0.2], [0.2]]))
    q.move(w)
    assert w.flatten().tolist() == pytest.approx([4.5, -3.5, 1.5 - 0.3, -1.5 + 0.6, 2.5, 2.5, -4.5, 5.5])
    assert q.u.flatten().tolist() == pytest.approx([0.2, 0.3, 0.2, 0.2])  # U <- |U|
    before = w.detach().clone()
    g = torch.tensor([[1.0, 1]] * 4, dtype=torch.float64)
    grad = gradient(q, before, g)
    # the gradient of u is that of w times what moved it; w itself is not moved again
    assert q.u.grad is not None
    torch.testing.assert_close(q.u.grad, (grad * old * torch.tensor([[0.0], [1], [0], [0]])).sum(1, keepdim=True))
    torch.testing.assert_close(q(before), 0.02 * q.s.abs() * before.sign())


def test_off_has_no_step_and_no_memory() -> None:
    q = quantizer(S, (2, 3))
    assert set(q.state_dict()) == {"s"}
    w = nn.Parameter(W.clone())
    q.remember(w)
    q.move(w)
    assert torch.equal(w, W)
