"""``bitfold reproduce``: scheduling with a stand-in for the training process, and one tiny study for real."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.report.studies import run as measured
from tests.test_cli import call
from tests.training.studies import TEXT, table, tiny

from bitfold.bench import rows
from bitfold.commands.jobs import MEASURED, ROW, Job, Setting, result, run
from bitfold.commands.reproduce import Request, collect, listing, redraw, reproduce
from bitfold.commands.watch import Watch, progress
from bitfold.errors import ConfigError
from bitfold.training.run import METRICS, WEIGHTS
from bitfold.training.study import Study, parse

CONSOLE = Console(quiet=True)


class Stand(Setting):
    """Starts a small program in place of a training: ``program`` runs with the run's folder as ``folder``."""

    def __init__(self, program: str = "", accuracy: float = 70.0, parallel: int = 2) -> None:
        super().__init__(None, "cpu", parallel, 1, 10)
        object.__setattr__(self, "program", program)
        object.__setattr__(self, "accuracy", accuracy)

    def command(self, folder: Path) -> list[str]:
        seed = int(folder.name[-1])
        row = rows.lines([measured(folder.name, seed, self.accuracy + seed)])  # type: ignore[attr-defined]
        write = f"(folder / {MEASURED!r}).write_text({row!r}); (folder / {WEIGHTS!r}).touch()"
        program = f"import sys, time, pathlib; folder = pathlib.Path(sys.argv[1])\n{self.program}\n{write}"  # type: ignore[attr-defined]
        return [sys.executable, "-S", "-c", program, str(folder)]


def request(folder: Path, study: Study | None = None, **options: Any) -> Request:
    return Request(study if study is not None else tiny(), out=folder, **options)


def states(jobs: Sequence[Job]) -> dict[str, str]:
    return {job.name: job.state for job in jobs}


def done(jobs: Sequence[Job], setting: Setting) -> list[Job]:
    """The jobs in the order in which they ended."""
    ended: list[Job] = []
    run(jobs, setting, lambda job: ended.append(job) if job.state != "running" else None, lambda: None)
    return ended


def test_teachers_come_first_and_once(tmp_path: Path) -> None:
    names = [job.name for job in request(tmp_path, rows=["taught"], seeds=2).jobs()]
    assert names == ["float-seed0", "taught-seed0", "taught-seed1"]
    assert [job.name for job in request(tmp_path).jobs()] == ["float-seed0", "bireal-seed0", "taught-seed0"]
    later = [job.name for job in request(tmp_path, rows=["taught"], seeds=2, first_seed=3).jobs()]
    assert later == ["float-seed0", "taught-seed3", "taught-seed4"]
    ended = done(request(tmp_path, rows=["taught"], seeds=2).jobs(), Stand(parallel=3))
    assert ended[0].name == "float-seed0" and {job.state for job in ended} == {"done"}


def test_finished_runs_are_kept_and_others_go_on(tmp_path: Path) -> None:
    first = request(tmp_path, rows=["bireal"]).jobs()
    done(first, Stand("(folder / 'runs').write_text('first')"))
    jobs = request(tmp_path, rows=["bireal"], seeds=2).jobs()
    assert states(jobs) == {"bireal-seed0": "done", "bireal-seed1": "waiting"}
    assert [job.name for job in done(jobs, Stand("(folder / 'runs').write_text('second')"))] == ["bireal-seed1"]
    assert (tmp_path / "bireal-seed0" / "runs").read_text() == "first"


def test_a_failure_is_a_row_stops_nothing_and_is_tried_again(tmp_path: Path) -> None:
    broken = Stand("if 'bireal' in folder.name: print('working'); sys.exit('bitfold: the loss is not finite')")
    ended = done(request(tmp_path).jobs(), broken)
    assert states(ended) == {"bireal-seed0": "failed", "float-seed0": "done", "taught-seed0": "done"}
    row = result(tmp_path / "bireal-seed0")
    assert row is not None and row.reason == "the loss is not finite" and row.details["study"]["seed"] == 0
    again = request(tmp_path).jobs()
    assert states(again)["bireal-seed0"] == "waiting" and [job.name for job in done(again, Stand())] == ["bireal-seed0"]


def test_a_failed_teacher_fails_its_followers(tmp_path: Path) -> None:
    broken = Stand("if 'float' in folder.name: sys.exit('no memory')")
    ended = {job.name: job for job in done(request(tmp_path).jobs(), broken)}
    assert ended["taught-seed0"].reason == "its teacher float-seed0 failed: no memory" and ended["bireal-seed0"].state == "done"


