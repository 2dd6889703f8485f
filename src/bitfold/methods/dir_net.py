"""DIR-Net."""

from dataclasses import dataclass

from torch import Tensor, nn

from bitfold.errors import ConfigError
from bitfold.methods._losses import attention_loss
from bitfold.methods._places import blocks
from bitfold.methods.base import Forward
from bitfold.methods.ir_net import IRNet
from bitfold.quantizers.dte import DTE
from bitfold.quantizers.ede import EDE


@dataclass(frozen=True, kw_only=True)
class DIRNet(IRNet):
    """DIR-Net: IR-Net and two reconstructions: distribution-aware gradient, attention distillation. Qin et al. 2021, arXiv 2109.12338.

    The abstract is certain, the paper's formulas were not to be had, and no code is public. IMB, the forward pass, is IR-Net's Libra.
    Reconstruction: ``dte`` caps EDE's t by the eps-quantile of each tensor (see DTE; ``eps`` and ``delta`` are its fields).
    Reconstruction: RBD adds ``rbd`` times the sum over binary blocks of || A(student) - A(teacher) ||^2, A the normalised map of squared
    activations; ``rbd`` above 0 needs a teacher, a trained float network with the same module paths. ``places``: the paths whose
    outputs are compared, default the ends of the binary blocks.
    """

    dte: bool = True
    eps: float = 0.1
    delta: float = 0.1
    rbd: float = 1.0
    places: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rbd < 0:
            raise ConfigError(f"dir_net: rbd={self.rbd}; allowed: 0 or more")

    @property
    def needs_teacher(self) -> bool:
        return self.rbd > 0

    def estimator(self) -> EDE:
        return DTE(self.t_min, self.t_max, self.eps, self.delta) if self.dte else super().estimator()

    def taps(self, model: nn.Module) -> tuple[str, ...]:
        return (self.places or blocks(model)) if self.rbd > 0 else ()

    def loss(self, model: nn.Module, forward: Forward) -> Tensor:
        if self.rbd == 0:
            return forward.task_loss
        if forward.teacher is None:
            raise ConfigError(f"dir_net: rbd={self.rbd} compares with a teacher, and there is none; give one, or set rbd=0")
        pairs = [attention_loss(forward.features.student[path], forward.features.teacher[path]) for path in self.taps(model)]
        return forward.task_loss + self.rbd * sum(pairs[1:], pairs[0])


METHOD = DIRNet
