"""No quantisation: the baseline and the teacher."""

from collections.abc import Collection
from dataclasses import dataclass

from torch import nn

from bitfold.errors import ConfigError
from bitfold.methods.base import Method


@dataclass(frozen=True, kw_only=True)
class FloatBaseline(Method):
    """The model as it is, in float32: the baseline that low-bit networks are compared with, and the teacher of some.

    first, last and shortcut have nothing to say here and must stay False.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first or self.last or self.shortcut:
            raise ConfigError("float quantises no layer; first, last and shortcut must be False")

    def transform(self, model: nn.Module, keep_float: Collection[str] = ()) -> nn.Module:
        return model


METHOD = FloatBaseline
