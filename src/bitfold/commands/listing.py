"""``bitfold list``: rows of methods, models, recipes and kernels, and everything about one of them."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitfold.errors import ConfigError, unknown


@dataclass(frozen=True)
class Entry:
    """One thing in full: text, then rows."""

    text: str
    rows: list[dict[str, Any]]


def _flow(text: str) -> str:
    """A docstring for a window of any width: lines that the source's width broke are joined."""
    return re.sub(r"(?m)(^.{90,})\n(?=\S)", r"\1 ", text)


def methods() -> list[dict[str, Any]]:
    from bitfold import methods as found

    return [{"name": name, "summary": found.describe(name).summary} for name in found.names()]


def method(name: str) -> Entry:
    from bitfold import methods as found

    info = found.describe(name)
    return Entry(_flow(info.text), [{"option": f.name, "default": repr(f.default), "type": f.type} for f in info.fields])


def models() -> list[dict[str, Any]]:
    from bitfold import models as found

    return [{"name": row["name"], "summary": row["summary"]} for row in found.describe()]


def model(name: str) -> Entry:
    from bitfold import models as found

    rows = {row["name"]: row for row in found.describe()}
    if name not in rows:
        raise unknown("model", name, rows)
    options = rows[name]["options"].items()
    return Entry(_flow(rows[name]["text"]), [{"option": key, "default": repr(o["default"]), "allowed": o["allowed"]} for key, o in options])


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


def recipe(name: str) -> Entry:
    from bitfold.training import recipe as found

    return Entry(Path(found.find(name)).read_text(encoding="utf-8").rstrip(), [])


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


def study(name: str) -> Entry:
    from bitfold.training import study as found

    one = found.load_study(name)
    rows = [{"row": row.name, "group": row.group, "changes": row.recipe or "\n".join(row.set), "note": row.note} for row in one.row]
    protocols = [f"{key}: {protocol.description}" for key, protocol in one.protocol.items()]
    return Entry("\n".join([one.title, one.description, *protocols]), rows)


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

ENTRIES: dict[str, Callable[[str], Entry]] = {"methods": method, "models": model, "recipes": recipe, "studies": study}


def entry(kind: str, name: str) -> Entry:
    """``name`` of that kind in full. ConfigError for an unknown name, and for a kind that says all in its rows."""
    if kind not in ENTRIES:
        raise ConfigError(f"list {kind} takes no name; got {name!r}, allowed with a name: {', '.join(ENTRIES)}")
    return ENTRIES[kind](name)
