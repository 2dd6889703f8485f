"""ReActNet's sign with a learned threshold per channel."""

import torch
from torch import Tensor, nn

from bitfold.quantizers.approx_sign import ApproxSign
from bitfold.quantizers.base import along


class RSign(ApproxSign):
    """Sign of x + shift, one learned shift per channel (the paper writes x - alpha).

    Forward:  q(x) = +1 if x + shift >= 0 else -1
    Backward: with u = x + shift: dx = G max(0, 2 - 2|u|), dshift = sum over all but the channel

    Shape: any, ``channels`` along ``channel_axis`` (1 for images, -1 for the features of linear layers); kept.
    Reference: Liu et al. 2020 (ReActNet), arXiv 2003.03488; shift starts at 0.
    """

    def __init__(self, channels: int, channel_axis: int = 1) -> None:
        super().__init__()
        self.channel_axis = channel_axis
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + along(self.shift, x, self.channel_axis))

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        return super().codes(x + along(self.shift, x, self.channel_axis))
