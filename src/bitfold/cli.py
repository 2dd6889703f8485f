"""The command line: every command reads its arguments, calls one function and prints. Heavy packages load inside the commands."""

import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from bitfold.errors import BitfoldError, ConfigError, unknown

try:
    import typer
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.table import Column, Table
except ImportError as e:
    raise SystemExit(f"bitfold: the command line needs {e.name}; install it with: pip install 'bitfold[train]'") from e

app = typer.Typer(
    help="Train a network to a few bits, fold it to packed integers, run it bit-exactly and fast.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
console = Console(highlight=False)

DataFolder = Annotated[Path | None, typer.Option("--data", help="Folder of data sets; default: the environment variable BITFOLD_DATA.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, for example runs/adabin_digits_cnn_digits.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Threads = Annotated[int, typer.Option(help="Threads of the engine.", min=1)]
BenchThreads = Annotated[int, typer.Option(help="Threads of every contestant.", min=1)]
BatchSize = Annotated[int, typer.Option("--batch", help="Images at once.", min=1)]
Accelerator = Annotated[str, typer.Option(help="cpu, gpu, or auto: a GPU if there is one.")]
EvalEvery = Annotated[int, typer.Option(help="Epochs between evaluations on the test set; the last is always evaluated.", min=1)]
VerifyLimit = Annotated[int | None, typer.Option(help="Compare codes on the first N test images only.", min=1)]
InputType = Annotated[str, typer.Option("--input", metavar="float32|uint8", help="uint8: the file takes pictures as bytes.")]
StemBits = Annotated[int | None, typer.Option(help="With --input uint8: bits of the integer first layer; default: 16.", min=2, max=16)]
KeepRows = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Add the rows to this JSON-lines file.")]

bench = typer.Typer(help="Measure speed: interleaved medians, results checked first.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(bench, name="bench")


@app.command("list")
def list_(
    kind: Annotated[str, typer.Argument(metavar="methods|models|recipes|studies|formats|kernels", help="What to list.")],
    name: Annotated[str | None, typer.Argument(help="Show one method, model, recipe or study in full.")] = None,
    as_json: AsJson = False,
) -> None:
    """What there is.

    Example: bitfold list methods; bitfold list methods adabin
    """
    listing = importlib.import_module("bitfold.commands.listing")
    if kind not in listing.KINDS:
        raise unknown("list", kind, listing.KINDS)
    if name is None:
        _print_rows(listing.KINDS[kind](), as_json)
        return
    found = listing.entry(kind, name)
    if as_json:
        console.print_json(json.dumps({"text": found.text, "rows": found.rows}))
        return
    console.print(found.text, markup=False)
    if found.rows:
        console.print()
        _print_rows(found.rows, as_json=False)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped one (bitfold list recipes).")],
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value; may be repeated.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default: runs/<recipe name>.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the last checkpoint in --out.")] = False,
    data: DataFolder = None,
    eval_every: EvalEvery = 1,
    checkpoint_steps: Annotated[int, typer.Option(help="Optimiser steps between checkpoints within an epoch.", min=1)] = 500,
    accelerator: Accelerator = "auto",
    keep: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Then measure it: bench run --json FILE.")] = None,
    limit: VerifyLimit = None,
) -> None:
    """Train a recipe.

    Example: bitfold train adabin_digits_cnn_digits --set stage.epochs=5 --out runs/try

    --set stage.0.lr=0.01 changes the first stage, --set stage.lr=0.01 every one. Several processes: torchrun --nproc-per-node 2 -m
    bitfold train ...
    """
    import bitfold

    run = bitfold.train(
        bitfold.load_recipe(recipe, set_ or []),
        out,
        resume=resume,
        data=data,
        accelerator=accelerator,
        eval_every=eval_every,
        checkpoint_steps=checkpoint_steps,
    )
    if "imported" in run.facts:
        raise ConfigError(f"{run.path} is an imported run; there is nothing to resume")
    last = run.metrics[-1]
    if os.environ.get("RANK", "0") == "0":
        if keep is not None:
            bench_run(run.path, data, limit, keep)
        console.print(f"{run.path}: test accuracy {last['test_accuracy']:.2f} %, loss {last['test_loss']:.4f}", soft_wrap=True)


@app.command("import")
def import_(
    format_: Annotated[str, typer.Argument(metavar="FORMAT", help="A published format (bitfold list formats).")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The published checkpoint.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder of the run; default: runs/<name of its recipe>.")] = None,
) -> None:
    """Make a run of a published checkpoint.

    Example: bitfold import adabin resnet20_1w1a_model.th -o runs/published
    """
    imports = importlib.import_module("bitfold.commands.imports")
    console.print(imports.import_file(format_, file, out), soft_wrap=True)


@app.command("eval")
def eval_(
    run: RunFolder,
    data: DataFolder = None,
    as_json: AsJson = False,
    corruptions: Annotated[str | None, typer.Option(help="Under common corruptions: names with commas, all, or all,-frost.")] = None,
    severities: Annotated[str, typer.Option(help="Of the corruptions: 1-5, 1,3, ...")] = "1-5",
    limit: Annotated[int | None, typer.Option(help="Corruptions: only the first N test images.", min=1)] = None,
    baseline: Annotated[Path | None, typer.Option(metavar="RUN", help="Corruptions: the run that the errors are divided by.")] = None,
    file: Annotated[Path | None, typer.Option(metavar="M.BITFOLD", help="The run's exported file, by the engine instead.")] = None,
    threads: Threads = 1,
) -> None:
    """Accuracy of a run on its test set, by PyTorch; with --corruptions errors; with --file of an exported file, by the engine.

    Example: bitfold eval runs/adabin_digits_cnn_digits --corruptions gaussian_noise,fog --limit 100
    """
    if corruptions is not None and file is not None:
        raise ConfigError("eval: --corruptions and --file exclude each other")
    if corruptions is not None:
        robust = importlib.import_module("bitfold.commands.robust")
        err = Console(stderr=True, highlight=False)
        rows = robust.corruption_rows(run, data, corruptions, severities, limit, baseline, lambda words: err.print(words, soft_wrap=True))
        _print_rows(rows, as_json)
        return
    if limit is not None or baseline is not None or severities != "1-5":
        raise ConfigError("eval: --severities, --limit and --baseline belong to --corruptions")
    runs = importlib.import_module("bitfold.commands.runs")
    _print_rows([runs.evaluate_run(run, data) if file is None else runs.evaluate_file(run, data, file, threads)], as_json)


@app.command()
def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option("-o", "--out", help="The file to write.")] = Path("model.bitfold"),
    input_: InputType = "float32",
    stem_bits: StemBits = None,
) -> None:
    """Fold a run into one packed file.

    Example: bitfold export runs/adabin_digits_cnn_digits -o digits.bitfold
    """
    runs = importlib.import_module("bitfold.commands.runs")
    console.print(f"{out}: {runs.export_run(run, runs.integer_stem(input_, stem_bits)).save(out):,} bytes", soft_wrap=True)


@app.command()
def verify(
    run: RunFolder,
    data: DataFolder = None,
    limit: VerifyLimit = None,
    input_: InputType = "float32",
    stem_bits: StemBits = None,
) -> None:
    """Prove that the folded network computes what was trained.

    Example: bitfold verify runs/adabin_digits_cnn_digits
    """
    runs = importlib.import_module("bitfold.commands.runs")
    with _progress("verifying") as progress:
        result = runs.verify_run(run, data, limit, progress=progress, stem_bits=runs.integer_stem(input_, stem_bits))
    console.print(str(result), soft_wrap=True)
    if not result.ok:
        raise typer.Exit(1)


@app.command()
def run(
    file: Annotated[Path, typer.Argument(metavar="M.BITFOLD", help="A file that bitfold export wrote.")],
    input_: Annotated[Path, typer.Argument(metavar="INPUT", help="An image, or a .npy array with or without a batch axis.")],
    threads: Threads = 1,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write the outputs to this .npy file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a folded network; needs no PyTorch.

    Example: bitfold run digits.bitfold five.png
    """
    infer = importlib.import_module("bitfold.commands.infer")
    outputs, rows = infer.run_file(file, input_, threads)
    if out is not None:
        infer.write_npy(out, outputs)
    _print_rows(rows, as_json)


@app.command()
def summary(
    what: Annotated[str, typer.Argument(metavar="X", help="A run, a .bitfold file or the name of a model.")],
    image: Annotated[str, typer.Option(help="Shape of one input, for a model's name.")] = "3,32,32",
    liveness: Annotated[bool, typer.Option("--liveness", help="Also: which activations are alive at each step of the engine.")] = False,
) -> None:
    """Bits, parameters, operations and bytes, layer by layer; of a file also the engine's memory for activations.

    Example: bitfold summary resnet20
    """
    runs = importlib.import_module("bitfold.commands.runs")
    console.print(runs.summarize(what, image, liveness), soft_wrap=True, markup=False)


@app.command()
def report(
    run: RunFolder,
    out: Annotated[Path, typer.Option("-o", "--out", help="The HTML file to write.")] = Path("report.html"),
    twin: Annotated[Path | None, typer.Option("--float", metavar="RUN", help="Run of the float twin, for its curve and accuracy.")] = None,
    data: DataFolder = None,
    threads: BenchThreads = 1,
) -> None:
    """One page about a run: curves, confusion, layers, proof, speed.

    Example: bitfold report runs/try -o report.html
    """
    study = importlib.import_module("bitfold.commands.study")
    study.write_report(run, twin, out, data, threads, lambda words: console.print(f"- {words}", soft_wrap=True))
    console.print(f"{out} written", soft_wrap=True)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for model.bitfold, result.json and report.html.")] = Path("demo-out"),
    seed: Annotated[int, typer.Option(help="Seed of both trainings.", min=0)] = 0,
    threads: BenchThreads = 1,
) -> None:
    """Train digits in one bit, fold, verify, run, compare.

    Example: bitfold demo --out demo-out
    """
    importlib.import_module("bitfold.demo").demo(out, seed, threads, console)


@app.command()
def reproduce(
    study: Annotated[str | None, typer.Argument(help="A study file, or the name of a shipped one (bitfold list studies).")] = None,
    rows: Annotated[str | None, typer.Option("--rows", "--methods", help="Names of rows with commas; default: all.")] = None,
    protocol: Annotated[str, typer.Option(help="A protocol of the study, or full.")] = "full",
    epochs: Annotated[int | None, typer.Option(help="Epochs of every row; default: the protocol's.", min=1)] = None,
    seeds: Annotated[int, typer.Option(help="So many seeds of every row.", metavar="K", min=1)] = 1,
    first_seed: Annotated[int, typer.Option(help="The first of them, for rows that join others with --from.", min=0)] = 0,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value in every row.")] = None,
    parallel: Annotated[int, typer.Option(help="Runs side by side.", min=1)] = 1,
    threads: Annotated[int, typer.Option(help="CPU threads of each.", min=1)] = 1,
    accelerator: Accelerator = "auto",
    data: DataFolder = None,
    eval_every: EvalEvery = 1,
    verify_images: Annotated[int, typer.Option(help="Test images whose codes are compared; accuracy is of all.", min=1)] = 1000,
    out: Annotated[Path | None, typer.Option(help="Folder of the runs; default: runs/STUDY[-PROTOCOL].")] = None,
    from_: Annotated[list[Path] | None, typer.Option("--from", metavar="FILE", help="Only draw the table of these kept rows.")] = None,
    list_rows: Annotated[bool, typer.Option("--list", help="Only list the runs and how far they are; without STUDY, all studies.")] = False,
) -> None:
    """Run a study and draw its table; go on where it stopped.

    Example: bitfold reproduce cifar10-resnet20 --protocol short --rows bireal,adabin --parallel 2
    """
    if study is None:
        if not list_rows:
            raise ConfigError("reproduce: which study? `bitfold reproduce --list` shows them")
        _print_rows(importlib.import_module("bitfold.commands.listing").studies(), False)
        return
    commands, jobs = importlib.import_module("bitfold.commands.reproduce"), importlib.import_module("bitfold.commands.jobs")
    chosen = importlib.import_module("bitfold.commands.benches").names(rows)
    loaded = importlib.import_module("bitfold.training.study").load_study(study)
    request = commands.Request(loaded, protocol, chosen, epochs, seeds, first_seed, tuple(set_ or ()), out)
    if list_rows:
        _print_rows(commands.listing(request), False)
    elif from_:
        commands.redraw(request, from_, console)
    elif not commands.reproduce(request, jobs.Setting(data, accelerator, parallel, threads, verify_images, eval_every), console):
        raise typer.Exit(1)


@bench.command("models")
def bench_models(
    models: Annotated[str | None, typer.Option(help="Names with commas; default: resnet18_imagenet,vgg_small,resnet20.")] = None,
    peers: Annotated[str | None, typer.Option(help="Names with commas; default: all that are installed.")] = None,
    method: Annotated[str, typer.Option(help="Method of the low-bit network.")] = "bireal",
    threads: BenchThreads = 1,
    batch: BatchSize = 1,
    keep: KeepRows = None,
) -> None:
    """Whole networks against other engines on their float twins.

    Example: bitfold bench models --models resnet20 --json rows.jsonl
    """
    benches, module = importlib.import_module("bitfold.commands.benches"), importlib.import_module("bitfold.bench.models")
    chosen = benches.names(models) or module.DEFAULT
    options = {"names": chosen, "peer_names": benches.names(peers), "method": method, "threads": threads, "batch": batch}
    benches.run(module.run, console, keep, "pytorch", **options)


@bench.command("kernels")
def bench_kernels(
    shapes: Annotated[str | None, typer.Option(help="Layers, with commas; default all. A wrong name lists them.")] = None,
    peers: Annotated[str | None, typer.Option(help="Other engines, with commas; default all; none for bitfold alone.")] = None,
    threads: BenchThreads = 1,
    batch: Annotated[int | None, typer.Option(help="Images or rows at once; default: what each layer says.", min=1)] = None,
    keep: KeepRows = None,
    out: Annotated[Path | None, typer.Option(help="Folder for kernels.md and kernels.html, with the roofline.")] = None,
    from_: Annotated[Path | None, typer.Option("--from", metavar="FILE", help="Draw these kept rows; measure nothing.")] = None,
) -> None:
    """Single layers against other engines, and against what the core can do at best.

    Example: bitfold bench kernels --peers openvino_binary,onnxruntime_int8 --out bench --json rows.jsonl
    """
    benches, module = importlib.import_module("bitfold.commands.benches"), importlib.import_module("bitfold.bench.kernels")
    chosen = [] if peers == "none" else benches.names(peers)
    wanted = benches.names(shapes, [shape.name for shape in module.SHAPES])
    options = {"names": wanted, "peer_names": chosen, "threads": threads, "batch": batch}
    made = benches.run(module.run, console, keep, "bitfold", **options) if from_ is None else benches.kept(from_, console)
    if out is not None:
        benches.write_kernels(made, out)
        console.print(f"{out}: kernels.md and kernels.html written", soft_wrap=True)


@bench.command("training")
def bench_training(
    model: Annotated[str, typer.Option(help="The model.")] = "resnet20",
    chosen: Annotated[str, typer.Option("--methods", help="The methods to compare with float, with commas, or all.")] = "adabin",
    modes: Annotated[str, typer.Option(help="eager, compile, or both with a comma.")] = "eager,compile",
    repeats: Annotated[int, typer.Option(min=5, help="Rounds of one step each.")] = 15,
    threads: BenchThreads = 1,
    batch: BatchSize = 128,
    keep: KeepRows = None,
) -> None:
    """Step time of low-bit training against float training on the CPU.

    Example: bitfold bench training --methods adabin,ir_net --modes eager
    """
    benches = importlib.import_module("bitfold.commands.benches")
    options = {"model": model, "chosen": benches.names(chosen), "modes": benches.names(modes), "threads": threads, "batch": batch}
    benches.run(importlib.import_module("bitfold.bench.training").run, console, keep, None, **options, repeats=repeats)


@bench.command("run")
def bench_run(run: RunFolder, data: DataFolder = None, limit: VerifyLimit = None, keep: KeepRows = None) -> None:
    """A finished run: both accuracies, proof, size, latency.

    Example: bitfold bench run runs/try --json rows.jsonl
    """
    benches = importlib.import_module("bitfold.commands.benches")
    benches.run(importlib.import_module("bitfold.commands.measure").measure, console, keep, None, path=run, data=data, limit=limit)


@contextmanager
def _progress(words: str) -> Iterator[Callable[[int, int], None]]:
    """Gives a function of (done, all) that draws a bar with the time left, on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(words, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    """A table, or JSON of the same values."""
    if as_json:
        console.print_json(json.dumps(rows))
        return
    table = Table(*(Column(name, overflow="fold") for name in (rows[0] if rows else ())), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(f"{v:.4f}" if isinstance(v, float) else str(v) for v in row.values()))
    console.print(table)


def _in_words(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed; pip install 'bitfold[train]'"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def main() -> None:
    """The entry point: errors of bitfold are one line, exit code 2 for a wrong argument, else 1. BITFOLD_TRACEBACK=1 shows where."""
    try:
        app()
    except (BitfoldError, ModuleNotFoundError, OSError) as e:
        if os.environ.get("BITFOLD_TRACEBACK") == "1" or (isinstance(e, ModuleNotFoundError) and (e.name or "").startswith("bitfold")):
            raise
        print(f"bitfold: {_in_words(e)}", file=sys.stderr)
        raise SystemExit(2 if isinstance(e, ConfigError) else 1) from None


if __name__ == "__main__":
    main()
