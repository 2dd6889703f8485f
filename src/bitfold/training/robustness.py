"""``bitfold.evaluate_corruptions``: errors under common corruptions, and their mean against a baseline (mCE)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitfold.data import Loader
from bitfold.data.corruptions import COMMON, NAMES, SEVERITIES, corrupt
from bitfold.errors import ConfigError
from bitfold.training.evaluate import Network, evaluate


@dataclass(frozen=True)
class Robustness:
    """Top-1 errors in per cent: of the clean images, and by corruption and severity."""

    images: int
    clean: float
    errors: Mapping[str, Mapping[int, float]]

    @property
    def mean(self) -> float:
        """Mean over corruptions of the mean over severities."""
        means = [_mean(row.values()) for row in self.errors.values()]
        return _mean(means)

    def ce(self, baseline: "Robustness") -> dict[str, float]:
        """CE_c = 100 sum_s E_s,c / sum_s E_s,c of the baseline, by corruption (Hendrycks and Dietterich 2019, Eq. 1).

        Both must have met the same images, corruptions and severities. Raises ConfigError otherwise, and where the baseline makes no
        error.
        """
        mine, other = ({name: list(row) for name, row in r.errors.items()} for r in (self, baseline))
        if mine != other or self.images != baseline.images:
            raise ConfigError(f"ce: {self.images} images of {mine} against a baseline with {baseline.images} of {other}; both must agree")
        sums = {name: sum(row.values()) for name, row in baseline.errors.items()}
        for name, total in sums.items():
            if total == 0:
                raise ConfigError(f"ce: the baseline makes no error under {name!r}; allowed: a baseline that does")
        return {name: 100 * sum(row.values()) / sums[name] for name, row in self.errors.items()}

    def mce(self, baseline: "Robustness") -> float:
        """The mean of ``ce`` over corruptions; below 100 is more robust than the baseline."""
        return _mean(self.ce(baseline).values())

    def rows(self, baseline: "Robustness | None" = None) -> list[dict[str, Any]]:
        """For a table: one row a corruption, then the mean and the clean error; with a baseline its mean errors, and CE."""
        ce = self.ce(baseline) if baseline is not None else {}
        rows: list[dict[str, Any]] = []
        for name, row in self.errors.items():
            rows.append({"corruption": name, **{str(s): e for s, e in row.items()}, "mean": _mean(row.values())})
        severities = next(iter(self.errors.values()))
        columns = {str(s): _mean(row[s] for row in self.errors.values()) for s in severities}
        rows.append({"corruption": "mean", **columns, "mean": self.mean})
        rows.append({"corruption": "clean", **dict.fromkeys(columns, ""), "mean": self.clean})
        if baseline is not None:
            against = [*(_mean(row.values()) for row in baseline.errors.values()), baseline.mean, baseline.clean]
            for table, error, value in zip(rows, against, [*ce.values(), self.mce(baseline), ""], strict=True):
                table |= {"baseline": error, "CE": value}
        return rows


def evaluate_corruptions(
    model: Network,
    data: Loader,
    corruptions: Sequence[str] = COMMON,
    severities: Sequence[int] = SEVERITIES,
    *,
    seed: int = 0,
    note: Callable[[str], None] = lambda words: None,
) -> Robustness:
    """Errors of ``model`` (a module or an engine, see ``evaluate``) on the clean and on the corrupted images of ``data``.

    ``data``: a loader of test images without augmentation; the corruption falls on their bytes, normalisation follows.
    ``corruptions``: names of ``bitfold.data.corruptions.NAMES``, by default the common ones; ``severities``: of 1 to 5. The noise of an
    image depends on ``seed``, corruption, severity and its place alone, so two models meet the same pictures. ``note`` is told of each
    corruption before it begins. Raises ConfigError.
    """
    if not corruptions or not severities:
        raise ConfigError(f"evaluate_corruptions: nothing to do; corruptions: {', '.join(NAMES)}; severities: 1 to 5")
    noisy = {name: {s: data.over(corrupt(data.dataset, name, s, seed)) for s in severities} for name in corruptions}
    clean = evaluate(model, data)
    errors: dict[str, dict[int, float]] = {}
    for name, loaders in noisy.items():
        note(name)
        errors[name] = {s: 100.0 - evaluate(model, loader)["accuracy"] for s, loader in loaders.items()}
    return Robustness(clean["count"], 100.0 - clean["accuracy"], errors)


def _mean(values: Any) -> float:
    listed = list(values)
    return float(sum(listed) / len(listed))
