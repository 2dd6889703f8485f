"""The code of the guides runs as written."""

import re
from pathlib import Path

import pytest
import torch

GUIDES = Path(__file__).parents[2] / "docs" / "guide"


@pytest.mark.native
def test_the_guides_of_export_and_deploy_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    for guide in ("export.md", "deploy.md"):  # deploy reads the file that export writes
        text = (GUIDES / guide).read_text(encoding="utf-8")
        blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
        assert blocks
        names: dict[str, object] = {}
        for block in blocks:
            exec(compile(block, guide, "exec"), names)
    assert "accumulators differ" in capsys.readouterr().out
