"""Step time of a binarised network against its float twin: forward, loss, backward, optimiser step, method hooks."""

import statistics
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

import bitfold
from bitfold import methods, models
from bitfold.bench import rows
from bitfold.bench.peers.pytorch import threads as torch_threads
from bitfold.bench.rows import Row
from bitfold.bench.timing import compare
from bitfold.errors import ConfigError, unknown
from bitfold.layers.layout import keep_channels_last, memory_format
from bitfold.methods._taps import Taps
from bitfold.methods.base import Features, Forward

MODES = ("eager", "compile")


def run(
    model: str = "resnet20",
    chosen: Sequence[str] = ("adabin",),
    modes: Sequence[str] = MODES,
    batch: int = 128,
    threads: int = 1,
    image: tuple[int, int, int] = (3, 32, 32),
    repeats: int = 15,
    say: Callable[[str], None] = lambda words: None,
) -> list[Row]:
    """Rows "float eager", "adabin eager", "float compile", "adabin compile", ... on the CPU: each method beside its own float twin.

    ``chosen``: methods, or "all" alone for every one but float. Method and twin are timed interleaved, so that a machine that slows down
    slows both. A method's row carries ``times_float``, its median over the twin's; a method that cannot train this model keeps its row,
    with the reason.
    """
    for mode in modes:
        if mode not in MODES:
            raise unknown("mode", mode, MODES)
    names = [name for name in methods.names() if name != "float"] if list(chosen) == ["all"] else list(chosen)
    for name in names:
        methods.describe(name)  # an unknown name shows before the first measurement
    made: list[Row] = []
    for name in names:
        for mode in modes:
            with torch_threads(threads):
                made += _pair(model, name, mode, batch, threads, image, repeats, say)
    for mode in modes:
        ratios = [row.details["times_float"] for row in made if row.contestant.endswith(f" {mode}") and "times_float" in row.details]
        if len(ratios) > 1:
            say(f"{model}, {mode}: {len(ratios)} methods, median {statistics.median(ratios):.2f} times the float twin")
    return made


def _pair(
    model: str, name: str, mode: str, batch: int, threads: int, image: tuple[int, int, int], repeats: int, say: Callable[[str], None]
) -> list[Row]:
    """The rows of a method and of its float twin."""
    torch.compiler.reset()  # compiled code is kept per source line, and only a few versions of it
    steps: dict[str, Callable[[], None]] = {}
    reason: str | None = None
    try:
        for contestant in ("float", name):
            say(f"{model}: preparing {contestant}, {mode}")
            steps[contestant] = _step(model, contestant, mode, batch, image)
            steps[contestant]()  # compiles
        say(f"{model}: timing {name} beside float, {mode}, batch {batch}, {threads} threads")
        times = compare(steps, repeats=repeats, warmup=1, min_time=0.01, max_time=300.0)
    except ConfigError as error:
        reason, times = str(error), {}
    made = []
    for contestant in ("float", name):
        timing = times.get(contestant)
        twin = times.get("float")
        ratio = {"times_float": timing.median_us / twin.median_us} if timing and twin and contestant != "float" else {}
        row = Row(
            bench="training",
            subject=model,
            contestant=f"{contestant} {mode}",
            threads=threads,
            batch=batch,
            timing=timing,
            reason=reason,
            details={"beside": name, **ratio} if contestant == "float" else ratio,
            **rows.stamp(),
        )
        made.append(row)
    return made if reason is None else made[1:]


def _step(model_name: str, method_name: str, mode: str, batch: int, image: tuple[int, int, int]) -> Callable[[], None]:
    """One training step as the recipes' loop does it, on a batch of random pictures; with the forward of a teacher where it needs one."""
    torch.manual_seed(0)
    method = methods.get(method_name)
    model: nn.Module = bitfold.apply(models.create(model_name, num_classes=10), method).train()
    layout = memory_format("cpu", compiled=mode == "compile")
    model = model.to(memory_format=layout)  # type: ignore[call-overload]
    if mode == "eager":
        keep_channels_last(model)
    optimizer = torch.optim.SGD(method.param_groups(model, weight_decay=1e-4), lr=1e-3, momentum=0.9)
    x, labels = torch.randn(batch, *image).contiguous(memory_format=layout), torch.randint(0, 10, (batch,))
    teacher = models.create(model_name, num_classes=10).eval() if method.needs_teacher else None
    paths = method.taps(model)
    taps, teacher_taps = Taps(model, paths, method_name), Taps(teacher, paths, "teacher") if teacher is not None else None
    forward = torch.compile(model) if mode == "compile" else model

    def step() -> None:
        method.before_step(model, progress=0.5)
        outputs = forward(x)
        with torch.no_grad():
            target = teacher(x) if teacher is not None else None
        features = Features(taps.values, teacher_taps.values if teacher_taps is not None else {})
        loss = method.loss(model, Forward((x, labels), outputs, target, F.cross_entropy(outputs, labels), features))
        optimizer.zero_grad()
        loss.backward()
        method.after_backward(model, progress=0.5)
        optimizer.step()
        method.after_step(model, progress=0.5)

    return step
