"""Other engines, one file each, found by file name.

A peer file defines PRECISION ("float32", "int8" or "low-bit"), ``available() -> str | None`` (the reason why not) and
``prepare(subject) -> Prepared``. To add a peer, add a file. Most run the float twin of a network: it is what a user would deploy without
bitfold. A "low-bit" peer runs the low-bit network itself, from the exported graph, and also defines PAIRS: the encodings of weights and
activations, as ``bench.shapes`` names them, of the layers that it runs.
"""

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from bitfold.errors import unknown


def names() -> list[str]:
    return sorted(m.name for m in iter_modules(__path__) if not m.name.startswith("_"))


def serves(name: str, weight: str, act: str) -> bool:
    """Whether the peer is one for layers of these encodings. Float and int8 peers run the float twin of any."""
    peer = get(name)
    return peer.PRECISION != "low-bit" or (weight, act) in peer.PAIRS


def get(name: str) -> ModuleType:
    if name not in names():
        raise unknown("peer", name, names())
    return import_module(f"{__name__}.{name}")
