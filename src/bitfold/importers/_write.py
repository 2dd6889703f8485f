"""A published checkpoint as the folder of a run."""

from pathlib import Path

from bitfold.data import Loader
from bitfold.errors import ConfigError
from bitfold.importers import get
from bitfold.importers._read import read
from bitfold.importers.base import convert
from bitfold.training.checkpoint import replace_atomic
from bitfold.training.loaders import data_facts
from bitfold.training.run import FACTS, RECIPE, WEIGHTS, Run, build_model, gather_facts, now, write_json, write_weights

UNKNOWN = ("seed", "started", "machine")  # of gather_facts, because another code trained the network
WITHOUT_IMAGES = ("input_shape", "class_names", "max_value", "mean", "std")  # of data_facts


def import_run(format_name: str, file: str | Path, out: str | Path | None = None) -> Run:
    """Writes recipe.toml, run.json and model.safetensors to ``out`` (default ``runs/<name of the recipe>``) and returns the run.

    Raises ConfigError for an unknown format or a folder that holds a run already, FormatError for a file that is not of the format.
    """
    published = get(format_name)
    recipe, file = published.load_recipe(), Path(file)
    folder = Path(out) if out is not None else Path("runs") / recipe.name
    if folder.suffix == ".bitfold":
        raise ConfigError(f"{folder}: import writes the folder of a run; then `bitfold export RUN -o {folder.name}` makes the file")
    if (folder / RECIPE).is_file():
        raise ConfigError(f"{folder} already holds a run; choose another folder (--out)")
    model = build_model(recipe, len(recipe.stage) - 1)
    checkpoint = read(file, published.key, published.notes)
    model.load_state_dict(convert(published, checkpoint.tensors, model, file.name))
    origin = {
        "format": format_name,
        "summary": published.summary,
        "source": published.source,
        "file": file.name,
        "bytes": checkpoint.size_bytes,
        "sha256": checkpoint.sha256,
        "notes": checkpoint.notes,
        "date": now(),
    }
    facts = {name: value for name, value in gather_facts(recipe).items() if name not in UNKNOWN}
    data = data_facts(Loader(published.data, 1, shuffle=False, drop_last=False, normalize=recipe.data.normalize))
    folder.mkdir(parents=True, exist_ok=True)
    replace_atomic(folder / RECIPE, lambda f: f.write(recipe.toml().encode()))
    write_json(folder / FACTS, {**facts, "data": {name: data[name] for name in WITHOUT_IMAGES}, "imported": origin})
    write_weights(folder / WEIGHTS, model)  # last: its presence means that the run is complete
    return Run.load(folder)
