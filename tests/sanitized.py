"""Runs pytest on the sanitized build instead of the installed one: ``python tests/sanitized.py BUILD_SITE PYTEST_ARGUMENTS...``.

``make sanitize`` calls it with the sanitizers' libraries preloaded. The finder of the editable install comes before sys.path, so it goes.
"""

import sys
from pathlib import Path

import pytest


def main(site: str, *arguments: str) -> int:
    sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in type(finder).__module__]
    sys.path.insert(0, str(Path(site).resolve()))
    from bitfold import _core

    assert Path(site).resolve() in Path(_core.__file__).parents, f"{_core.__file__} is not the sanitized build"
    return pytest.main(["-p", "no:cacheprovider", *arguments])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
