"""Kernel families that a user asks for, by the environment variable BITFOLD_KERNEL or ``load(..., kernel=)``, in place of the cost table's.

``conv_i16`` serves every Conv and Linear that reads codes; ``conv1=conv_i16,fc=conv_planes`` serves the layers that are named. Layers with
float activations and layers of L1 distances have one family and are left alone, unless they are named.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass

from bitfold import _core
from bitfold.errors import EngineError

VARIABLE = "BITFOLD_KERNEL"


@dataclass(frozen=True)
class Forced:
    """``everywhere``: a family or ""; ``layers``: name -> family; ``by``: who asks, for reasons and errors."""

    by: str
    everywhere: str
    layers: dict[str, str]

    def family(self, layer: str, allowed: Iterable[str], *, fixed: bool) -> str | None:
        """The family that ``layer`` must take, None for the table's choice. ``allowed``: those that serve its encodings and shape;
        ``fixed``: it reads no codes or multiplies none, so there is no choice. EngineError if the family cannot serve it."""
        family = self.layers.get(layer) or (None if fixed else self.everywhere or None)
        if family is not None and family not in allowed:
            can = ", ".join(allowed)
            raise EngineError(f"layer {layer!r}: {self.by} asks for {family}, which does not serve its encodings; allowed: {can}")
        return family

    def check_layers(self, names: Iterable[str]) -> None:
        """EngineError if a layer is named that is no product of the graph."""
        known = list(names)
        for layer in self.layers:
            if layer not in known:
                raise EngineError(f"{self.by} names layer {layer!r}; allowed, the Conv and Linear of this graph: {', '.join(known)}")


def forced(kernel: str | None) -> Forced:
    """``kernel`` as ``load`` takes it; None asks the environment. EngineError for an unknown family or a text of another form."""
    by = VARIABLE if kernel is None else "kernel"
    text = os.environ.get(VARIABLE, "") if kernel is None else kernel
    families = list(dict.fromkeys(family for _, family, *_ in _core.kernels()))
    everywhere, layers = "", {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        layer, _, family = entry.rpartition("=")
        if family not in families or ("=" in entry and not layer):
            raise EngineError(f"{by}={text!r}: got {entry!r}; allowed: a family or layer=family, with {', '.join(families)}")
        if layer:
            layers[layer] = family
        elif everywhere:
            raise EngineError(f"{by}={text!r} names two families for all layers, {everywhere} and {family}; allowed: one")
        else:
            everywhere = family
    return Forced(by, everywhere, layers)