def test_a_killed_process_is_reported(tmp_path: Path) -> None:
    (job,) = done(request(tmp_path, rows=["bireal"]).jobs(), Stand("import os; os.kill(os.getpid(), 9)"))
    assert job.state == "failed" and job.reason == "killed by signal 9"


def test_refused_changes_are_a_failed_row(tmp_path: Path) -> None:
    study = parse(table('set = ["stage.method=bireal"]', 'set = ["stage.metod=bireal"]'), "t")
    (job,) = request(tmp_path, study, rows=["bireal"]).jobs()
    assert job.state == "failed" and "unknown key 'stage.0.metod'" in job.reason
    (row,) = collect(request(tmp_path, study))
    assert row.contestant == "bireal" and row.reason == job.reason


def test_a_folder_of_another_recipe_is_not_touched(tmp_path: Path) -> None:
    done(request(tmp_path, rows=["bireal"]).jobs(), Stand())
    before = {file.name: file.read_bytes() for file in (tmp_path / "bireal-seed0").iterdir()}
    (job,) = request(tmp_path, rows=["bireal"], changes=("stage.lr=0.5",)).jobs()
    assert job.state == "failed" and "holds a run of another recipe" in job.reason
    assert {file.name: file.read_bytes() for file in (tmp_path / "bireal-seed0").iterdir()} == before


def test_two_commands_do_not_train_the_same_run(tmp_path: Path) -> None:
    (first,), (second,) = (request(tmp_path, rows=["bireal"]).jobs() for _ in range(2))
    setting = Stand("time.sleep(60)")
    first.start(setting)
    try:
        second.start(setting)
        assert second.state == "failed" and second.reason == "another process is at work on this run"
        assert result(tmp_path / "bireal-seed0") is None  # the other process will write it
    finally:
        first.stop()


def test_an_orphaned_process_keeps_its_run(tmp_path: Path) -> None:
    """The lock belongs to the process that trains, so it outlives a parent that was killed."""
    (first,), (second,) = (request(tmp_path, rows=["bireal"]).jobs() for _ in range(2))
    first.start(Stand("time.sleep(60)"))
    process, first._process = first._process, None
    assert process is not None
    first._close()  # as the parent's death would
    try:
        second.start(Stand())
        assert second.reason == "another process is at work on this run"
    finally:
        process.kill()
        process.wait()


def test_interrupting_ends_the_processes(tmp_path: Path) -> None:
    jobs = request(tmp_path, rows=["bireal"], seeds=2).jobs()
    started: list[subprocess.Popen[bytes]] = []

    def interrupt() -> None:
        started.extend(job._process for job in jobs if job._process is not None)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(jobs, Stand("time.sleep(60)"), lambda job: None, interrupt)
    assert len(started) == 2 and all(process.poll() is not None for process in started)


