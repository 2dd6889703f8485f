"""What ``verify`` found, as numbers and as text."""

from dataclasses import asdict, dataclass
from typing import Any

# How far PyTorch's float32 sums may stand from a threshold, relative to the layer's largest input, for a flip to be their rounding.
ROUNDING = 1e-4
# Largest |difference| of the outputs of images without a flip, relative to the largest |output|: sums in another order.
OUTPUT_TOLERANCE = 1e-3


@dataclass(frozen=True)
class LayerCheck:
    """One layer with coded weights. Accumulators: fed with the trained network's own codes. Codes: those it met end to end; both are 0
    for a layer with float activations. ``fresh``: flips in images that had none in an earlier layer, so that they come from this place;
    the rest follow from earlier ones. ``unexplained``: fresh flips where PyTorch's value was not next to a threshold.
    """

    name: str
    weights: int
    weights_differ: int
    accumulators: int
    accumulators_differ: int
    interpreter_accumulators: int
    interpreter_differ: int
    codes: int
    flipped: int
    fresh: int
    unexplained: int

    @property
    def ok(self) -> bool:
        return self.weights_differ == self.accumulators_differ == self.interpreter_differ == self.unexplained == 0


@dataclass(frozen=True)
class StemCheck:
    """What an integer stem changed: the graph against the trained network with its float stem. The rest of a report compares with the
    network whose stem has the integers' values.
    """

    bits: int
    max_difference: float
    top1_agree: int | None


@dataclass(frozen=True)
class VerifyReport:
    """``str`` gives the text, ``to_dict`` what JSON wants. Outputs are compared over all images; accuracies need labels.

    ``accuracy_torch`` is that of the trained network, with its float stem if ``stem`` says that the graph has an integer one.
    """

    graph: str
    backend: str
    images: int
    layer_images: int
    layers: tuple[LayerCheck, ...]
    images_without_flips: int
    max_difference: float
    max_difference_without_flips: float
    max_output: float
    top1_agree: int | None
    accuracy_torch: float | None
    accuracy: float | None
    stem: StemCheck | None = None

    @property
    def accumulators(self) -> int:
        return sum(layer.accumulators for layer in self.layers)

    @property
    def accumulators_differ(self) -> int:
        return sum(layer.accumulators_differ + layer.interpreter_differ for layer in self.layers)

    @property
    def codes(self) -> int:
        return sum(layer.codes for layer in self.layers)

    @property
    def flipped(self) -> int:
        return sum(layer.flipped for layer in self.layers)

    @property
    def ok(self) -> bool:
        """No weight or accumulator differs, rounding explains every flip, and outputs that no flip explains agree."""
        close = self.max_difference_without_flips <= OUTPUT_TOLERANCE * max(self.max_output, 1e-30)
        return close and all(layer.ok for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        totals = ("accumulators", "accumulators_differ", "codes", "flipped", "ok")
        return {**asdict(self), **{name: getattr(self, name) for name in totals}}

    def __str__(self) -> str:
        interpreted = sum(layer.interpreter_accumulators for layer in self.layers)
        weights, differ = (sum(getattr(layer, f) for layer in self.layers) for f in ("weights", "weights_differ"))
        rows = [
            f"verify {self.graph!r}: {self.images} images, {self.backend} against PyTorch",
            f"  {differ} of {weights:,} weight codes differ in {len(self.layers)} quantised layers",
            f"  {self.accumulators_differ} of {self.accumulators:,} accumulators differ, fed with the trained network's own codes "
            f"({self.layer_images} images; the NumPy interpreter checked {interpreted:,} of them too)",
            f"  {self.flipped:,} of {self.codes:,} codes flipped end to end, by float rounding near a threshold{self._worst()}",
            f"  outputs: max |difference| {self.max_difference:.3g} of {self.max_output:.3g}; {self.max_difference_without_flips:.3g} over "
            f"the {self.images_without_flips} images without a flip",
        ]
        if self.stem is not None:
            rows.insert(
                1, f"  the float stem is replaced by {self.stem.bits}-bit integers on bytes; compared with PyTorch computing the same"
            )
            agree = f", top-1 class agrees on {self.stem.top1_agree} of {self.images}" if self.stem.top1_agree is not None else ""
            rows.append(
                f"  against the float stem as trained: max |difference| {self.stem.max_difference:.3g} of {self.max_output:.3g}{agree}"
            )
        if self.top1_agree is not None:
            rows.append(f"  top-1 class agrees on {self.top1_agree} of {self.images}")
        if self.accuracy is not None and self.accuracy_torch is not None:
            rows.append(f"  accuracy: PyTorch {100 * self.accuracy_torch:.2f} %, {self.backend} {100 * self.accuracy:.2f} %")
        failed = [layer.name for layer in self.layers if not layer.ok]
        return "\n".join([*rows, "  ok" if self.ok else f"  NOT OK{': ' + ', '.join(failed) if failed else ': outputs differ'}"])

    def _worst(self) -> str:
        worst = sorted((layer for layer in self.layers if layer.flipped), key=lambda layer: -layer.flipped)[:3]
        return f" (most in {', '.join(f'{layer.name}: {layer.flipped:,}' for layer in worst)})" if worst else ""
