"""Image classification: its loss, what a teacher adds, and its metrics."""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

TOP_K = 5


def cross_entropy(outputs: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean over the batch. outputs (n, classes), labels (n,) int64."""
    return F.cross_entropy(outputs.float(), labels, label_smoothing=label_smoothing)


def distill(task_loss: Tensor, outputs: Tensor, teacher: Tensor, weight: float, temperature: float) -> Tensor:
    """(1 - weight) * task_loss + weight * T^2 * KL(softmax(teacher / T) || softmax(outputs / T)), mean over the batch.

    Hinton et al. 2015, arXiv 1503.02531. weight 0 returns task_loss itself.
    """
    if weight == 0.0:
        return task_loss
    student = F.log_softmax(outputs.float() / temperature, dim=1)
    target = F.log_softmax(teacher.float() / temperature, dim=1)
    kl = F.kl_div(student, target, reduction="batchmean", log_target=True)
    return (1.0 - weight) * task_loss + weight * temperature**2 * kl


@dataclass
class Totals:
    """Running sums over batches, on the batches' device, so that nothing waits for it until ``result``.

    ``sums``: float64 (4,): images, right at top-1, right within the top 5, sum of losses. ``confusion``: (classes, classes), row = truth.
    """

    sums: Tensor = field(default_factory=lambda: torch.zeros(4, dtype=torch.float64))
    confusion: Tensor | None = None

    @torch.no_grad()
    def add(self, outputs: Tensor, labels: Tensor, mean_loss: Tensor | None = None, *, with_confusion: bool = False) -> None:
        """One batch. ``mean_loss`` default: its cross-entropy."""
        n, classes = outputs.shape
        loss = cross_entropy(outputs, labels) if mean_loss is None else mean_loss.detach()
        predicted = outputs.argmax(1)
        in_best = (outputs.topk(min(TOP_K, classes), dim=1).indices == labels[:, None]).sum()
        row = torch.stack([(predicted == labels).sum().double(), in_best.double(), loss.double() * n])
        self.sums = self.sums.to(outputs.device)
        self.sums += torch.cat([torch.full_like(row[:1], n), row])
        if with_confusion:
            counts = torch.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)
            self.confusion = counts if self.confusion is None else self.confusion + counts

    def result(self) -> dict[str, Any]:
        """count, accuracy and top5 in per cent, mean loss; confusion as nested lists if it was asked for."""
        count, top1, top5, loss = self.sums.tolist()
        table: dict[str, Any] = {
            "count": int(count),
            "accuracy": 100.0 * top1 / count,
            "top5": 100.0 * top5 / count,
            "loss": loss / count,
        }
        if self.confusion is not None:
            table["confusion"] = self.confusion.tolist()
        return table
