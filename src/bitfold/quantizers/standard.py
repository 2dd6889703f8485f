"""Weights balanced and standardised filter by filter: the normalisation of IR-Net's Libra binarisation."""

from torch import Tensor, nn

from bitfold.quantizers.base import per_filter


class StandardWeight(nn.Module):
    """z = (w - mean(w)) / std(w) over each filter; both are differentiated. Not a quantiser: ``normalize`` of ``WeightSign``.

    The standard deviation is the unbiased one (N - 1 in the denominator) and has no epsilon, as in the released code: a filter whose
    weights are all equal gives NaN. Backward, with h = dL/dz: dL/dw = (h - mean(h) - z <h, z> / (N - 1)) / std(w).

    Shape: (out, in/groups, ...), at least two weights per filter; kept.
    Reference: Qin et al. 2020 (IR-Net), arXiv 1909.10788; official code.
    """

    def forward(self, w: Tensor) -> Tensor:
        c = w - w.mean(per_filter(w), keepdim=True)
        return c / c.std(per_filter(w), keepdim=True)
