"""Outputs of inner modules, caught while a network runs: what ``Method.taps`` asks for."""

from collections.abc import Sequence

from torch import Tensor, nn

from bitfold.errors import ConfigError, unknown


class Taps:
    """Forward hooks on the modules at ``paths``; ``values`` holds their outputs of the last forward pass, by path.

    Set them before ``torch.compile``, which then traces them. Raises ConfigError for a path that ``model`` does not have.
    """

    def __init__(self, model: nn.Module, paths: Sequence[str], where: str) -> None:
        known = dict(model.named_modules())
        for path in paths:
            if path not in known:
                raise ConfigError(f"{where}: {unknown('module to tap', path, [name for name in known if name])}")
        self.values: dict[str, Tensor] = {}
        self._handles = [known[path].register_forward_hook(self._hook(path)) for path in paths]

    def _hook(self, path: str):  # type: ignore[no-untyped-def]  # the hook's type is PyTorch's
        def keep(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            self.values[path] = output

        return keep

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()
