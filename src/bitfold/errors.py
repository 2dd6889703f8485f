"""The closed list of exceptions that bitfold raises for a user's mistake or a bad file.

Every message says where, what was expected, what came and what is allowed. Bugs of bitfold itself are
``AssertionError``; they are not listed here.
"""

import difflib
from collections.abc import Iterable


class BitfoldError(Exception):
    """Base of all errors below."""


class FormatError(BitfoldError):
    """A ``*.bitfold`` file, or a checkpoint to import, is damaged, hostile, of another format or of an unknown version."""


class GraphError(BitfoldError):
    """An IR graph is invalid: wrong shape, type, attribute, name or order. Names the node and the attribute."""


class ExportError(BitfoldError):
    """A PyTorch module cannot be exported. Names the module path and the reason."""


class EngineError(BitfoldError):
    """The engine refuses a plan, an input array or an option."""


class ConfigError(BitfoldError, ValueError):
    """A recipe, a method field, an option or a name is unknown or out of range."""


class DataError(BitfoldError):
    """A data set is missing or broken. Says what was looked for, where, and how to get it."""


class TrainingError(BitfoldError):
    """Training cannot go on, for example after a non-finite loss. Names the layer where it began."""


def unknown(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for a name that is not in a list: suggests the nearest one and lists all.

    >>> str(unknown("method", "adabinn", ["adabin", "qnn"]))
    "unknown method 'adabinn'; did you mean 'adabin'? known: adabin, qnn"
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    return ConfigError(f"unknown {kind} {name!r}{hint} known: {', '.join(names)}")
