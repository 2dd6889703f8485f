"""Filters against numbers of the libraries behind the published corruptions (OpenCV, SciPy, scikit-image, ImageMagick's rule)."""

import numpy as np
import pytest
import torch
from tests.data.test_corruptions import picture

from bitfold.data import filters

X = picture().double() / 255
ROWS, COLUMNS = torch.meshgrid(torch.arange(32).double(), torch.arange(32).double(), indexing="ij")


def test_plasma() -> None:
    found = filters.plasma(8, 1.75, [np.random.default_rng(5), np.random.default_rng(6)])
    expected = [[0.0, 0.574353, 0.088045], [0.344883, 0.594985, 0.351155], [0.643858, 0.765028, 0.441818]]
    assert np.allclose(found[0, ::3, ::3], expected, atol=1e-6)
    assert found.shape == (2, 8, 8) and found.amin((1, 2)).tolist() == [0, 0] and found.amax((1, 2)).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("angle", "mean", "at_edge", "below"),
    [
        (-37.0, 0.476482, [0.76542, 0.635635, 0.515146], [0.517384, 0.601853, 0.692564]),
        (12.0, 0.488974, [0.820987, 0.691584, 0.569315], [0.54815, 0.632308, 0.724347]),
        (-110.0, 0.453486, [0.712774, 0.591458, 0.475902], [0.41565, 0.515659, 0.619053]),
    ],
)
def test_motion(angle: float, mean: float, at_edge: list[float], below: list[float]) -> None:
    y = filters.motion(X.expand(2, -1, -1, -1), 9, 2.5, np.array([0.0, angle]))[1]
    assert y.mean().item() == pytest.approx(mean, abs=1e-6)
    assert y[:, 5, 30].tolist() == pytest.approx(at_edge, abs=1e-6) and y[:, 31, 2].tolist() == pytest.approx(below, abs=1e-6)


def test_sample_as_an_affine_map() -> None:
    matrix = np.array([[1.05, 0.1, -1.3], [-0.07, 0.93, 2.1], [0, 0, 1]])
    back = np.linalg.inv(matrix)
    rows, columns = (back[i, 0] * COLUMNS + back[i, 1] * ROWS + back[i, 2] for i in (1, 0))
    y = filters.sample(X, rows[None], columns[None], "reflect")[0]
    assert y.mean().item() == pytest.approx(0.465227, abs=1e-5)
    for at, expected in [
        ((0, 0), [0.05531465, 0.05660892, 0.05938013]),
        ((31, 31), [0.65642524, 0.5042157, 0.40535712]),
        ((3, 17), [0.4004765, 0.33378723, 0.27042678]),
    ]:
        assert y[:, at[0], at[1]].tolist() == pytest.approx(expected, abs=1e-5)


def test_sample_far_outside() -> None:
    y = filters.sample(X[:, 1:2], (ROWS - 20.3 + COLUMNS * 0.9)[None], (COLUMNS * 1.3 + 11.7 - ROWS)[None], "symmetric")[0, 0]
    assert y.mean().item() == pytest.approx(0.4356756663602941)
    assert [y[0, 0].item(), y[31, 31].item(), y[3, 17].item()] == pytest.approx(
        [0.6615686274509804, 0.10823529411764701, 0.5223529411764706]
    )


def test_gaussian() -> None:
    y = filters.gaussian(X[:, 1:2], 6.4, "symmetric", 3.0)[0, 0]
    assert [y.mean().item(), y[0, 0].item(), y[20, 30].item()] == pytest.approx(
        [0.4705690870098038, 0.15943066825913657, 0.43426545568274755]
    )
    assert filters.gaussian(X, 0.0) is X
    assert torch.allclose(filters.gaussian(torch.ones(1, 1, 3, 5, dtype=torch.float64), 4.0), torch.ones(1, 1, 3, 5, dtype=torch.float64))


def test_zoom_by_1_is_the_identity() -> None:
    assert torch.allclose(filters.zoom(X, 1.0), X)
    assert filters.zoom(X[:, :, :20], 1.7).shape == (1, 3, 20, 32)
