"""RepBNN: wider feature maps from the same number of binary weights."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from bitfold.errors import ConfigError
from bitfold.layers.swap import replace_modules, roles
from bitfold.layers.tile import channels, resized, tiled
from bitfold.layers.widen import widen
from bitfold.methods.base import MethodLike, Wrapper


@dataclass(frozen=True, kw_only=True)
class RepBNN(Wrapper):
    """RepBNN: feature maps ``beta`` times wider from as many binary weights, on top of ``base``. Shi et al. 2022, arXiv 2207.09049.

    RepConv: a binary layer I -> O becomes beta I -> O/beta, its output copied beta^2 times along channels (whole tensor, not
    interleaved). RepTran with ``repeat="output"`` (the official code): the stem and its BatchNorm stay and their output is tiled beta
    times; everything behind (BatchNorm, activations, shortcuts, the classifier's input) is beta times wider with parameters of its
    own. ``shortcut_conv``: float convs on shortcuts treated as the binary ones ("rep", at the same cost) or beta-wide on both sides
    ("wide"); a choice of ours, as is the handling of linear layers, other networks and betas (the code has beta = 2 and ReActNet-A).
    ``repeat="input"`` is our reading of the abstract's other form: the input of each binary layer is tiled beta times and its output
    copied back to O channels, so that the network between keeps its width; it serves networks that cannot be followed.
    New weights are drawn (normal, of the layer's own spread): the network is trained from scratch or from step 1 of the same RepBNN.
    Layers in keep_float are converted too, and stay in float. Where beta does not divide a layer's width, see ``layers.tile.tiled``.
    """

    base: MethodLike = "reactnet"
    beta: int = 2
    repeat: Literal["output", "input"] = "output"
    shortcut_conv: Literal["rep", "wide"] = "rep"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta < 1:
            raise ConfigError(f"repbnn: beta={self.beta}; allowed: 1 (the base alone) or more")

    def prepare(self, model: nn.Module) -> nn.Module:
        model = super().prepare(model)
        if self.beta == 1:
            return model
        try:
            return self._wider(model) if self.repeat == "output" else self._repeated_inputs(model)
        except ConfigError as error:
            hint = "; repeat='input' changes the binary layers alone" if self.repeat == "output" else ""
            raise ConfigError(f"repbnn: {error}{hint}") from error

    def _wider(self, model: nn.Module) -> nn.Module:
        def rep(path: str, layer: nn.Conv2d | nn.Linear) -> nn.Module:
            return tiled(path, layer, self.beta, wide=True)

        def wide(path: str, layer: nn.Conv2d | nn.Linear) -> nn.Module:
            inputs, outputs, _ = channels(path, layer)
            return resized(path, layer, self.beta * inputs, self.beta * outputs)

        return widen(model, self.beta, rep, rep if self.shortcut or self.shortcut_conv == "rep" else wide)

    def _repeated_inputs(self, model: nn.Module) -> nn.Module:
        binary = {"inner", "shortcut"} if self.shortcut else {"inner"}
        layers = [(path, model.get_submodule(path)) for path, role in roles(model).items() if role in binary]
        replace_modules(model, {m: tiled(path, m, self.beta, wide=False) for path, m in layers if isinstance(m, nn.Conv2d | nn.Linear)})
        return model


METHOD = RepBNN
