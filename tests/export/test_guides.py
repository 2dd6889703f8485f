"""The code of the guides runs as written."""

import re
from pathlib import Path

import pytest
import torch

GUIDES = Path(__file__).parents[2] / "docs" / "guide"


def run_guide(name: str) -> None:
    """Runs the Python blocks of a guide one after another."""
    text = (GUIDES / name).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, name, "exec"), names)


@pytest.mark.native
def test_the_guides_of_export_and_deploy_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    for guide in ("export.md", "deploy.md"):  # deploy reads the file that export writes
        run_guide(guide)
    assert "accumulators differ" in capsys.readouterr().out


@pytest.mark.native
def test_the_guide_to_networks_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Both networks go all the way."""
    run_guide("convert.md")
    printed = capsys.readouterr().out
    assert printed.count("  0 of") >= 2 and printed.count("\n  ok\n") == 2
