"""The command line: help, lists, errors, and one small network through every command."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.training.recipes import TEXT

from bitfold import cli


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of ``bitfold *argv`` in this process."""
    monkeypatch.setattr(sys, "argv", ["bitfold", *argv])
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(cli, "console", cli.Console(highlight=False, width=200))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


@pytest.fixture
def bitfold(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    return lambda *argv: call(monkeypatch, capsys, *argv)


def test_help_names_every_command_and_shows_examples(bitfold: Any) -> None:
    code, out, _ = bitfold("--help")
    assert code == 0
    for name in ("list", "train", "eval", "export", "verify", "run", "summary", "reproduce"):
        assert f"  {name} " in out
        code, text, _ = bitfold(name, "--help")
        assert code == 0 and f"Example: bitfold {name} " in " ".join(text.split()), name


def test_help_starts_without_pytorch() -> None:
    check = "import sys; from bitfold import cli; sys.exit([m for m in ('torch', 'numpy', 'lightning_fabric') if m in sys.modules] != [])"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_without_typer_the_extra_is_named() -> None:
    check = "import sys; sys.modules['typer'] = None\nfrom bitfold.cli import main"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "pip install 'bitfold[train]'" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("kind", "name"), [("methods", "adabin"), ("models", "resnet20"), ("recipes", "adabin_resnet20_cifar10"), ("kernels", None)]
)
def test_lists(bitfold: Any, kind: str, name: str | None) -> None:
    code, out, _ = bitfold("list", kind, "--json")
    rows = json.loads(out)
    assert code == 0 and rows
    assert name is None or name in [r["name"] for r in rows]
    code, out, _ = bitfold("list", kind)
    assert code == 0 and (name or "scalar") in out


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("methods", "adabin", ("center_mode", "Literal['code', 'paper']", "arXiv 2208.08084")),
        ("models", "resnet20", ("'subsample_pad', 'avgpool_pad'", "in_channels")),
        ("recipes", "adabin_resnet20_cifar10", ("[[stage]]", 'method = "adabin"')),
        ("studies", "cifar10-resnet20", ("short: For CPUs", "rep_recu")),
    ],
)
def test_one_thing_in_full(bitfold: Any, monkeypatch: pytest.MonkeyPatch, kind: str, name: str, words: tuple[str, ...]) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = bitfold("list", kind, name)
    assert code == 0 and [w for w in words if w not in out] == []
    code, out, _ = bitfold("list", kind, name, "--json")
    assert code == 0 and set(json.loads(out)) == {"text", "rows"}
    code, _, err = bitfold("list", kind, name[:-1])
    assert code == 2 and name in err
    code, _, err = bitfold("list", "kernels", "x")
    assert code == 2 and "allowed with a name: methods" in err


def test_errors_are_one_line(bitfold: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, _, err = bitfold("train", "adabin_digit_cnn_digits")
    assert code == 2 and err.startswith("bitfold: unknown recipe") and err.count("\n") == 1
    code, _, err = bitfold("list", "modles")
    assert code == 2 and "did you mean 'models'" in err
    monkeypatch.delenv("BITFOLD_DATA", raising=False)
    code, _, err = bitfold("train", "adabin_resnet20_cifar10", "--out", str(tmp_path / "r"))
    assert code == 1 and "BITFOLD_DATA" in err and not (tmp_path / "r" / "model.safetensors").exists()
    code, _, err = bitfold("eval", str(tmp_path))
    assert code == 2 and "not a run" in err
    code, _, err = bitfold("run", "none.bitfold", "x.npy")
    assert code == 1 and err == "bitfold: none.bitfold: No such file or directory\n"
    monkeypatch.setenv("BITFOLD_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["bitfold", "eval", str(tmp_path)])
    with pytest.raises(cli.ConfigError):
        cli.main()


@pytest.mark.native
def test_a_network_through_every_command(bitfold: Any, tmp_path: Path) -> None:
    from PIL import Image

    recipe, run, file = tmp_path / "r.toml", str(tmp_path / "run"), str(tmp_path / "m.bitfold")
    recipe.write_text(TEXT)
    code, out, err = bitfold("train", str(recipe), "--set", "stage.epochs=1", "--out", run)
    assert code == 0 and "test accuracy" in out and "epoch   1" in err
    code, out, _ = bitfold("eval", run, "--json")
    assert code == 0 and json.loads(out)[0]["count"] == 100
    code, out, _ = bitfold("export", run, "-o", file)
    assert code == 0 and f"{Path(file).stat().st_size:,} bytes" in out
    code, out, _ = bitfold("verify", run, "--limit", "20")
    assert code == 0 and " accumulators differ" in out and "ok" in out.split()
    np.save(tmp_path / "x.npy", np.zeros((2, 1, 8, 8), np.float32))
    code, out, _ = bitfold("run", file, str(tmp_path / "x.npy"), "-o", str(tmp_path / "y.npy"), "--json")
    assert code == 0 and len(json.loads(out)) == 10 and np.load(tmp_path / "y.npy").shape == (2, 10)
    Image.fromarray(np.zeros((30, 20), np.uint8)).save(tmp_path / "x.png")
    assert bitfold("run", file, str(tmp_path / "x.png"))[0] == 0
    code, out, _ = bitfold("eval", run, "--file", file, "--json")
    assert code == 0 and json.loads(out)[0]["count"] == 100
    for bits in ("16", "8"):
        assert bitfold("export", run, "-o", file, "--input", "uint8", "--stem-bits", bits)[0] == 0
        code, out, _ = bitfold("verify", run, "--limit", "20", "--input", "uint8", "--stem-bits", bits)
        assert code == 0 and f"replaced by {bits}-bit integers" in out and "against the float stem" in out and "ok" in out.split()
        code, out, _ = bitfold("eval", run, "--file", file, "--json")
        assert code == 0 and json.loads(out)[0]["count"] == 100
        assert bitfold("run", file, str(tmp_path / "x.png"))[0] == 0
    code, _, err = bitfold("export", run, "-o", file, "--stem-bits", "8")
    assert code == 2 and "belongs to --input uint8" in err
    code, _, err = bitfold("run", file, str(recipe))
    assert code == 2 and "neither a .npy array nor an image" in err
    for what in (run, file, "digits_cnn"):
        code, out, _ = bitfold("summary", what, "--image", "1,8,8")
        assert code == 0 and "BOPs" in out and ("activations: arena" in out) == (what == file)
    for what in (run, file):
        code, out, _ = bitfold("summary", what, "--liveness")
        assert code == 0 and "bytes alive" in out and "activations: arena" in out
    code, _, err = bitfold("summary", "digits_cnn", "--image", "1,8,8", "--liveness")
    assert code == 2 and "expected a run or a .bitfold file" in err
