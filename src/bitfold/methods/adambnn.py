"""AdamBNN."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from bitfold.methods.reactnet import ReActNet


@dataclass(frozen=True, kw_only=True)
class AdamBNN(ReActNet):
    """AdamBNN: ReActNet trained with Adam in two steps, weight decay in the first alone. Liu et al. 2021, arXiv 2106.11309.

    The network is ReActNet's, and so are its fields. Step 1 (``weights="real"``) has the recipe's weight decay (official: 5e-6) on the
    parameters that ReActNet decays; in step 2 ("binary") none has any, whatever the recipe says, because decay of latent weights makes
    their signs unstable. Adam with the rate falling linearly to 0, and 256 epochs a step, belong to the recipe.
    """

    def param_groups(self, model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        return super().param_groups(model, weight_decay if self.weights == "real" else 0.0)


METHOD = AdamBNN
