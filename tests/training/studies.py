"""A small study on digits that tests share."""

import tomllib
from typing import Any

from bitfold.training.study import Study, parse

TEXT = """
name = "tiny"
title = "Three ways on digits"
description = "A tiny network, few images."
epochs = 1
baseline = "bireal"

[base.data]
name = "digits"
batch_size = 40
train_limit = 120
test_limit = 60
[base.model]
name = "digits_cnn"
[base.model.options]
width = 8
[[base.stage]]
method = "float"
epochs = 4
optimizer = "sgd"
lr = 0.05
schedule = "step"
milestones = [2]
warmup_epochs = 1

[protocol.long]
description = "Eight epochs of half the images."
epochs = 8
set = ["data.train_limit=60"]

[[row]]
name = "bireal"
set = ["stage.method=bireal"]

[[row]]
name = "taught"
group = "with a teacher"
follows = "float"
set = ["stage.method=adabin", "stage.options.maxout=false", "teacher.weight=0.5"]
[row.published]
accuracy = 90.5
source = "an example"
difference = "more epochs"

[[row]]
name = "float"
reference = true
"""


def table(old: str = "", new: str = "") -> dict[str, Any]:
    """The file as TOML holds it, after one replacement."""
    assert old in TEXT
    return tomllib.loads(TEXT.replace(old, new, 1))


def tiny() -> Study:
    return parse(table(), "tiny.toml")
