"""``bitfold import``: a published checkpoint becomes the folder of a run."""

from pathlib import Path

from bitfold.importers import import_run


def import_file(format_name: str, file: Path, out: Path | None) -> str:
    """What was made, and what to do with it, in words."""
    run = import_run(format_name, file, out)
    origin = run.facts["imported"]
    notes = "".join(f"; the file says {name} = {value:.2f}" for name, value in origin["notes"].items())
    return f"{run.path}: {origin['summary']}{notes}\nnext: bitfold eval {run.path}; bitfold verify {run.path}; bitfold export {run.path}"
