"""``bitfold list``: rows of methods, models, recipes and kernels."""

from collections.abc import Callable
from typing import Any


def methods() -> list[dict[str, Any]]:
    from bitfold import methods as found

    rows = []
    for name in found.names():
        info = found.describe(name)
        options = ", ".join(f"{f.name}={f.default!r}" for f in info.fields)
        rows.append({"name": name, "summary": info.summary, "options": options})
    return rows


def models() -> list[dict[str, Any]]:
    from bitfold import models as found

    return [{**row, "options": ", ".join(f"{name}={o['default']!r}" for name, o in row["options"].items())} for row in found.describe()]


def recipes() -> list[dict[str, Any]]:
    from bitfold.training import recipe as found

    rows = []
    for name in found.names():
        recipe = found.load_recipe(name)
        rows.append(
            {
                "name": name,
                "data": recipe.data.name,
                "model": recipe.model.name,
                "methods": ", ".join(stage.method for stage in recipe.stage),
                "epochs": sum(stage.epochs for stage in recipe.stage),
                "claim": recipe.claim.accuracy if recipe.claim is not None else "",
            }
        )
    return rows


def formats() -> list[dict[str, Any]]:
    from bitfold import importers as found

    return [{"name": name, "recipe": found.get(name).recipe, "summary": found.get(name).summary} for name in found.names()]


def studies() -> list[dict[str, Any]]:
    from bitfold.training import study as found

    rows = []
    for name in found.names():
        study = found.load_study(name)
        protocols = ", ".join([found.FULL, *study.protocol])
        rows.append({"name": name, "title": study.title, "rows": len(study.row), "protocols": protocols})
    return rows


def kernels() -> list[dict[str, Any]]:
    from bitfold.engine.engine import kernels as found

    return [dict(row) for row in found()]


KINDS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "methods": methods,
    "models": models,
    "recipes": recipes,
    "studies": studies,
    "formats": formats,
    "kernels": kernels,
}
