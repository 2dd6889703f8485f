"""What a report shows. Every part but the title may be missing: its section is then left out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bitfold.bench.timing import Timing


@dataclass(frozen=True)
class Epoch:
    """After epoch ``number`` (from 1). Accuracies in per cent; ``flip_rate``: share of weight codes that changed in this epoch."""

    number: int
    loss: float | None = None
    accuracy: float | None = None
    flip_rate: float | None = None


@dataclass(frozen=True)
class Curve:
    """One training: "low-bit" or "float twin"."""

    name: str
    epochs: tuple[Epoch, ...]


@dataclass(frozen=True)
class Confusion:
    """``counts[i, j]``: test samples of class i that were given class j."""

    classes: tuple[str, ...]
    counts: np.ndarray


@dataclass(frozen=True)
class Layer:
    """One node of the exported graph as the engine runs it."""

    name: str
    op: str
    bits: str  # activations x weights, "1 x 1"; "" where no weights
    parameters: int
    size_bytes: int
    latency_us: float | None = None
    kernel: str = ""
    reason: str = ""  # why this kernel


@dataclass(frozen=True)
class Verification:
    """The trained network against the exported file. ``figures``: label -> value, shown in order."""

    accumulators: int
    accumulators_differ: int
    figures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Contestant:
    """One line of the comparison. ``accuracy`` in per cent; ``timing`` of one image; ``note``: what ran it, or why it did not."""

    name: str
    accuracy: float | None = None
    size_bytes: int | None = None
    timing: Timing | None = None
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """Contestants of one subject, timed interleaved; the first is the reference of the speed-ups."""

    title: str
    contestants: tuple[Contestant, ...]


@dataclass(frozen=True)
class Tile:
    """A key figure at the top. ``good``: shown as a success, a failure, or (None) neither."""

    label: str
    value: str
    note: str = ""
    good: bool | None = None


@dataclass(frozen=True)
class Report:
    """The whole page. ``facts``: recipe name, date, commit, machine, versions ... label -> value."""

    title: str
    lead: str = ""
    tiles: tuple[Tile, ...] = ()
    curves: tuple[Curve, ...] = ()
    confusion: Confusion | None = None
    layers: tuple[Layer, ...] = ()
    verification: Verification | None = None
    comparisons: tuple[Comparison, ...] = ()
    recipe: str = ""  # the TOML text
    facts: Mapping[str, str] = field(default_factory=dict)
