"""What a published format says about itself, and the checked mapping of its tensors to a model of ours."""

import re
from dataclasses import dataclass
from fnmatch import fnmatch

import torch
from torch import Tensor, nn

from bitfold.data import Dataset
from bitfold.errors import FormatError
from bitfold.training.recipe import Recipe, load_recipe

LISTED = 8  # names in a message


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published checkpoint format.

    The recipe is a shipped one with ``changes`` (as for ``--set``); the model of its last stage says which tensors must come, in which
    shape and dtype. ``rename``: (pattern, replacement) pairs of regular expressions, applied in order to every published name.
    ``fresh``: patterns of our names that the file need not have; such a tensor keeps the value of a new model.
    """

    summary: str  # one line: network, data set, authors
    source: str  # where it was published
    recipe: str
    changes: tuple[str, ...] = ()
    data: Dataset  # without images: shape, class names and normalisation of the data that the network was trained on
    rename: tuple[tuple[str, str], ...]
    fresh: tuple[str, ...] = ()
    key: str | None = "state_dict"  # where the state dict stands in the saved dict; None if it is the whole
    notes: tuple[str, ...] = ()  # numbers that may stand beside it; they are kept in run.json

    def load_recipe(self) -> Recipe:
        return load_recipe(self.recipe, self.changes)

    def name(self, published: str) -> str:
        """Our name of a published one."""
        for pattern, replacement in self.rename:
            published = re.sub(pattern, replacement, published)
        return published


def convert(published: Published, tensors: dict[str, Tensor], model: nn.Module, where: str) -> dict[str, Tensor]:
    """The state dict of ``model`` with the values of ``tensors``. FormatError unless every name, shape and dtype is the expected one and
    every value is finite. ``where``: the file's name for messages.
    """
    own = model.state_dict()
    result: dict[str, Tensor] = {}
    for foreign, tensor in tensors.items():
        name = published.name(foreign)
        if name not in own:
            raise FormatError(f"{where}: {_short(foreign)} would be {_short(name)}, which the model does not have")
        if name in result:
            raise FormatError(f"{where}: {_short(foreign)} and another tensor would both be {name!r}")
        result[name] = _checked(f"{where}: {foreign}", tensor, own[name])
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise FormatError(f"{where}: {foreign} has a negative variance")
    missing = [name for name in own if name not in result and not any(fnmatch(name, pattern) for pattern in published.fresh)]
    if missing:
        raise FormatError(f"{where}: {len(missing)} tensors are missing: {', '.join(missing[:LISTED])}")
    return {name: result.get(name, value) for name, value in own.items()}


def _checked(where: str, tensor: Tensor, own: Tensor) -> Tensor:
    if tensor.layout != torch.strided or tensor.dtype != own.dtype or tensor.shape != own.shape:
        got = f"{tensor.dtype} {tuple(tensor.shape)}, {tensor.layout}"
        raise FormatError(f"{where}: got {got}; expected {own.dtype} {tuple(own.shape)}, torch.strided")
    if not bool(torch.isfinite(tensor).all()):
        raise FormatError(f"{where}: some values are not finite")
    return tensor.detach().clone()


def _short(name: str) -> str:
    return repr(name[:120])
