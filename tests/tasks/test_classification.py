"""Losses and totals of classification."""

import pytest
import torch
import torch.nn.functional as F

from bitfold.tasks.classification import Totals, cross_entropy, distill


def test_cross_entropy_with_label_smoothing() -> None:
    outputs, labels = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0])
    plain = float(cross_entropy(outputs, labels))
    uniform = float(-F.log_softmax(outputs, 1).mean())
    assert float(cross_entropy(outputs, labels, 0.1)) == pytest.approx(0.9 * plain + 0.1 * uniform)


def test_distillation_has_the_published_gradient() -> None:
    """baselines.md test 6: teacher (2, 0, -1), student (1, 1, 0): KL .379738, gradient (-.4215, .3081, .1134)."""
    student = torch.tensor([[1.0, 1.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[2.0, 0.0, -1.0]])
    loss = distill(torch.tensor(7.0), student, teacher, weight=1.0, temperature=1.0)
    loss.backward()
    assert loss.item() == pytest.approx(0.379738, abs=1e-6)
    assert student.grad is not None and student.grad[0].tolist() == pytest.approx([-0.4215, 0.3081, 0.1134], abs=1e-4)


def test_distillation_weight_and_temperature() -> None:
    task, outputs, teacher = torch.tensor(2.0), torch.randn(4, 5), torch.randn(4, 5)
    assert distill(task, outputs, teacher, 0.0, 3.0) is task
    hot = distill(task, outputs, teacher, 0.25, 2.0)
    kl = F.kl_div(F.log_softmax(outputs / 2, 1), F.softmax(teacher / 2, 1), reduction="batchmean")
    assert float(hot) == pytest.approx(0.75 * 2 + 0.25 * 4 * float(kl), rel=1e-5)


def test_totals_add_up_over_uneven_batches() -> None:
    outputs, labels = torch.randn(10, 3), torch.randint(0, 3, (10,))
    whole, parts = Totals(), Totals()
    whole.add(outputs, labels)
    parts.add(outputs[:7], labels[:7])
    parts.add(outputs[7:], labels[7:])
    assert parts.result() == pytest.approx(whole.result())
    assert whole.result()["top5"] == 100.0  # fewer than five classes
