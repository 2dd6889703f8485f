"""MultiheadAttention of separate layers: PyTorch's results and gradients; what apply replaces, what it refuses."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bitfold
from bitfold.errors import ConfigError
from bitfold.layers.attention import MultiheadAttention
from bitfold.layers.quant import QuantLinear

ATOL = 1e-10  # of float64


def attention(**options: Any) -> nn.MultiheadAttention:
    """With biases that are not zero."""
    module = nn.MultiheadAttention(8, 2, **options)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    return module


def gradients(own: nn.MultiheadAttention, new: MultiheadAttention) -> list[tuple[Tensor, Tensor]]:
    """(PyTorch's, ours) of every parameter, the packed ones in parts."""
    layers = (new.query, new.key, new.value)
    packed = own.in_proj_weight is not None
    weights = own.in_proj_weight.grad.chunk(3) if packed else [p.grad for p in (own.q_proj_weight, own.k_proj_weight, own.v_proj_weight)]
    pairs = [(w, layer.weight.grad) for w, layer in zip(weights, layers, strict=True)]
    if own.in_proj_bias is not None:
        pairs += [(b, layer.bias.grad) for b, layer in zip(own.in_proj_bias.grad.chunk(3), layers, strict=True)]
        pairs.append((own.out_proj.bias.grad, new.out.bias.grad))
    return [*pairs, (own.out_proj.weight.grad, new.out.weight.grad)]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
def test_float32_to_one_millionth(need_weights: bool, batch_first: bool) -> None:
    torch.manual_seed(0)
    own = attention(batch_first=batch_first)
    new, x = MultiheadAttention.of(copy.deepcopy(own)), torch.randn(3, 4, 8)
    outputs = [m(x, x, x, need_weights=need_weights)[0] for m in (own, new)]
    for out in outputs:
        out.square().mean().backward()
    for theirs, ours in [outputs, *gradients(own, new)]:
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=100)
@given(data=st.data(), seed=st.integers(0, 2**31))
def test_results_and_gradients_are_those_of_pytorch(data: st.DataObject, seed: int) -> None:
    torch.manual_seed(seed)
    draw = data.draw
    heads, depth, batch, queries, keys = (draw(st.integers(1, n)) for n in (4, 5, 3, 5, 6))
    kdim, vdim = (draw(st.none() | st.integers(1, 7)) for _ in range(2))
    width, batch_first, bias = heads * depth, draw(st.booleans()), draw(st.booleans())
    own = nn.MultiheadAttention(width, heads, 0.0, bias, kdim=kdim, vdim=vdim, batch_first=batch_first).double()
    with torch.no_grad():
        for p in own.parameters():
            p.normal_(0, 0.5)
    new = MultiheadAttention.of(copy.deepcopy(own))

    batched = draw(st.booleans())
    batch = batch if batched else 1

    def tokens(n: int, size: int) -> Tensor:
        shape = (batch, n, size) if batch_first else (n, batch, size)
        return torch.randn(shape if batched else (n, size), dtype=torch.float64)

    x = [tokens(queries, width), tokens(keys, kdim or width), tokens(keys, vdim or width)]
    options: dict[str, Any] = {"need_weights": draw(st.booleans()), "average_attn_weights": draw(st.booleans())}
    kind = draw(st.sampled_from([None, "bool", "float"]))  # PyTorch warns of masks of two types
    if kind is not None:
        causal = draw(st.booleans())
        shape = draw(st.sampled_from([(queries, keys), (batch * heads, queries, keys)]))
        mask = torch.ones(queries, keys).triu(1) > 0 if causal else torch.rand(shape) > 0.6
        padding = torch.rand((batch, keys) if batched else (keys,)) > 0.6
        mask[..., 0], padding[..., 0] = False, False  # every query has a key: PyTorch gives nan else
        as_kind = (lambda m: m) if kind == "bool" else lambda m: torch.where(m, -torch.inf, torch.rand(m.shape, dtype=torch.float64))
        options["key_padding_mask"] = as_kind(padding) if draw(st.booleans()) else None
        if draw(st.booleans()):
            hinted = causal and draw(st.booleans())
            options |= {"attn_mask": as_kind(mask), "is_causal": hinted}
    expected, expected_weights = own(*x, **options)
    got, got_weights = new(*x, **options)
    torch.testing.assert_close(got, expected, rtol=0, atol=ATOL * max(1.0, expected.abs().max().item()))
    assert (got_weights is None) == (expected_weights is None)
    if got_weights is not None:
        torch.testing.assert_close(got_weights, expected_weights, rtol=0, atol=ATOL)
    target = torch.randn_like(expected)
    for out in (expected, got):
        (out * target).sum().backward()
    for theirs, ours in gradients(own, new):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=ATOL * max(1.0, theirs.abs().max().item()))


