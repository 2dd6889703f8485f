"""What the trace makes of a forward: its options, what it reads off shapes, functions of the user's."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.export.nets import Lambda, compare, inputs
from torch import Tensor, fx, nn

import bitfold


class Optional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(
        self, x: Tensor, state: Tensor | None = None, sizes: tuple[int, ...] = (2, 2), *, activate: bool = True, by: Any = 3
    ) -> Any:
        y = self.layer(x).unflatten(1, sizes).flatten(1)
        if activate:
            y = y.relu()
        return y * by if state is None else y + self.layer(state)


@pytest.mark.native
def test_branches_on_options_take_their_defaults(rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    model, x, state = Optional().eval(), inputs(rng, 3, 4), inputs(rng, 3, 4)
    compare(model, x)
    got = bitfold.load(bitfold.export(model, (x, state)))(x.numpy(), state.numpy())
    np.testing.assert_allclose(got, model(x, state).detach().numpy(), rtol=0, atol=1e-6)


class Parameters(nn.Module):
    """Numbers and sizes made of parameters, and a copy of one that is partly cleared, as in Swin V2."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(6, 4)), nn.Parameter(torch.randn(6))
        self.gain = nn.Parameter(torch.tensor([2.75, 0.0, 3.0]), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        bias = self.bias.clone()
        bias[2:4].zero_()
        y = F.linear(x, self.weight, bias) * self.gain[0].item() + float(self.gain[2])
        return y[:, : len(torch.nonzero(self.gain)) + int(self.gain[0])]


@pytest.mark.native
def test_parameters_may_be_read(rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    model, x = Parameters().eval(), inputs(rng, 3, 4)
    assert model(x).shape == (3, 4)
    compare(model, x)


@fx.wrap
def skipped(x: Tensor, p: float, training: bool) -> Tensor:
    """As torchvision's stochastic depth is marked."""
    if not training or p == 0:
        return x
    raise AssertionError("only in training")


def by_shape(x: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    assert len(x) == batch and x.ndim == 4 and x.dtype == torch.float32
    torch._assert(height == width, "square")
    if height % 2 == 0 and x.size(1) == channels:
        x = x[:, :, : height // 2]
    for i in range(x.dim() - 3):
        x = x * (i + 2)
    first, *others = x.chunk(channels // 2, dim=1)
    y = first + sum(others[1:], others[0])
    return y.reshape(batch, -1, min(7, height))[:, 1:]


def heads_of_rolled_pixels(x: Tensor) -> Tensor:
    heads = x.roll((1, 2), (2, 3)).flatten(2).unflatten(1, (2, 3))
    return heads.permute(0, 3, 1, 2).flatten(2) @ heads.flatten(1, 2)


def assigned(x: Tensor) -> Tensor:
    y = x * 2
    y[:, 1:5, ..., -1] = y[:, 2:, :, 0]
    y[:, 0, 2:] += x[:, 5, 2:]
    y[..., 3, 1] = 0.5
    y[:, 5] = WEIGHT.reshape(2, 6, 9)[0, :, :6]
    return y


STATISTICS = torch.rand(6), torch.rand(6) + 0.5, torch.randn(6), torch.randn(6)
WEIGHT = torch.randn(4, 3, 3, 3)
TRANSPOSED = torch.randn(6, 2, 3, 2)

FORWARDS: dict[str, Callable[[Tensor], Tensor]] = {
    "shapes": by_shape,
    "wrapped": lambda x: skipped(x, 0.5, False).relu(),
    "batch_norm": lambda x: F.batch_norm(x, *STATISTICS, False, 0.1, 1e-3),
    "conv2d": lambda x: F.conv2d(x, WEIGHT - WEIGHT.mean((1, 2, 3), keepdim=True), torch.ones(4), stride=2, padding=1, groups=2),
    "linear": lambda x: F.linear(x.flatten(2), WEIGHT[:, :, 0].reshape(1, -1), torch.ones(1)),
    "sum": lambda x: x.reshape(len(x), 2, 3, 6, 6).sum(1) + x.sum((1,), keepdim=True),
    "sum_of_pixels": lambda x: x.sum((2, 3)),
    "expand_as": lambda x: x * x.mean((2, 3), keepdim=True).sigmoid().expand_as(x),
    "quotient": lambda x: x / (x.sum(1, keepdim=True) + 1) + 1 / (x + 2),
    "roots": lambda x: x.sqrt() + torch.rsqrt(x + 1) + x.norm(dim=1, keepdim=True) / torch.norm(x + 1, p=2, dim=(2, 3), keepdim=True),
    "windows": lambda x: (
        F.unfold(x, 3, padding=1, stride=2) + x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4).transpose(2, 4).reshape(len(x), -1, 9)[:, :1]
    ),
    "sums_of_windows": lambda x: (
        F.fold(F.unfold(x, 3, padding=1, stride=2) * 0.5, 6, 3, padding=1, stride=2)
        + F.fold(x.flatten(2)[:, :, :24], (6, 6), (2, 3), dilation=(2, 1), padding=(0, 1))
    ),
    "transposed": lambda x: F.conv_transpose2d(x, TRANSPOSED, STATISTICS[0][:4], (2, 3), 1, (1, 0), 2, (1, 2)),
    "index_select": lambda x: x.index_select(3, torch.tensor([4, 1, 1, 0])),
    "constants_that_enlarge": lambda x: (
        x.mean((2, 3), keepdim=True) * WEIGHT[0, 0] + x.mean(2, keepdim=True)[..., :3] - WEIGHT[1, 0, :, :1]
    ),
    "constant_channels": lambda x: STATISTICS[1].view(6, 1, 1) / (x[:, :1] + 1),
    "constant_tokens": lambda x: WEIGHT[0, 0, 0] * (x.mean((2, 3)) + 1).unsqueeze(2),
    "addcmul": lambda x: torch.addcmul(STATISTICS[0].view(6, 1, 1), x, STATISTICS[1].view(6, 1, 1)),
    "powers": lambda x: x**2 + torch.square(x) * x.pow(3),
    "normalize": lambda x: F.normalize(x) + F.normalize(x, dim=-1) * F.normalize(x * 0),
    "pad_with_ones": lambda x: F.pad(x, (1, 0, 2, 1), value=1.0),
    "folded_norms": lambda x: F.normalize(F.batch_norm(x.transpose(1, 3).reshape(-1, 6), *STATISTICS), dim=-1).view(-1, 36, 6),
    "folded_slopes": lambda x: F.prelu(x.transpose(1, 3).flatten(0, 2), STATISTICS[3]).unflatten(0, (-1, 36)).sum(1),
    "stack": lambda x: torch.stack([x[:, :3], x[:, 3:] * 2], dim=2).flatten(1, 2),
    "stack_behind": lambda x: torch.stack([x[:, :3], x[:, 3:] * 2], dim=-1).flatten(3),
    "max": lambda x: x.max(1)[0] + torch.max(x, dim=2, keepdim=True).values[:, 0],
    "zeros_like": lambda x: x + torch.ones_like(x[:1]) + x.new_zeros(6, 1, 1),
    "einsum_of_data": lambda x: torch.einsum("b c h w, b d h w -> b c d", x, x * 0.5),
    "einsum_of_heads": lambda x: torch.einsum(
        "bhid,bhjd->bihj", x.unflatten(1, (2, 3)).flatten(3), x.unflatten(1, (3, 2)).transpose(1, 2).flatten(3)
    ),
    "einsum_by_matrix": lambda x: torch.einsum("bchw,kc->bkhw", x, WEIGHT.reshape(18, 6)),
    "heads_of_rolled_pixels": heads_of_rolled_pixels,
    "sum_of_outputs": lambda x: (
        torch.stack([x, x * 2, x[:, :1] + x]).sum(0) + torch.cat([x[None], (-x).unsqueeze(0)]).mean((0,), keepdim=True)[0]
    ),
    "maxima": lambda x: (
        x.amax(2) * x.amax((2, 3), keepdim=True)[..., 0] + x.flatten(2).amax(-1, keepdim=True) - x.transpose(1, 2).amax(dim=2)
    ),
    "maxima_of_all": lambda x: torch.amax(x, (1, 2, 3), keepdim=True).flatten(1),
    "folded_parts": lambda x: torch.cat(torch.cat(x.reshape(len(x) * 2, 3, 6, 6).split(2, dim=2), dim=3).chunk(3, dim=1), -1).view(
        -1, 2, 36 * 3
    ),
    "assigned": assigned,
    "matrix_by_image": lambda x: WEIGHT.reshape(18, 6) @ x,
    "matrix_by_tokens": lambda x: torch.matmul(WEIGHT.reshape(3, 36), x.flatten(2).mT),
    "view_as": lambda x: x.flatten(1).view_as(x) + x.type_as(x).float().to(x.dtype),
}


@pytest.mark.native
@pytest.mark.parametrize("name", FORWARDS)
def test_forwards(name: str, rng: np.random.Generator) -> None:
    compare(nn.Sequential(nn.ReLU(), Lambda(lambda self, x: FORWARDS[name](x))), inputs(rng, 4, 6, 6, 6))


class Doubled(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


@pytest.mark.native
def test_patches(rng: np.random.Generator) -> None:
    compare(
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.Unfold(3, dilation=2, padding=(1, 2), stride=2), nn.Linear(20, 2)), inputs(rng, 2, 3, 9, 9)
    )


@pytest.mark.native
def test_a_forward_of_its_own_is_followed(rng: np.random.Generator) -> None:
    compare(nn.Sequential(Doubled(3, 4, 3)), inputs(rng, 2, 3, 6, 6))


class Windows(nn.Module):
    """Attention in shifted windows, which lie in the batch, with offsets and a mask, as in Swin; then heads in the batch."""

    def __init__(self, heads: int = 2, window: int = 2, width: int = 8) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.offsets = nn.Parameter(torch.randn(heads, window**2, window**2))

    def parts(self, x: Tensor) -> Tensor:
        n, h, w, c = x.shape
        s = self.window
        return x.view(n, h // s, s, w // s, s, c).transpose(2, 3).reshape(-1, s * s, c)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        n, h, w, c = x.shape
        regions = x.new_zeros(1, h, w, 1)
        regions[:, h - 1 :], regions[:, :, w - 1 :] = 1, 2
        regions = self.parts(regions).squeeze(2)
        apart = (regions[:, None] - regions[:, :, None] != 0) * -100.0
        y = self.parts(torch.roll(self.norm(x), (-1, -1), (1, 2)))
        q, k, v = self.qkv(y).reshape(len(y), -1, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        scores = (q * 0.5) @ k.transpose(-2, -1) + self.offsets
        scores = scores.view(n, -1, *scores.shape[1:]) + apart[:, None]
        shares = scores.flatten(0, 1).softmax(dim=-1)
        y = self.out((shares @ v).transpose(1, 2).reshape(len(y), -1, c))
        y = y.view(n, h // self.window, w // self.window, self.window, self.window, c).transpose(2, 3).reshape(x.shape)
        x = x + torch.roll(y, (1, 1), (1, 2))
        heads = x.reshape(n, h * w, self.heads, -1).transpose(1, 2).reshape(n * self.heads, h * w, -1)
        product = torch.bmm(heads, heads.transpose(1, 2)).softmax(2) @ heads
        return product.view(n, self.heads, h * w, -1).mean((1, 2))


@pytest.mark.native
@pytest.mark.parametrize("method", ["float", "bireal"])
def test_samples_folded_into_an_axis(method: str, rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Windows(), nn.Linear(4, 3))
    x = inputs(rng, 5, 3, 4, 6)
    model = bitfold.apply(model, method).eval()
    if method == "float":
        compare(model, x)
    else:
        graph = bitfold.export(model, x)
        assert [layer.name for layer in bitfold.verify(model, graph, x).layers] == ["1.qkv", "1.out"]
    assert bitfold.verify(model, bitfold.export(model, x), x).accumulators_differ == 0
