"""``bitfold.summary``: what a network costs. PyTorch is loaded only for a PyTorch module."""

from typing import TYPE_CHECKING

from bitfold.ir.graph import Graph
from bitfold.ir.summary import Summary, summarize

if TYPE_CHECKING:
    from torch import Tensor, nn


def summary(model_or_graph: "nn.Module | Graph", example: "Tensor | tuple[int, ...] | None" = None) -> Summary:
    """The cost of a PyTorch module (float or quantised) or of an IR graph; ``print`` shows a table.

    ``example``: for a module an input (batch first) or the shape of one sample such as (3, 32, 32); a graph needs none. One forward
    runs in evaluation mode; the module is left as it was. A module's ``size_bytes`` is the size of its parameters packed, without a
    header; a graph's is the size of its file, to the byte. Raises ConfigError.
    """
    if isinstance(model_or_graph, Graph):
        return summarize(model_or_graph)
    from bitfold.export.costs import summarize_module

    return summarize_module(model_or_graph, example)
