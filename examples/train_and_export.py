"""Your own network in your own loop: train it in one bit, prove the folded file, save it.

python examples/train_and_export.py digits.bitfold
"""

import sys

import torch
from torch import nn

import bitfold
from bitfold import data


def main(out: str, epochs: int = 12) -> None:
    torch.manual_seed(0)
    conv = lambda i, o: (nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.PReLU(o))  # noqa: E731
    net = nn.Sequential(*conv(1, 16), *conv(16, 32), nn.MaxPool2d(2), *conv(32, 64), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 10))

    method = bitfold.methods.get("bireal")  # any name of `bitfold list methods`; the first conv and the last linear stay in float
    model = bitfold.apply(net, method)
    loader = data.Loader(data.load("digits", "train"), 64)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        for step, (x, y, _) in enumerate(loader.epoch(epoch)):
            method.before_step(model, (epoch + step / len(loader)) / epochs)
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()

    test = data.load("digits", "test")
    x, y, _ = data.Loader(test, len(test), shuffle=False).batch(0, 0)
    prepare = {"classes": "\n".join(test.class_names), "mean": " ".join(map(str, loader.mean)), "std": " ".join(map(str, loader.std))}
    graph = bitfold.export(model, x[:1], name="digits", metadata=prepare)
    print(bitfold.verify(model, graph, x, labels=y))
    print(f"{out}: {graph.save(out):,} bytes")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
