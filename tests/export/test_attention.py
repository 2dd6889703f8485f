"""PyTorch's attention and transformer modules: apply, train, export, verify; what is refused."""

import copy
from collections import OrderedDict
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.export.nets import Lambda, compare, inputs
from torch import Tensor, nn

import bitfold
from bitfold.errors import ExportError

pytestmark = [pytest.mark.native, pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")]


class EncoderBlock(nn.Module):
    """As torchvision's vision_transformer writes it."""

    def __init__(self, heads: int, width: int, mlp_width: int, dropout: float) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.ln_1 = norm(width)
        self.self_attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.ln_2 = norm(width)
        layers = (nn.Linear(width, mlp_width), nn.GELU(), nn.Dropout(dropout), nn.Linear(mlp_width, width), nn.Dropout(dropout))
        self.mlp = nn.Sequential(*layers)

    def forward(self, input: Tensor) -> Tensor:
        torch._assert(input.dim() == 3, f"Expected (batch_size, seq_length, hidden_dim) got {input.shape}")
        x = self.ln_1(input)
        x, _ = self.self_attention(x, x, x, need_weights=False)
        x = self.dropout(x) + input
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    def __init__(self, width: int = 16, image: int = 8, patch: int = 2, classes: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.image_size, self.patch_size, self.hidden_dim = image, patch, width
        self.conv_proj = nn.Conv2d(1, width, patch, patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embedding = nn.Parameter(torch.empty(1, (image // patch) ** 2 + 1, width).normal_(std=0.02))
        self.layers = nn.Sequential(OrderedDict((f"encoder_layer_{i}", EncoderBlock(2, width, 2 * width, dropout)) for i in range(2)))
        self.ln = nn.LayerNorm(width, eps=1e-6)
        self.heads = nn.Sequential(OrderedDict(head=nn.Linear(width, classes)))

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        torch._assert(h == self.image_size, f"Wrong image height! Expected {self.image_size} but got {h}!")
        x = self.conv_proj(x).reshape(n, self.hidden_dim, (h // self.patch_size) * (w // self.patch_size)).permute(0, 2, 1)
        x = torch.cat([self.class_token.expand(n, -1, -1), x], dim=1) + self.pos_embedding
        return self.heads(self.ln(self.layers(x))[:, 0])  # type: ignore[no-any-return]


class Classifier(nn.Module):
    """Rows of the picture are the tokens; ``causal``: each sees those before it."""

    def __init__(self, causal: bool = False, dropout: float = 0.0, final: bool = True, **options: Any) -> None:
        super().__init__()
        options = {"batch_first": True, **options}
        self.batch_first, self.causal = options["batch_first"], causal
        self.stem = nn.Linear(8, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 24, dropout, **options)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(16) if final else None)
        self.head = nn.Linear(16, 3)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(8))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x.flatten(1, 2))
        turned = tokens if self.batch_first else tokens.transpose(0, 1)
        turned = self.encoder(turned, mask=self.mask if self.causal else None, is_causal=self.causal or None)
        return self.head((turned if self.batch_first else turned.transpose(0, 1)).mean(1))  # type: ignore[no-any-return]


NETS = {"vision_transformer": VisionTransformer, "encoder": Classifier}


def randomise(model: nn.Module) -> nn.Module:
    """Biases and norms off their start; PyTorch sets attention's biases to 0."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    return model.eval()


METHODS: dict[str, dict[str, Any]] = {"bireal": {}, "adabin": {}, "bitfold_best": {}, "qnn": {"weight_bits": 4, "act_bits": 4}}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETS)
def test_train_export_verify(name: str, method: str, rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    model = bitfold.apply(NETS[name](), bitfold.methods.get(method, **METHODS[method]))
    labels = torch.arange(48) % 3
    images = inputs(rng, 48, 1, 8, 8) + inputs(rng, 3, 1, 8, 8)[labels]
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.8 * losses[0], losses
    model.eval()
    graph = bitfold.export(model, images[:1])
    report = bitfold.verify(model, graph, images, labels=labels, layer_images=8)
    assert report.ok and report.accumulators_differ == 0, str(report)
    inner = {layer.name for layer in report.layers if "layers" in layer.name}
    assert len(inner) == 2 * 6, "query, key, value, out and the perceptron of two blocks"
    assert len(report.layers) == 12 or method == "qnn", "else stem and head stay in float"
    assert report.accuracy == pytest.approx(report.accuracy_torch, abs=0.05)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"causal": True, "norm_first": True},
        {"batch_first": False, "activation": "gelu", "bias": False},
        {"batch_first": False, "norm_first": True, "causal": True, "final": False, "dropout": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("applied", [False, True])
def test_encoders_in_float(options: dict[str, Any], applied: bool, rng: np.random.Generator) -> None:
    """Also one that never met ``apply``."""
    torch.manual_seed(0)
    model = randomise(Classifier(**options))
    x = inputs(rng, 4, 1, 8, 8)
    plain = copy.deepcopy(model)
    compare(bitfold.apply(model, "float") if applied else model, x)
    with torch.no_grad():
        torch.testing.assert_close(model(x), plain(x), rtol=0, atol=1e-5)


def test_coded_tokens_with_the_batch_behind(rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    model = randomise(bitfold.apply(Classifier(batch_first=False), "bireal"))
    x = inputs(rng, 8, 1, 8, 8)  # as many samples as tokens
    report = bitfold.verify(model, bitfold.export(model, x), x)
    assert report.ok and report.accumulators_differ == 0 and len(report.layers) == 12, str(report)


class Attention(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options, self.inner = options, nn.MultiheadAttention(6, 2, batch_first=True, kdim=4, vdim=5)
        self.bias = nn.Parameter(torch.randn(5, 5))

    def forward(self, x: Tensor) -> Any:
        options = {k: getattr(self, v) if isinstance(v, str) else v for k, v in self.options.items()}
        out, weights = self.inner(x, x[..., :4], x[..., 1:], **options)
        if weights is None:
            return out
        return out + (weights[:, :, :1] if self.options.get("average_attn_weights", True) else weights[:, 1, :, :1])


@pytest.mark.parametrize(
    "options",
    [
        {"need_weights": False},
        {"need_weights": True},
        {"need_weights": True, "average_attn_weights": False},
        {"need_weights": True, "attn_mask": torch.ones(5, 5).triu(1) > 0, "is_causal": True},
        {"need_weights": False, "attn_mask": "bias"},  # a learned one
    ],
    ids=lambda options: "-".join(options),
)
def test_attention_alone(options: dict[str, Any], rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    compare(randomise(Attention(**options)), inputs(rng, 4, 5, 6))


def test_parts_alone(rng: np.random.Generator) -> None:
    """A layer, an encoder, attention, a decoder and its layer as the whole model, options left at their defaults."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    back = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)
    x, memory = inputs(rng, 2, 5, 8), inputs(rng, 2, 4, 8)
    parts: list[tuple[nn.Module, tuple[Tensor, ...]]] = [
        *((part, (x,)) for part in (layer, nn.TransformerEncoder(layer, 2))),
        *((part, (x, memory)) for part in (back, nn.TransformerDecoder(back, 2, nn.LayerNorm(8)))),
        (nn.MultiheadAttention(8, 2, batch_first=True), (x, memory, memory)),
    ]
    for part, example in parts:
        expected = randomise(part)(*example)
        got = bitfold.load(bitfold.export(part, example))(*[v.unsqueeze(-1).numpy() for v in example])
        several = isinstance(expected, tuple)
        for e, g in zip(expected if several else [expected], got if several else [got], strict=True):
            np.testing.assert_allclose(g.reshape(e.shape), e.detach().numpy(), rtol=0, atol=1e-5, err_msg=type(part).__name__)


class Block(nn.TransformerEncoderLayer):
    """A user's: no forward of its own."""

    def __init__(self) -> None:
        super().__init__(8, 2, 16, batch_first=True)


def test_subclass_without_a_forward_of_its_own(rng: np.random.Generator) -> None:
    compare(randomise(nn.Sequential(nn.Linear(6, 8), Block())), inputs(rng, 2, 5, 6))


def test_quantised_decoder(rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), 2, nn.LayerNorm(8))
    model = randomise(bitfold.apply(decoder, "bireal"))
    example = (inputs(rng, 4, 5, 8), inputs(rng, 4, 3, 8))
    report = bitfold.verify(model, bitfold.export(model, example), example)
    assert report.ok and report.accumulators_differ == 0 and len(report.layers) == 2 * 10 - 2


class Louder(nn.MultiheadAttention):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return super().forward(*args, **kwargs)


def encoder(**options: Any) -> nn.Module:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, **options), 1, enable_nested_tensor=options.get("batch_first", False))


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "padding": (
        Lambda(lambda self, x: self.e(x, src_key_padding_mask=x[:, :, 0]), e=encoder(batch_first=True)),
        r"at 'e.layers.0.self_attn.additive_mask' merges masks computed from the model's input \(attn_mask, key_padding_mask\)",
    ),
    "transformer": (
        Lambda(lambda self, x: self.t(x, x), t=nn.Transformer(8, 2, 1, 1, 16, batch_first=True)),
        "Transformer at 't' is not supported; call its encoder and its decoder",
    ),
    "batch_behind": (encoder(), r"gives torch.float32 \(5, 3, 8\) for 3 samples; allowed: one float32 tensor with the batch in front"),
    "subclass": (
        nn.Sequential(Louder(8, 2)),
        "export: attention '0' is a Louder, a subclass with its own behaviour; allowed: nn.Multihead",
    ),
    "bias_kv": (nn.Sequential(nn.MultiheadAttention(8, 2, add_bias_kv=True)), "export: attention '0' adds keys and values of its own"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, rng: np.random.Generator) -> None:
    model, message = REFUSED[name]
    with pytest.raises(ExportError, match=message):
        bitfold.export(model, inputs(rng, 2, 5, 8))


def test_the_model_is_left_as_it_is(rng: np.random.Generator) -> None:
    model = encoder(batch_first=True).train()
    kinds = [type(m) for m in model.modules()]
    bitfold.export(model, inputs(rng, 1, 5, 8))
    assert [type(m) for m in model.modules()] == kinds and model.training and model.use_nested_tensor