def test_tables_follow_the_folders(tmp_path: Path) -> None:
    assert reproduce(request(tmp_path, rows=["bireal"], seeds=2), Stand(accuracy=70.0), CONSOLE)
    assert reproduce(request(tmp_path, rows=["taught"]), Stand(accuracy=75.0), CONSOLE)
    kept = rows.read(tmp_path / "results.jsonl")
    assert [(row.contestant, row.details["study"]["seed"]) for row in kept] == [("bireal", 0), ("bireal", 1), ("taught", 0), ("float", 0)]
    assert kept[2].details["study"]["published"] == {"accuracy": 90.5, "source": "an example", "difference": "more epochs"}
    text = (tmp_path / "table.md").read_text()
    assert "| bireal | 70.50 ± 0.71 | baseline |" in text and "| taught | 75.00 | +5.00 | 90.5 (an example) | more epochs |" in text
    redraw(request(tmp_path / "again"), [tmp_path / "results.jsonl"], CONSOLE)
    for name in ("results.jsonl", "table.md", "table.html"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()
    reproduce(request(tmp_path / "long", protocol="long", epochs=3, rows=["bireal"]), Stand(), CONSOLE)
    redraw(request(tmp_path / "again"), [tmp_path / "long" / "results.jsonl"], CONSOLE)  # as its rows were made
    assert (tmp_path / "again" / "table.md").read_bytes() == (tmp_path / "long" / "table.md").read_bytes()


def test_a_folder_of_another_protocol_is_refused_before_anything_runs(tmp_path: Path) -> None:
    reproduce(request(tmp_path, rows=["bireal"]), Stand(), CONSOLE)
    with pytest.raises(ConfigError, match=r"row bireal, seed 0, is of protocol full with changes \[\]; asked for was long, 3 epochs with"):
        reproduce(request(tmp_path, protocol="long", epochs=3), Stand(), CONSOLE)


def test_protocols_have_folders_of_their_own() -> None:
    folders = [Request(tiny(), **o).folder for o in ({}, {"protocol": "long"}, {"epochs": 3}, {"protocol": "long", "epochs": 3})]
    assert [str(folder) for folder in folders] == ["runs/tiny", "runs/tiny-long", "runs/tiny-3ep", "runs/tiny-long-3ep"]


def test_progress_is_read_from_the_metrics(tmp_path: Path) -> None:
    (job,) = request(tmp_path, rows=["bireal"], epochs=8).jobs()
    assert asdict(progress(job)) == {"done": 0, "total": 8, "accuracy": None, "left_s": None}
    job.folder.mkdir()
    lines = [json.dumps({"epoch": i, "test_accuracy": 50.0 + i, "seconds": 10.0}) + "\n" for i in (1, 2)]
    (job.folder / METRICS).write_text("".join(lines) + '{"epoch": 3, "test_')  # half a line, being written
    assert asdict(progress(job)) == {"done": 2, "total": 8, "accuracy": 52.0, "left_s": 60.0}


@pytest.mark.parametrize("terminal", [False, True])
def test_watching_tells_of_every_run(terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitfold.commands.watch.EVERY_S", 0.0)
    monkeypatch.setattr("bitfold.commands.watch.LOOK_S", 0.0)
    printed = io.StringIO()
    console = Console(width=200, file=printed, force_terminal=terminal, color_system=None)
    jobs = request(tmp_path).jobs()
    watch = Watch(console, jobs, 1)
    setting = Stand("time.sleep(0.4)\nif 'bireal' in folder.name: sys.exit('why')", parallel=1)
    with watch:
        run(jobs, setting, watch.changed, watch.shown)
    text = printed.getvalue()
    assert "float-seed0: 70.00 %, trained in 0:00:09" in text and re.search(r"float-seed0:? +training", text)
    assert "bireal-seed0: failed: why" in text and "1 of 3 runs done, 1 failed, 0 waiting" in text


def test_listing_shows_how_far_the_runs_are(tmp_path: Path) -> None:
    done(request(tmp_path, rows=["bireal"]).jobs(), Stand())
    shown = listing(request(tmp_path))
    assert [(row["row"], row["state"]) for row in shown] == [("float", "waiting"), ("bireal", "done"), ("taught", "waiting")]


@pytest.mark.native
@pytest.mark.parametrize(("name", "runs"), [("bireal", 1), pytest.param("taught", 2, marks=pytest.mark.train)])
def test_a_tiny_study(name: str, runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Trained (after its teacher, if it has one), verified and timed; then once more without any work."""
    file, out = tmp_path / "tiny.toml", tmp_path / "out"
    file.write_text(TEXT)
    options = ("--verify-images", "20", "--accelerator", "cpu", "--eval-every", "3")
    command = ("reproduce", str(file), "--rows", name, "--out", str(out), *options)
    code, printed, _ = call(monkeypatch, capsys, *command)
    assert code == 0, printed
    assert f"{runs} runs in" in printed and "table.html written" in printed
    row, *teachers = rows.read(out / "results.jsonl")
    assert (row.contestant, row.bench, row.subject, len(teachers)) == (name, "study", "tiny", runs - 1)
    found = row.details
    assert row.reason is None and row.timing is not None and found["verify"]["accumulators_differ"] == 0
    assert "--eval-every 3" in found["trained"]["command"]
    assert (found["test_images"], found["verify"]["images"], len(found["epochs"])) == (60, 20, 1)
    assert found["recipe"].get("teacher", {}).get("run") == (str(out / "float-seed0") if teachers else None)
    assert found["epoch_seconds"] > 0 and found["file_bytes"] > 0 and found["recipe_hash"] == found["trained"]["recipe_hash"]
    assert abs(found["accuracy"] - found["epochs"][-1]["test_accuracy"]) < 100 / 60 + 1e-6  # one image of 60 may flip
    written = (out / f"{name}-seed0" / ROW).stat().st_mtime_ns
    code, printed, _ = call(monkeypatch, capsys, *command)
    assert code == 0 and f"{runs} of them done" in printed and (out / f"{name}-seed0" / ROW).stat().st_mtime_ns == written


def test_command_line_errors(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(monkeypatch, capsys, "reproduce")
    assert code == 2 and "which study? `bitfold reproduce --list`" in err
    code, _, err = call(monkeypatch, capsys, "reproduce", "cifar10-resnet20", "--methods", "birael")
    assert code == 2 and "did you mean 'bireal'" in err
    code, out, _ = call(monkeypatch, capsys, "reproduce", "--list")
    assert code == 0 and "cifar10-resnet20" in out
