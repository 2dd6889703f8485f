"""Step time of a binarised network against its float twin: forward, loss, backward, optimiser step, method hooks."""

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
from bitfold.errors import unknown
from bitfold.methods._taps import Taps
from bitfold.methods.base import Features

MODES = ("eager", "compile")


def run(
    model: str = "resnet20",
    method: str = "adabin",
    modes: Sequence[str] = MODES,
    batch: int = 128,
    threads: int = 1,
    image: tuple[int, int, int] = (3, 32, 32),
    repeats: int = 15,
    say: Callable[[str], None] = lambda words: None,
) -> list[Row]:
    """Rows "float eager", "adabin eager", "float compile", "adabin compile" (as ``modes`` ask), all timed interleaved on the CPU.

    The low-bit rows carry ``times_float``: their median over the float twin's in the same mode.
    """
    for mode in modes:
        if mode not in MODES:
            raise unknown("mode", mode, MODES)
    steps: dict[str, Callable[[], None]] = {}
    with torch_threads(threads):
        for mode in modes:
            for name in ("float", method):
                say(f"{model}: preparing {name}, {mode}")
                steps[f"{name} {mode}"] = _step(model, name, mode, batch, image)
                steps[f"{name} {mode}"]()  # compiles
        say(f"{model}: timing {len(steps)} kinds of step, batch {batch}, {threads} threads")
        times = compare(steps, repeats=repeats, warmup=1, min_time=0.01, max_time=300.0)
    stamp = rows.stamp()
    made = []
    for contestant, timing in times.items():
        name, mode = contestant.split()
        details = {} if name == "float" else {"times_float": timing.median_us / times[f"float {mode}"].median_us}
        row = Row(
            bench="training", subject=model, contestant=contestant, threads=threads, batch=batch, timing=timing, details=details, **stamp
        )
        made.append(row)
    return made


def _step(model_name: str, method_name: str, mode: str, batch: int, image: tuple[int, int, int]) -> Callable[[], None]:
    """One training step as the recipes' loop does it, on a batch of random pictures; with the forward of a teacher where it needs one."""
    torch.manual_seed(0)
    method = methods.get(method_name)
    model: nn.Module = bitfold.apply(models.create(model_name, num_classes=10), method).train()
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(method.param_groups(model, weight_decay=1e-4), lr=1e-3, momentum=0.9)
    x, labels = torch.randn(batch, *image).contiguous(memory_format=torch.channels_last), torch.randint(0, 10, (batch,))
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
        loss = method.loss(model, (x, labels), outputs, target, F.cross_entropy(outputs, labels), features)
        optimizer.zero_grad()
        loss.backward()
        method.after_backward(model, progress=0.5)
        optimizer.step()
        method.after_step(model, progress=0.5)

    return step
