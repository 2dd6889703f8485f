"""LCR-BNN."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bitfold.errors import ConfigError, unknown
from bitfold.methods._places import places, stages
from bitfold.methods.base import Forward, MethodLike, Wrapper

GAMMA = "retention_gamma"  # the learned factors, a parameter of the model itself: optimisers, checkpoints and DDP see it, forward does not


@dataclass(frozen=True, kw_only=True)
class LCRBNN(Wrapper):
    """LCR-BNN: keeps the stages' Lipschitz constants near a float teacher's, on top of any method. Shang et al. 2022, arXiv 2207.06540.

    For stages A, B that follow each other, sigma is the spectral norm of the retention matrix A B^T / S by power iteration (see
    ``spectral_norm``), of the network's outputs times learned factors gamma and of the teacher's. ``mode="code"`` adds, as released,
    alpha / (1e4 batch) sum_i mean((sigma_B - sigma_F)^2) / 2^(pairs - i + 1); "paper" (memory) adds
    lam/2 sum_i mean(((sigma_F / sigma_B - 1) beta^(i - pairs))^2). The last pair weighs most in both. Needs a trained float network
    with the same module paths as teacher. ``places``: the paths of the stages; by default the children that hold quantised layers (see
    ``_places.stages``). At inference nothing is left of it.
    Deviations: the teacher is in evaluation mode (released: in training mode); one forward pass per step gives outputs and features
    (released: two, so that BatchNorm's statistics move twice).
    """

    base: MethodLike = "ir_net"
    mode: Literal["code", "paper"] = "code"
    alpha: float = 8.0
    lam: float = 1.0
    beta: float = 2.0
    n_iter: int = 1
    places: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_iter < 1 or self.alpha < 0 or self.lam < 0 or self.beta <= 0:
            given = f"n_iter={self.n_iter}, alpha={self.alpha}, lam={self.lam}, beta={self.beta}"
            raise ConfigError(f"lcr_bnn: {given}; allowed: n_iter >= 1, alpha >= 0, lam >= 0, beta > 0")

    @property
    def needs_teacher(self) -> bool:
        return True

    def finish(self, model: nn.Module) -> nn.Module:
        model = super().finish(model)
        paths = self._paths(model)
        like = next(model.parameters())
        model.register_parameter(GAMMA, nn.Parameter(torch.ones(1, len(paths), device=like.device, dtype=like.dtype)))
        return model

    def taps(self, model: nn.Module) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*super().taps(model), *self._paths(model))))

    def _paths(self, model: nn.Module) -> tuple[str, ...]:
        paths = self.places or stages(model)
        known = places(model)
        for path in paths:
            if path not in known:
                raise unknown("module in places of lcr_bnn", path, known)
        if len(paths) < 2:
            raise ConfigError(f"lcr_bnn: {len(paths)} stage found, 2 are needed; name them in places; allowed: {', '.join(known)}")
        return paths

    def loss(self, model: nn.Module, forward: Forward) -> Tensor:
        task_loss = super().loss(model, forward)
        if forward.teacher is None:
            raise ConfigError("lcr_bnn: compares with a teacher, and there is none; give a trained float network")
        paths, factors = self._paths(model), model.get_parameter(GAMMA)
        weight = self.alpha / (1e4 * len(forward.outputs)) if self.mode == "code" else self.lam / 2
        if weight == 0:
            return task_loss + 0.0 * factors.sum()  # the base to the last bit; gamma keeps a gradient, which DDP wants
        with torch.autocast(forward.outputs.device.type, enabled=False):
            gamma = factors[0].float()
            own = self._norms([forward.features.student[path] for path in paths])
            own = [s * (gamma[i] * gamma[i + 1]).abs() for i, s in enumerate(own)]  # the norm of gamma_i A (gamma_i+1 B)^T / S
            target = self._norms([forward.features.teacher[path] for path in paths])
            added = code_loss(own, target) if self.mode == "code" else paper_loss(own, target, self.beta)
        return task_loss + weight * added

    def _norms(self, features: list[Tensor]) -> list[Tensor]:
        """sigma (N,) of each pair of neighbours."""
        maps = [_as_map(f) for f in features]
        return [spectral_norm(*_same_size(a, b), self.n_iter) for a, b in pairwise(maps)]


def code_loss(own: list[Tensor], target: list[Tensor]) -> Tensor:
    """sum_i mean((own_i - target_i)^2) / 2^(n - i + 1), i = 1..n: the last of n pairs weighs 1/2, the one before 1/4, ..."""
    terms = [(s - t).square().mean() / 2 ** (len(own) - i) for i, (s, t) in enumerate(zip(own, target, strict=True))]
    return sum(terms[1:], terms[0])


def paper_loss(own: list[Tensor], target: list[Tensor], beta: float) -> Tensor:
    """sum_i mean(((target_i / own_i - 1) beta^(i - n))^2), i = 1..n: the last of n pairs weighs 1."""
    terms = [((t / s - 1) * beta ** (i + 1 - len(own))).square().mean() for i, (s, t) in enumerate(zip(own, target, strict=True))]
    return sum(terms[1:], terms[0])


def spectral_norm(a: Tensor, b: Tensor, n_iter: int = 1, eps: float = 1e-12) -> Tensor:
    """Norm (N,) of the retention matrix R = A B^T / S of each sample, by power iteration on R R^T from a vector of ones, as released.

    a: (N, C_A, S), b: (N, C_B, S). sqrt(||R R^T v||) with v of norm 1 after the first iteration; the first starts with norm sqrt(C_A),
    so that one iteration gives too much, by at most C_A^(1/4). R is never formed: two products with vectors take its place.
    """
    v = a.new_ones(a.shape[0], a.shape[1], 1)
    norm = v
    for _ in range(n_iter):
        right = b @ (a.mT @ v) / a.shape[2]
        u = a @ (b.mT @ right) / a.shape[2]
        norm = (u.square().sum(1, keepdim=True) + eps).sqrt()
        v = u / norm
    return (norm + eps).sqrt().reshape(-1)


def _as_map(features: Tensor) -> Tensor:
    """float32 (N, C, H, W) of an image, of tokens (N, T, C) or of plain features (N, C)."""
    f = features.float()
    if f.ndim == 4:
        return f
    return f.mT.unsqueeze(3) if f.ndim == 3 else f.reshape(*f.shape[:2], 1, 1)


def _same_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both (N, C, S): the larger one averaged to the size of the smaller one."""
    size = (min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3]))
    a, b = (f if f.shape[2:] == size else F.adaptive_avg_pool2d(f, size) for f in (a, b))
    return a.flatten(2), b.flatten(2)


METHOD = LCRBNN
