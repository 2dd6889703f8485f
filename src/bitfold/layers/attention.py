"""``nn.MultiheadAttention`` with a linear layer for each projection, so that each can have a method.

PyTorch's own packs the projections into one parameter and reads the weights of its output layer past the layer.
"""

import math
from collections import Counter
from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from bitfold.errors import ConfigError
from bitfold.layers.swap import replace_modules


class MultiheadAttention(nn.Module):
    """Arguments, masks and results of ``nn.MultiheadAttention``; the layers are ``query``, ``key``, ``value`` and ``out``.

    Shapes: (batch, tokens, width) with ``batch_first``, else (tokens, batch, width); or (tokens, width). Without extra keys and values
    (``add_bias_kv``, ``add_zero_attn``) and nested tensors.
    """

    in_proj_bias = None  # nn.TransformerEncoderLayer reads both, and then leaves its path that passes the layers by
    _qkv_same_embed_dim = False

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if num_heads < 1 or embed_dim % num_heads:
            raise ConfigError(f"MultiheadAttention: embed_dim={embed_dim}, num_heads={num_heads}; allowed: a width that the heads divide")
        self.embed_dim, self.num_heads, self.dropout, self.batch_first = embed_dim, num_heads, dropout, batch_first
        self.query = nn.Linear(embed_dim, embed_dim, bias, device, dtype)
        self.key = nn.Linear(kdim if kdim is not None else embed_dim, embed_dim, bias, device, dtype)
        self.value = nn.Linear(vdim if vdim is not None else embed_dim, embed_dim, bias, device, dtype)
        self.out = nn.Linear(embed_dim, embed_dim, bias, device, dtype)

    @classmethod
    def of(cls, module: nn.MultiheadAttention) -> "MultiheadAttention":
        """The same function, with copies of its packed parameters."""
        if (reason := _unlike(module)) is not None:
            raise ConfigError(f"MultiheadAttention.of: the module {reason}")
        biased = module.in_proj_bias is not None
        sizes = (module.embed_dim, module.num_heads, module.dropout, biased, module.kdim, module.vdim, module.batch_first)
        new = cls(*sizes, device="meta")
        if module.in_proj_weight is not None:
            weights = _thirds(module.in_proj_weight)
        else:
            weights = [_copy(w, w) for w in (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)]
        biases = _thirds(module.in_proj_bias) if biased else (None, None, None)
        for layer, weight, bias in zip((new.query, new.key, new.value), weights, biases, strict=True):
            layer.weight = weight
            layer.register_parameter("bias", bias)
        new.out.weight = module.out_proj.weight
        new.out.register_parameter("bias", module.out_proj.bias)
        return new.train(module.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """No branch on the number of axes: torch.fx would not see through it."""
        if is_causal and attn_mask is None:
            raise ConfigError("MultiheadAttention: is_causal=True without attn_mask; it says that attn_mask is the causal mask")
        if not self.batch_first:
            query, key, value = (x.movedim(0, -2) for x in (query, key, value))  # (tokens, width) stays
        pairs = ((self.query, query), (self.key, key), (self.value, value))
        q, k, v = (layer(x).unflatten(-1, (self.num_heads, -1)).transpose(-3, -2) for layer, x in pairs)
        causal = is_causal and key_padding_mask is None and not need_weights
        mask = None
        if not causal and (attn_mask is not None or key_padding_mask is not None):
            mask = additive_mask(attn_mask, key_padding_mask, self.num_heads, q.dtype)
        weights = None
        if need_weights:
            scores = (q / math.sqrt(self.embed_dim // self.num_heads)) @ k.transpose(-2, -1)
            weights = F.dropout(F.softmax(scores if mask is None else scores + mask, -1), self.dropout, self.training)
            mixed = weights @ v
            weights = weights.mean(-3) if average_attn_weights else weights
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0, causal)
        out = self.out(mixed.transpose(-3, -2).flatten(-2))
        return out if self.batch_first else out.movedim(-2, 0), weights


@fx.wrap  # one call of the trace, which export refuses by name where a mask is computed from data
def additive_mask(attn_mask: Tensor | None, key_padding_mask: Tensor | None, heads: int, dtype: torch.dtype) -> Tensor:
    """What both masks add to the scores ([batch,] heads, queries, keys); True means -inf.

    ``attn_mask``: (queries, keys) or (batch * heads, queries, keys). ``key_padding_mask``: ([batch,] keys).
    """
    both = []
    if attn_mask is not None:
        each = attn_mask.ndim == 3 and len(attn_mask) != heads  # with as many as heads there is one sample, or no batch
        both.append(_added(attn_mask.unflatten(0, (-1, heads)) if each else attn_mask, dtype))
    if key_padding_mask is not None:
        both.append(_added(key_padding_mask if key_padding_mask.ndim == 1 else key_padding_mask[:, None, None], dtype))
    return both[0] if len(both) == 1 else both[0] + both[1]


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -math.inf)
    if not mask.is_floating_point():
        raise ConfigError(f"MultiheadAttention: a mask is {mask.dtype}; allowed: torch.bool and floats")
    return mask.to(dtype)


def split_attention(model: nn.Module, keep_float: Collection[str] = ()) -> nn.Module:
    """Puts ``MultiheadAttention`` in place of every ``nn.MultiheadAttention``, and returns the model, or what takes its place.

    One that is held in several places gets one. Raises ConfigError, before anything is changed, for one that cannot be replaced and
    that ``keep_float`` does not leave as it is.
    """
    owners = Counter(id(p) for m in model.modules() for p in m._parameters.values())
    new: dict[nn.Module, nn.Module] = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            packed = module.in_proj_weight if module.in_proj_weight is not None else module.q_proj_weight
            reason = "shares its weights with another module" if owners[id(packed)] > 1 else _unlike(module)
            if reason is None:
                new[module] = MultiheadAttention.of(module)
            elif not any(path == p or path.startswith(p + ".") for p in keep_float):
                raise ConfigError(f"attention {path!r} {reason}; bitfold.apply leaves it in float if keep_float names it")
    for module in model.modules():  # both would pass the layers below them by, in eval mode
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
        elif isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0
    replace_modules(model, new)
    return new.get(model, model)


def _unlike(module: nn.MultiheadAttention) -> str | None:
    """Why no ``MultiheadAttention`` can take the module's place."""
    if type(module) is not nn.MultiheadAttention:
        return f"is a {type(module).__name__}, a subclass with its own behaviour; allowed: nn.MultiheadAttention itself"
    if module.bias_k is not None or module.bias_v is not None or module.add_zero_attn:
        return "adds keys and values of its own; allowed: add_bias_kv=False, add_zero_attn=False"
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
        return "has hooks, which would be lost; allowed: none"
    return None


def _thirds(packed: nn.Parameter) -> list[nn.Parameter]:
    return [_copy(part, packed) for part in packed.chunk(3)]


def _copy(values: Tensor, like: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(values.detach().clone(), like.requires_grad)
