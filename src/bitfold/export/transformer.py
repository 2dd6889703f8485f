"""What PyTorch's transformer modules compute, without their fast path and their branches on shapes, which torch.fx cannot follow."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def write_out(model: nn.Module) -> None:
    """Gives PyTorch's transformer modules forwards that can be traced; subclasses without a forward of their own likewise."""
    for module in model.modules():
        if (forward := _FORWARDS.get(type(module).forward)) is not None:  # torch.fx never looks into classes of torch.nn
            module.__class__ = type(type(module).__name__, (type(module),), {"forward": forward, "__module__": __name__})


def _encoder(
    m: nn.TransformerEncoder,
    src: Tensor,
    mask: Tensor | None = None,
    src_key_padding_mask: Tensor | None = None,
    is_causal: bool | None = None,
) -> Tensor:
    for layer in m.layers:
        src = layer(src, src_mask=mask, is_causal=bool(is_causal), src_key_padding_mask=src_key_padding_mask)
    turn = _turn(m.layers[0].self_attn)
    return turn(m.norm(turn(src))) if m.norm is not None else src


def _encoder_layer(
    m: nn.TransformerEncoderLayer,
    src: Tensor,
    src_mask: Tensor | None = None,
    src_key_padding_mask: Tensor | None = None,
    is_causal: bool = False,
) -> Tensor:
    turn = _turn(m.self_attn)

    def attend(x: Tensor) -> Tensor:
        return turn(m._sa_block(turn(x), src_mask, src_key_padding_mask, is_causal))

    x = turn(src)
    if m.norm_first:
        x = x + attend(m.norm1(x))
        return turn(x + m._ff_block(m.norm2(x)))
    x = m.norm1(x + attend(x))
    return turn(m.norm2(x + m._ff_block(x)))


def _decoder(
    m: nn.TransformerDecoder,
    tgt: Tensor,
    memory: Tensor,
    tgt_mask: Tensor | None = None,
    memory_mask: Tensor | None = None,
    tgt_key_padding_mask: Tensor | None = None,
    memory_key_padding_mask: Tensor | None = None,
    tgt_is_causal: bool | None = None,
    memory_is_causal: bool = False,
) -> Tensor:
    masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
    for layer in m.layers:
        tgt = layer(tgt, memory, *masks, bool(tgt_is_causal), memory_is_causal)
    return m.norm(tgt) if m.norm is not None else tgt


def _turn(attention: nn.Module) -> Callable[[Tensor], Tensor]:
    """(tokens, batch, width) <-> (batch, tokens, width): all but attention treats tokens alike, so it may have the batch in front."""
    return (lambda x: x) if attention.batch_first else (lambda x: x.transpose(0, 1))


_FORWARDS: dict[Any, Callable[..., Tensor]] = {
    nn.TransformerEncoder.forward: _encoder,
    nn.TransformerEncoderLayer.forward: _encoder_layer,
    nn.TransformerDecoder.forward: _decoder,
    nn.TransformerDecoderLayer.forward: nn.TransformerDecoderLayer.forward,
}
