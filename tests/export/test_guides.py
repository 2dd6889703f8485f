"""The code of the guides runs as written."""

import re
from pathlib import Path

import pytest
import torch

GUIDES = Path(__file__).parents[2] / "docs" / "guide"


def run_guide(name: str) -> str:
    """Runs the Python blocks of a guide one after another; returns its text."""
    text = (GUIDES / name).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, name, "exec"), names)
    return text


@pytest.mark.native
def test_the_guides_of_export_and_deploy_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    for guide in ("export.md", "deploy.md"):  # deploy reads the file that export writes
        run_guide(guide)
    assert "accumulators differ" in capsys.readouterr().out


@pytest.mark.native
def test_the_guide_to_networks_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    """What it says that export answers is what export answers."""
    text = run_guide("convert.md")
    printed = capsys.readouterr().out
    assert "  0 of" in printed and "\n  ok\n" in printed
    (refusals,) = re.findall(r"```text\n(.*?)```", text, flags=re.DOTALL)
    assert refusals.count("export: ") == 3 and printed.endswith(refusals)