def test_dropout_is_of_training_only() -> None:
    own = attention(dropout=0.5, batch_first=True)
    new, x = MultiheadAttention.of(own), torch.randn(2, 5, 8)
    for need_weights in (True, False):
        outputs = []
        for module in (own, new):
            torch.manual_seed(0)
            outputs.append(module(x, x, x, need_weights=need_weights)[0])
        torch.testing.assert_close(*outputs, rtol=0, atol=1e-6)
        assert not torch.allclose(outputs[1], new(x, x, x, need_weights=need_weights)[0]), "drawn anew"
    new.eval()
    assert torch.equal(new(x, x, x)[0], new(x, x, x)[0])


def test_wrong_calls() -> None:
    module, x = MultiheadAttention(8, 2), torch.randn(3, 1, 8)
    with pytest.raises(ConfigError, match="is_causal=True without attn_mask"):
        module(x, x, x, is_causal=True)
    with pytest.raises(ConfigError, match=r"a mask is torch.int64; allowed: torch.bool and floats"):
        module(x, x, x, attn_mask=torch.zeros(3, 3, dtype=torch.int64))
    with pytest.raises(ConfigError, match="embed_dim=8, num_heads=3; allowed: a width that the heads divide"):
        MultiheadAttention(8, 3)


class Own(nn.Module):
    """Attention held in two places."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.stem, self.attention, self.head = nn.Linear(8, 8), inner, nn.Linear(8, 2)
        self.again = inner

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.again(*3 * [self.attention(x, x, x)[0]])[0]
        return self.head(x)  # type: ignore[no-any-return]


def test_apply_replaces() -> None:
    own = attention(bias=False, kdim=8).double().eval()
    own.in_proj_weight.requires_grad_(False)
    out = own.out_proj.weight
    model = bitfold.apply(Own(own).train(), "bireal")
    new = model.attention
    assert isinstance(new, MultiheadAttention) and model.again is new and new.training and new.out.weight is out
    for name, layer in new.named_children():
        assert isinstance(layer, QuantLinear) and layer.role == "inner" and layer.training, name
        assert layer.weight.dtype == torch.float64 and layer.bias is None and layer.weight.requires_grad == (name == "out")
    assert next(name for name in model.state_dict() if name.startswith("attention")).startswith("attention.query.")
    again = bitfold.apply(Own(attention(bias=False).double()), "bireal")
    again.load_state_dict(model.state_dict())


@pytest.mark.parametrize("method", bitfold.methods.names())
def test_every_method_fills_the_projections(method: str) -> None:
    try:
        model = bitfold.apply(Own(attention()), method)
    except ConfigError as error:  # a method may refuse a network; it says why
        assert "allowed" in str(error)
        return
    layers = dict(model.attention.named_children())
    assert list(layers) == ["query", "key", "value", "out"]
    quantised = any(isinstance(m, QuantLinear) for m in model.attention.modules())
    assert quantised == (method != "float")


def test_a_bare_one_and_one_left_in_float() -> None:
    bare = bitfold.apply(attention(), "bireal")
    assert isinstance(bare, MultiheadAttention)
    assert [type(layer) is QuantLinear for layer in bare.children()] == [False, True, True, False]  # the first and the last stay
    model = bitfold.apply(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), Own(attention())), "bireal", keep_float=["2.attention"])
    assert not any(isinstance(m, QuantLinear) for m in model[2].attention.modules())


class Louder(nn.MultiheadAttention):
    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        out, weights = super().forward(*args, **kwargs)
        return 2 * out, weights


def hooked() -> nn.Module:
    module = attention()
    module.register_forward_hook(lambda *_: None)
    return module


REFUSED = {
    "subclass": (lambda: Louder(8, 2), "attention '2' is a Louder, a subclass with its own behaviour; allowed: nn.MultiheadAttention"),
    "bias_kv": (lambda: attention(add_bias_kv=True), "attention '2' adds keys and values of its own; allowed: add_bias_kv=False"),
    "zero_attn": (lambda: attention(add_zero_attn=True), "attention '2' adds keys and values of its own; .* add_zero_attn=False"),
    "hooks": (hooked, "attention '2' has hooks, which would be lost; allowed: none"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_unless_it_stays_in_float(name: str) -> None:
    make, message = REFUSED[name]
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), make(), nn.Linear(8, 2))
    with pytest.raises(ConfigError, match=message):
        bitfold.apply(model, "bireal")
    kept = model[2]
    assert bitfold.apply(model, "bireal", keep_float=["2"])[2] is kept
    assert isinstance(model[1], QuantLinear)


def test_tied_weights_are_refused() -> None:
    model = nn.ModuleList([nn.Linear(8, 8), attention(), attention(), nn.Linear(8, 8)])
    model[2].in_proj_weight = model[1].in_proj_weight
    with pytest.raises(ConfigError, match="attention '1' shares its weights with another module"):
        bitfold.apply(model, "bireal")


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("kept", [False, True])
def test_no_fast_path_passes_quantised_layers_by(kept: bool) -> None:
    """PyTorch's encoder would compute with the float weights in eval mode, without a word."""
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    if kept:
        encoder.layers[0].self_attn = Louder(8, 2, batch_first=True)
    model = bitfold.apply(encoder, "bireal", ["layers.0.self_attn"] if kept else []).eval()
    trained = copy.deepcopy(model).train()  # where PyTorch has no fast path
    for module in trained.modules():
        module.training = not isinstance(module, nn.Dropout)
    for layer in trained.layers:
        layer.self_attn.dropout = 0.0
    x, padding = torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    with torch.no_grad():
        for mask in (None, padding):
            expected = trained(x, src_key_padding_mask=mask)
            torch.testing.assert_close(model(x, src_key_padding_mask=mask), expected, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_float_twin_of_an_encoder() -> None:
    torch.manual_seed(0)
    plain = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval()
    twin = bitfold.apply(copy.deepcopy(plain), "float")
    x, padding = torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    with torch.no_grad():  # PyTorch takes its fast paths
        torch.testing.assert_close(twin(x), plain(x), rtol=0, atol=2e-6)
        got, expected = (m(x, src_key_padding_mask=padding)[~padding] for m in (twin, plain))
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-6)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
def test_decoder_and_transformer_train() -> None:
    torch.manual_seed(0)
    plain = nn.Transformer(8, 2, 1, 1, 16, dropout=0.0)
    model = bitfold.apply(copy.deepcopy(plain), "float")
    assert sum(isinstance(m, MultiheadAttention) for m in model.modules()) == 3
    source, target = torch.randn(4, 2, 8), torch.randn(5, 2, 8)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    outputs = [m(source, target, tgt_mask=mask) for m in (plain, model)]
    torch.testing.assert_close(*outputs, rtol=0, atol=2e-6)
    bitfold.apply(plain, "bireal")(source, target, tgt_mask=mask).sum().backward()
