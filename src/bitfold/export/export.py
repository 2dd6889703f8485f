"""``bitfold.export``: a trained PyTorch model becomes an ``ir.Graph``."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bitfold.errors import ConfigError, ExportError, unknown
from bitfold.export.builder import Builder
from bitfold.export.lower import Lowering, input_types
from bitfold.export.pixels import Channels, Input, Pixels, make_pixels
from bitfold.export.resize import behind
from bitfold.export.tables import handler
from bitfold.export.trace import trace
from bitfold.export.transformer import write_out
from bitfold.ir.graph import Graph
from bitfold.layers.attention import split_attention


def export(
    model: nn.Module,
    example: Tensor | tuple[Tensor, ...],
    *,
    name: str | None = None,
    metadata: Mapping[str, str] | None = None,
    input: Input = "float32",
    mean: Channels | None = None,
    std: Channels | None = None,
    max_value: int = 255,
    stem_bits: int = 16,
) -> Graph:
    """Folds ``model``, as it answers in eval mode, into codes, integer cores and epilogues.

    ``example``: an input as the model takes it, batch in front (its first sample is used), or a tuple for several inputs; it fixes
    the shapes. ``metadata``: free text for the file. The model itself is not changed. Raises ExportError, naming module and reason,
    for anything that has no exact place in the IR; nothing is left in float that a quantiser says has codes.

    ``input``: "uint8" makes a graph that takes pictures as bytes. A byte v of channel c is what the model saw as
    (v / ``max_value`` - ``mean``) / ``std`` (a number, or one a channel); the float layers that read the picture take that in, with
    signed integer weights of ``stem_bits`` bits, exact from there on.
    """
    examples = (example,) if isinstance(example, Tensor) else tuple(example)
    for x in examples:
        if not isinstance(x, Tensor) or x.dtype != torch.float32 or x.ndim not in (2, 3, 4) or len(x) < 1:
            got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            shapes = "(batch, features), (batch, channels, height, width), or (batch, a, b), which the graph takes as (batch, a, b, 1)"
            raise ExportError(f"export: example is {got}; allowed: float32 of {shapes}")
    pixels = _pixels(examples, input, mean, std, max_value, stem_bits)
    kind = type(model).__name__
    model = frozen_copy(model)
    with torch.no_grad():
        steps, outputs = behind(*trace(model, tuple(x.detach().cpu() for x in examples)))
        builder = Builder(input_types(steps, pixels))
        made = Lowering(builder, steps, outputs, pixels).run()
    stated = pixels.metadata if pixels is not None else {}
    return builder.graph(made, name if name is not None else kind, {**stated, **(metadata or {})})


def _pixels(
    examples: tuple[Tensor, ...], input: Input, mean: Channels | None, std: Channels | None, max_value: int, bits: int
) -> Pixels | None:
    if input == "float32":
        if mean is not None or std is not None:
            raise ExportError("export: mean and std belong to input='uint8'; a float32 input is normalised by whoever gives it")
        return None
    if input != "uint8":
        raise unknown("input of export", input, ("float32", "uint8"))
    if len(examples) != 1:
        raise ExportError(f"export: {len(examples)} inputs with input='uint8'; allowed: one")
    return make_pixels(mean, std, max_value, bits, examples[0].shape[1])


def frozen_copy(model: nn.Module) -> nn.Module:
    """A copy in eval mode on the CPU; a compiled model is unwrapped, a bare layer is wrapped (its path is then "0").

    Attention has separate layers there, as behind ``bitfold.apply``. ExportError for parameters that are not float32.
    """
    model = copy.deepcopy(getattr(model, "_orig_mod", model)).cpu().eval()
    try:
        model = split_attention(model)
    except ConfigError as error:
        raise ExportError(f"export: {error}") from error
    for path, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise ExportError(f"export: {path!r} is {tensor.dtype}; allowed: torch.float32; call model.float() first")
    write_out(model)
    return nn.Sequential(model) if handler(model) is not None else model
