"""The photographs that the corruption ``frost`` lays over images. They are not ours to ship: they are read from an installed package."""

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from bitfold.errors import ConfigError

PACKAGE = "imagecorruptions"
_FILES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")  # a sixth is there too; the published code never draws it


@cache
def photographs() -> tuple[np.ndarray, ...]:
    """The five published photographs, uint8 (height, width, 3). Raises ConfigError where they are not installed.

    Only files of the package are read, its code is not run: it needs none of its dependencies.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"corruption 'frost': its photographs come with the package {PACKAGE}, which is not installed; "
            f"pip install --no-deps {PACKAGE}, or leave frost out: all,-frost"
        )
    folder = Path(spec.origin).parent / "frost"
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise ConfigError(f"corruption 'frost': {folder}: expected {', '.join(_FILES)}; missing: {', '.join(missing)}")
    return tuple(np.asarray(Image.open(folder / name).convert("RGB")) for name in _FILES)


@cache
def fitting(photograph: int, height: int, width: int, small: bool) -> np.ndarray:
    """One of them at the size it has beside images of height x width, uint8, larger than these in both directions.

    Small images get a fifth of it, every fifth pixel (what the published OpenCV call comes to); others the whole, enlarged if it is not
    larger than they.
    """
    image = photographs()[photograph]
    if small:
        image = image[2::5, 2::5]
    grown = max((height + 1) / image.shape[0], (width + 1) / image.shape[1])
    if grown <= 1:
        return image
    size = (int(np.ceil(image.shape[1] * grown)), int(np.ceil(image.shape[0] * grown)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
