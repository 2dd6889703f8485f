"""Which networks of torchvision and timm export exactly: ``python benchmarks/zoo.py --rows results/zoo.jsonl --jobs 2``.

Each name in ``zoo.txt`` (one network of every family) is built with random weights, scales and statistics, at its own image size, and
goes through ``apply``, ``export`` and ``verify`` in a process of its own: once as a float network, which shows that the graph computes
what PyTorch does, and once with a method, which shows that every quantised layer gives the same integers. One row each; ``reason`` holds
what was refused. Names that the file of rows already holds are left out, so a run can go on. Wants the packages ``torchvision``, ``timm``.
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

import bitfold
from bitfold.bench import rows
from bitfold.bench.rows import Row
from bitfold.errors import BitfoldError

IMAGES = 2


def build(name: str) -> tuple[nn.Module, int]:
    """The network, in eval mode, and the size of its images."""
    package, _, network = name.partition(":")
    torch.manual_seed(0)
    if package == "timm":
        model = import_module("timm").create_model(network)
        size = int(model.default_cfg["input_size"][-1])
    else:
        aux: dict[str, Any] = {"aux_logits": False, "init_weights": False} if network in ("googlenet", "inception_v3") else {}
        model, size = import_module("torchvision.models").get_model(network, **aux), 299 if network == "inception_v3" else 224
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        for p in model.parameters():  # what begins as all 0, all 1 or all 1e-6 would hide a branch, or the whole network
            if p.numel() > 1 and (p == p.flatten()[0]).all():
                p.add_(torch.randn_like(p), alpha=0.1)
    return model.eval(), size


def check(name: str, method: str) -> dict[str, Any]:
    """What became of it, with ``reason`` where it did not go through."""
    stage = "build"
    try:
        model, size = build(name)
        found: dict[str, Any] = {"parameters": sum(p.numel() for p in model.parameters()), "image": size, "reason": None}
        x = torch.randn(IMAGES, 3, size, size)
        stage = "apply"
        model = bitfold.apply(model, method).eval()
        stage = "export"
        graph = bitfold.export(model, x[:1])
        stage = "verify"
        report = bitfold.verify(model, graph, x)
    except BitfoldError as error:
        return {"reason": f"{stage}: {error}"}
    except Exception as error:  # of the packages' own code, too: the row says so
        return {"reason": f"{stage}: {type(error).__name__}: {error}"}
    return {
        **found,
        "nodes": len(graph.nodes),
        "quantised_layers": len(report.layers),
        "accumulators": sum(layer.accumulators for layer in report.layers),
        "accumulators_differ": report.accumulators_differ,
        "images_without_flips": report.images_without_flips,
        "max_difference": report.max_difference,
        "max_output": report.max_output,
    }


def apart(name: str, method: str, limit: float) -> dict[str, Any]:
    """``check`` in a process of its own."""
    command = [sys.executable, __file__, "--one", name, "--method", method]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]
    except subprocess.TimeoutExpired:
        return {"reason": f"took longer than {limit:g} s"}
    except (IndexError, json.JSONDecodeError):
        return {"reason": f"the process ended with {done.returncode}: {done.stderr[-300:]}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="bireal")
    parser.add_argument("--names", type=Path, default=Path(__file__).with_suffix(".txt"))
    parser.add_argument("--rows", type=Path, default=Path("results/zoo.jsonl"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--limit", type=float, default=900, help="seconds a network may take")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.one:
        print(json.dumps(check(arguments.one, arguments.method)))
        return
    stamp = rows.stamp()
    stamp["versions"] |= {package: metadata.version(package) for package in ("torchvision", "timm")}
    held = {(r.subject, r.contestant) for r in rows.read(arguments.rows)} if arguments.rows.exists() else set()
    names = arguments.names.read_text(encoding="utf-8").split()
    work = [(n, m) for n in names for m in ("float", arguments.method) if (n, f"bitfold {m}") not in held]

    def one(job: tuple[str, str]) -> None:
        name, method = job
        details = apart(name, method, arguments.limit)
        reason = details.pop("reason")
        fields = {"bench": "zoo", "subject": name, "contestant": f"bitfold {method}", "threads": 1, "batch": IMAGES}
        rows.append(arguments.rows, [Row(**fields, timing=None, reason=reason, details=details, **stamp)])
        good = "{accumulators_differ} of {accumulators:,} accumulators differ, output by {max_difference:.2g} of {max_output:.2g}"
        print(f"{name:50} {method:10} {reason or good.format(**details)}"[:230])

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(one, work))


if __name__ == "__main__":
    main()
