"""Sort a folder of pictures with a folded network: NumPy, Pillow and bitfold, no PyTorch.

python examples/classify_folder.py digits.bitfold pictures/
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import bitfold

BATCH = 64


def main(file: str, folder: str) -> None:
    graph = bitfold.Graph.load(file)
    net = bitfold.load(graph, threads=1)
    ((channels, height, width),) = (tensor.shape for tensor in graph.inputs.values())
    mean, std = (np.array(graph.metadata[key].split(), np.float32).reshape(-1, 1, 1) for key in ("mean", "std"))
    classes = graph.metadata["classes"].split("\n")

    def read(path: Path) -> np.ndarray:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB").resize((width, height)), np.float32)
        return (pixels.reshape(height, width, channels).transpose(2, 0, 1) / 255 - mean) / std

    paths = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg"))
    for first in range(0, len(paths), BATCH):
        part = paths[first : first + BATCH]
        scores = net(np.stack([read(path) for path in part]))
        for path, row in zip(part, scores, strict=True):
            print(f"{path.name}\t{classes[row.argmax()]}\t{row.max():.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
