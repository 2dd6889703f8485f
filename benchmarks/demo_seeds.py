"""Accuracy of the demo over seeds: ``python benchmarks/demo_seeds.py --seeds 0,1,2 --rows results/demo.jsonl``.

One row a seed, and one with the median and range over them. A demo ends in about a minute on two cores.
"""

import argparse
import json
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bitfold.bench import rows
from bitfold.bench.rows import Row
from bitfold.demo import demo

FIGURES = ("accuracy_low_bit", "accuracy_float", "file_bytes", "latency_us_low_bit", "latency_us_float", "speed_up", "seconds")


def one(seed: int, threads: int) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        return demo(Path(folder), seed=seed, threads=threads)


def row(result: dict[str, Any], contestant: str, details: dict[str, Any], stamp: dict[str, Any]) -> Row:
    fields = {"bench": "demo", "subject": result["recipe"], "contestant": contestant, "threads": result["threads"], "batch": 1}
    return Row(**fields, timing=None, details=details, **stamp)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=Path, default=Path("results/demo.jsonl"))
    arguments = parser.parse_args()
    seeds = [int(s) for s in arguments.seeds.split(",")]
    stamp = rows.stamp()
    results = []
    for seed in seeds:
        result = one(seed, arguments.threads)
        results.append(result)
        details = {name: result[name] for name in (*FIGURES, "accumulators", "accumulators_differ", "codes_flipped", "test_images")}
        rows.append(arguments.rows, [row(result, f"seed {seed}", details, stamp)])
    table: dict[str, Any] = {}
    for name in FIGURES:
        values = [r[name] for r in results]
        table[name] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    table["accumulators_differ"] = sum(r["accumulators_differ"] for r in results)
    rows.append(arguments.rows, [row(results[0], f"median of {len(seeds)} seeds", table, stamp)])
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
