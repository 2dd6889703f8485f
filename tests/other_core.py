"""Runs pytest or a module on another build of the core than the installed one: sanitized, or with emulated instructions.

    python tests/other_core.py BUILD_SITE PYTEST_ARGUMENTS...
    python tests/other_core.py BUILD_SITE -m tests.native.long --cases 1000

``make sanitize`` and ``make test-emulated`` call it. The finder of the editable install comes before sys.path, so it goes.
"""

import runpy
import sys
from pathlib import Path

import pytest


def main(site: str, *arguments: str) -> int:
    sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in type(finder).__module__]
    sys.path[0:1] = [str(Path(site).resolve()), str(Path.cwd())]
    from bitfold import _core

    assert Path(site).resolve() in Path(_core.__file__).parents, f"{_core.__file__} is not of {site}"
    if arguments[0] == "-m" and arguments[1].startswith("tests."):
        sys.argv[1:] = arguments[2:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return 0
    return pytest.main(["-p", "no:cacheprovider", *arguments])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
