"""The composition that the study cifar10-resnet20-best found."""

from dataclasses import dataclass

from bitfold.methods.adabin import AdaBin
from bitfold.methods.base import MethodLike
from bitfold.methods.compose import Compose

PLAIN_ADABIN = AdaBin(maxout=False)


@dataclass(frozen=True, kw_only=True)
class BitfoldBest(Compose):
    """RBONN's weights under AdaBin's activations, with ReActNet's RPReLU. No paper: ours.

    Chosen on training images held out, never on the test set, in the study's short protocol alone (320 steps, ResNet-20, CIFAR-10): it is
    how far it is ahead early, and no claim about long training. The numbers are in results/README.md.
    """

    weight: MethodLike = "rbonn"
    act: MethodLike = PLAIN_ADABIN


METHOD = BitfoldBest
