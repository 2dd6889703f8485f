"""The same counting for modules and for engines."""

import numpy as np
import pytest
import torch
from torch import nn

from bitfold.training.evaluate import evaluate


def batches(n: int = 3) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(5 + i, 7, generator=generator), torch.randint(0, 7, (5 + i,), generator=generator)) for i in range(n)]


def test_metrics_by_hand_and_confusion() -> None:
    outputs = torch.tensor([[3.0, 1, 0, 0, 0, 0, 0], [0.0, 2, 1, 0.5, 0.4, 0.3, -1], [1.0, 0, 0, 0, 0, 0, 0]])
    labels = torch.tensor([0, 6, 1])
    result = evaluate(nn.Identity(), [(outputs, labels)], confusion=True)
    assert result["count"] == 3 and result["accuracy"] == pytest.approx(100 / 3) and result["top5"] >= 100 / 3
    assert result["loss"] == pytest.approx(float(nn.functional.cross_entropy(outputs, labels)))
    expected = np.zeros((7, 7), dtype=int)
    expected[0, 0] = expected[6, 1] = expected[1, 0] = 1
    assert result["confusion"] == expected.tolist()


def test_an_engine_counts_like_its_module() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(7, 7)).train()

    def engine(x: np.ndarray) -> np.ndarray:
        assert isinstance(x, np.ndarray) and x.flags.c_contiguous
        return (x @ model[1].weight.detach().numpy().T + model[1].bias.detach().numpy()).astype(np.float32)

    a, b = evaluate(model, batches()), evaluate(engine, batches())
    assert model.training  # left as it was
    assert a["count"] == b["count"] == 18 and a["accuracy"] == b["accuracy"] and a["loss"] == pytest.approx(b["loss"], rel=1e-6)
