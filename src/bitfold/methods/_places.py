"""Where in any network a method taps features: the ends of its blocks and of its stages."""

from torch import nn

from bitfold.layers.quant import QuantConv2d, QuantLinear
from bitfold.layers.swap import roles

PARAMETRIC = (nn.Conv2d, nn.Linear)


def places(model: nn.Module) -> list[str]:
    """All paths but those inside of quantised layers."""
    inside = tuple(f"{path}." for path, module in model.named_modules() if isinstance(module, QuantConv2d | QuantLinear))
    return [path for path, _ in model.named_modules() if path and not path.startswith(inside)]


def blocks(model: nn.Module) -> tuple[str, ...]:
    """Paths whose outputs are those of ``model``'s low-bit blocks, in registration order.

    A block is a module that holds quantised layers as its own children, a classifier aside. In an nn.Sequential, where the order is
    known, each quantised layer begins a block, which ends before the next layer with weights (after its BatchNorm and activation).
    Where the model itself holds the layers, they are the blocks.
    """
    found: dict[str, None] = {}
    for path, module in model.named_modules():
        children = [n for n, child in module.named_children() if isinstance(child, QuantConv2d | QuantLinear) and child.role != "last"]
        if not children:
            continue
        if path and not isinstance(module, nn.Sequential):
            found[path] = None
        for name in children if not path or isinstance(module, nn.Sequential) else ():
            found[_join(path, _end(module, name))] = None
    return tuple(found)


def stages(model: nn.Module) -> tuple[str, ...]:
    """Paths whose outputs are those of ``model``'s stages, in registration order; there may be fewer than two.

    Stages are the children with quantised layers of the model or, where only one child has any, of that child, and so on. Fewer
    than two of those: all children there with weights other than the classifier's. In an nn.Sequential, a stage ends before the next
    layer with weights.
    """
    path, level = "", model
    while True:
        quantised = [name for name, child in level.named_children() if _holds(child, (QuantConv2d, QuantLinear))]
        inner = level.get_submodule(quantised[0]) if len(quantised) == 1 else None
        if inner is None or isinstance(inner, QuantConv2d | QuantLinear):
            break
        path, level = _join(path, quantised[0]), inner
    chosen = quantised
    if len(chosen) < 2:
        places = [p for p, role in roles(model).items() if role != "last"]
        chosen = [name for name, _ in level.named_children() if any((p + ".").startswith(_join(path, name) + ".") for p in places)]
    return tuple(dict.fromkeys(_join(path, _end(level, name)) for name in chosen))


def _end(container: nn.Module, name: str) -> str:
    """The last child of a Sequential before the next one with weights of a layer, from ``name`` on; elsewhere ``name``."""
    if isinstance(container, nn.Sequential):
        names = [n for n, _ in container.named_children()]
        for later in names[names.index(name) + 1 :]:
            if _holds(container.get_submodule(later), PARAMETRIC):
                break
            name = later
    return name


def _holds(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
    return any(isinstance(m, kinds) for m in module.modules())


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
