"""Losses that several methods use."""

from torch import Tensor
from torch.nn import functional as F


def distribution_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """-(1/N) sum_n sum_c p_t(c) log p_s(c); logits (N, K). Its gradient is that of the KL divergence: (p_s - p_t) / N."""
    return -(teacher.softmax(1) * student.log_softmax(1)).sum(1).mean()


def attention(features: Tensor) -> Tensor:
    """Where a feature map is strong: vec(sum_c F_c^2) / ||.||_2 of each sample, as float32 (N, positions).

    features: (N, C, H, W), (N, positions, C) or (N, C), which has one position. Zagoruyko and Komodakis 2017, arXiv 1612.03928.
    """
    energy = features.float().square().sum(-1 if features.ndim == 3 else 1)
    return F.normalize(energy.reshape(len(features), -1), dim=1)


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """||A(student) - A(teacher)||_2^2, mean over the batch; A: ``attention``. The channels may differ, the positions may not."""
    return (attention(student) - attention(teacher)).square().sum(1).mean()
