"""Short recipes on digits that the training tests share."""

from typing import Any

from bitfold.training.recipe import Recipe, parse

TEXT = """
name = "short"
seed = 5
[data]
name = "digits"
batch_size = 40
augment = ["pad_crop:1"]
train_limit = 200
test_limit = 100
[model]
name = "digits_cnn"
[model.options]
width = 8
[[stage]]
method = "adabin"
epochs = 2
optimizer = "sgd"
lr = 0.05
momentum = 0.9
weight_decay = 1e-4
schedule = "cosine"
"""

SECOND = """
[[stage]]
method = "bireal"
epochs = 1
optimizer = "adam"
lr = 0.01
schedule = "linear"
"""

TWO_STAGES = TEXT.replace('method = "adabin"', 'method = "float"') + SECOND


def short(*overrides: str, text: str = TEXT) -> Recipe:
    return parse(text, "short", overrides)


def state(path: Any) -> dict[str, Any]:
    """The final weights of a run."""
    from safetensors.torch import load_file

    return load_file(path / "model.safetensors")
