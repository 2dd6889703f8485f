"""Published checkpoints: the mapping of every format on made-up tensors, what is refused, and the run that comes out."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bitfold import importers
from bitfold.errors import ConfigError, FormatError
from bitfold.importers import _read
from bitfold.training.run import Run, build_model

PUBLISHED = {  # names of ours -> names as published
    "adabin": {
        ".act_quant.alpha": ".binary_a.alpha_a",
        ".act_quant.beta": ".binary_a.beta_a",
        "act1.pos": "nonlinear1.pos_scale",
        "act1.neg": "nonlinear1.neg_scale",
        "act2.pos": "nonlinear2.pos_scale",
        "act2.neg": "nonlinear2.neg_scale",
    },
    "resnet20_float": {},
}


def made_up(name: str) -> dict[str, Tensor]:
    """Random tensors under the published names."""
    published = importers.get(name)
    recipe = published.load_recipe()
    torch.manual_seed(7)
    found = {}
    for ours, own in build_model(recipe, len(recipe.stage) - 1).state_dict().items():
        theirs = ours
        for new, old in PUBLISHED[name].items():
            theirs = theirs.replace(new, old)
        if name != "resnet20_float" or own.dtype == torch.float32:
            found[f"module.{theirs}"] = torch.rand(own.shape) + 0.5 if own.dtype == torch.float32 else own + 3
    return found


def save(path: Path, table: Any) -> Path:
    torch.save(table, path)
    return path


@pytest.mark.parametrize("name", importers.names())
@pytest.mark.parametrize("prefix", ["module.", ""])
def test_every_tensor_arrives_under_our_name(name: str, prefix: str, tmp_path: Path) -> None:
    tensors = {prefix + theirs.removeprefix("module."): t for theirs, t in made_up(name).items()}
    file = save(tmp_path / "published.th", {"state_dict": tensors, "best_prec1": torch.tensor(88.0)})
    run = importers.import_run(name, file, tmp_path / "run")
    state = run.model().state_dict()
    for theirs, t in tensors.items():
        assert torch.equal(state[importers.get(name).name(theirs)], t), theirs
    fresh = state.keys() - {importers.get(name).name(theirs) for theirs in tensors}
    assert all(ours.endswith("num_batches_tracked") for ours in fresh)
    origin = run.facts["imported"]
    assert origin["format"] == name and origin["file"] == "published.th" and origin["bytes"] == file.stat().st_size
    assert origin["notes"] == {"best_prec1": 88.0} and len(origin["sha256"]) == 64
    assert run.finished and run.metrics == [] and "started" not in run.facts, "nobody here trained it"
    assert run.facts["data"]["input_shape"] == [3, 32, 32] and run.facts["data"]["mean"] == [0.485, 0.456, 0.406]
    assert Run.load(tmp_path / "run").recipe == importers.get(name).load_recipe()


def test_adabin_maps_slopes_and_sets_to_the_right_places(tmp_path: Path) -> None:
    tensors = made_up("adabin")
    model: Any = importers.import_run("adabin", save(tmp_path / "a.th", {"state_dict": tensors}), tmp_path / "run").model()
    assert model.act1.pos.equal(tensors["module.nonlinear1.pos_scale"]) and model.act1.neg.equal(tensors["module.nonlinear1.neg_scale"])
    block = model.layer2[1]
    assert block.conv2.act_quant.alpha.equal(tensors["module.layer2.1.conv2.binary_a.alpha_a"])
    assert block.conv2.act_quant.beta.equal(tensors["module.layer2.1.conv2.binary_a.beta_a"])
    assert block.conv2.act_quant.center_mode == "code", "to which published weights belong"
    assert block.act2.neg.equal(tensors["module.layer2.1.nonlinear2.neg_scale"])


def without(key: str) -> Any:
    return lambda tensors: {k: v for k, v in tensors.items() if k != key}


CONV, VAR, ALPHA = "module.layer1.0.conv1.weight", "module.bn1.running_var", "module.layer1.0.conv1.binary_a.alpha_a"
WRONG = {
    "missing": (without(CONV), r"1 tensors are missing: layer1\.0\.conv1\.weight"),
    "unknown": (lambda t: {**t, "module.layer9.weight": torch.ones(1)}, "'layer9.weight', which the model does not have"),
    "twice": (lambda t: {**t, CONV.removeprefix("module."): t[CONV]}, "and another tensor would both be 'layer1.0.conv1.weight'"),
    "shape": (lambda t: {**t, CONV: t[CONV][:8]}, r"layer1\.0\.conv1\.weight: got torch\.float32 \(8, 16, 3, 3\).*expected .*16, 16, 3, 3"),
    "huge view": (lambda t: {**t, CONV: torch.ones(1).expand(1 << 40)}, "got torch.float32"),
    "dtype": (lambda t: {**t, CONV: t[CONV].double()}, r"got torch\.float64"),
    "sparse": (lambda t: {**t, CONV: t[CONV].to_sparse()}, "torch.sparse_coo"),
    "nan": (lambda t: {**t, ALPHA: torch.tensor(float("nan"))}, "alpha_a: some values are not finite"),
    "variance": (lambda t: {**t, VAR: -t[VAR]}, "running_var has a negative variance"),
    "no tensor": (lambda t: {**t, CONV: [1.0]}, "is a list; expected a tensor"),
    "number as name": (lambda t: {**t, 3: t[CONV]}, "entry 3 is a Tensor"),
    "very long name": (lambda t: {**t, "x" * 100_000: torch.ones(1)}, "which the model does not have"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_tensors_are_refused(case: str, tmp_path: Path) -> None:
    edit, message = WRONG[case]
    file = save(tmp_path / "wrong.th", {"state_dict": edit(made_up("adabin"))})
    with pytest.raises(FormatError, match=message) as caught:
        importers.import_run("adabin", file, tmp_path / "run")
    assert len(str(caught.value)) < 1000 and not (tmp_path / "run").exists()


class Harmful:
    """What a hostile pickle would be: an object whose reading calls a function."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("harmed"),))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([1, 2], "holds a list"),
        ({"weights": {}}, "no dict under 'state_dict'; got 'weights'"),
        ({"state_dict": {}, "epoch": 3}, "unknown entry 'epoch'; allowed: state_dict, best_prec1"),
        ({"state_dict": {}, "best_prec1": "88"}, "'best_prec1' is a str; expected a number"),
        ({"state_dict": Harmful()}, "not a checkpoint of plain tensors"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_other_files_are_refused(table: Any, message: str, zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(table, "other.th", _use_new_zipfile_serialization=zipped)
    with pytest.raises(FormatError, match=message):
        importers.import_run("adabin", "other.th", "run")
    assert not Path("harmed").exists()


def test_damaged_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.th"
    good = save(tmp_path / "good.th", {"state_dict": made_up("adabin")}).read_bytes()
    for data in (b"", b"PK\x03\x04", good[: len(good) // 2], b"\x80\x02" + bytes(100), b"text\n" * 10):
        file.write_bytes(data)
        with pytest.raises(FormatError, match="not a checkpoint of plain tensors"):
            importers.import_run("adabin", file, tmp_path / "run")
    with zipfile.ZipFile(tmp_path / "good.th") as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.namelist():
            new.writestr(entry, old.read(entry))
    with pytest.raises(FormatError, match="compressed parts"):
        importers.import_run("adabin", file, tmp_path / "run")
    monkeypatch.setattr(_read, "MAX_BYTES", 1000)
    with pytest.raises(FormatError, match="allowed: up to 1000"):
        importers.import_run("adabin", tmp_path / "good.th", tmp_path / "run")


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'adabin'"):
        importers.import_run("adabinn", "x.th")
    with pytest.raises(ConfigError, match=r"'none\.th' not found"):
        importers.import_run("adabin", "none.th", tmp_path / "run")
    with pytest.raises(ConfigError, match=r"bitfold export RUN -o m\.bitfold"):
        importers.import_run("adabin", "none.th", tmp_path / "m.bitfold")
    file = save(tmp_path / "a.th", {"state_dict": made_up("resnet20_float")})
    importers.import_run("resnet20_float", file, tmp_path / "run")
    with pytest.raises(ConfigError, match="already holds a run"):
        importers.import_run("resnet20_float", file, tmp_path / "run")
