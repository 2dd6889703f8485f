"""A training run of note as a row: ``python benchmarks/run_row.py runs/NAME --rows results/runs.jsonl``.

Exports and verifies the run on its whole test set; the row holds the accuracies of PyTorch and of the engine, the flips between them,
every epoch's figures, and the commit, machine and dates of the training beside those of this command.
"""

import argparse
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

from bitfold.bench import rows
from bitfold.bench.rows import Row
from bitfold.commands.runs import export_run, verify_run
from bitfold.training.run import Run

PER_EPOCH = ("epoch", "lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "flip_rate", "seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rows", type=Path, default=Path("results/runs.jsonl"))
    parser.add_argument("--data", type=Path, default=None)
    arguments = parser.parse_args()
    run = Run.load(arguments.run)
    report = verify_run(arguments.run, arguments.data, None)
    print(report)
    with TemporaryDirectory() as folder:
        file_bytes = export_run(arguments.run).save(Path(folder) / "m.bitfold")
    found = report.to_dict()
    details = {
        "recipe": tomllib.loads(run.recipe.toml()),
        "recipe_hash": run.recipe.hash,
        "trained": {name: value for name, value in run.facts.items() if name != "data"},
        "file_bytes": file_bytes,
        "verify": {name: value for name, value in found.items() if name != "layers"},
        "epochs": [{name: row[name] for name in PER_EPOCH if name in row} for row in run.metrics],
    }
    fields = {"bench": "run", "subject": run.recipe.name, "contestant": f"bitfold {run.recipe.stage[-1].method}", "threads": 1, "batch": 64}
    rows.append(arguments.rows, [Row(**fields, timing=None, details=details, **rows.stamp())])


if __name__ == "__main__":
    main()
