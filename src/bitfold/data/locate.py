"""Finding a data set's files: the folder the user named, else the environment variable BITFOLD_DATA."""

import os
from collections.abc import Sequence
from pathlib import Path

from bitfold.errors import DataError


def base_folder(name: str, root: str | Path | None, how: str) -> Path:
    """``root`` or BITFOLD_DATA; DataError if there is neither, or no such folder."""
    text = root if root is not None else os.environ.get("BITFOLD_DATA")
    if not text:
        raise DataError(f"data set {name!r}: no folder given; use --data FOLDER (root= in Python) or set BITFOLD_DATA. {how}")
    folder = Path(text).expanduser()
    if not folder.is_dir():
        origin = "root" if root is not None else "BITFOLD_DATA"
        raise DataError(f"data set {name!r}: {origin} names {str(folder)!r}, which is not a folder. {how}")
    return folder


def find(name: str, base: Path, folders: Sequence[str], file_names: Sequence[str], how: str) -> Path:
    """The first existing file of ``file_names`` (spellings of one file) in ``folders`` below ``base``."""
    candidates = [base / folder / file for folder in folders for file in file_names]
    for path in candidates:
        if path.is_file():
            return path
    raise DataError(f"data set {name!r}: none of these files exists: {', '.join(map(str, candidates))}. {how}")
