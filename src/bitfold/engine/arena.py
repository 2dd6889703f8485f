"""Offsets in one arena: buffers that are never alive together share memory; element-wise steps work in place."""

from collections.abc import Mapping, Sequence

import numpy as np

from bitfold.engine.step import Buffer, Slot, Step

ALIGNMENT = 64


def assign(
    buffers: Mapping[Slot, Buffer], steps: Sequence[Step], inputs: Sequence[Slot], outputs: Sequence[Slot], chunk: int
) -> tuple[dict[Slot, int], int]:
    """The offset of every slot for ``chunk`` images, and the arena's size in bytes."""
    first = dict.fromkeys(inputs, -1)
    last = dict.fromkeys(inputs, -1)
    for i, step in enumerate(steps):
        for slot in step.writes:
            first[slot] = last[slot] = i
        for slot in step.reads:
            last[slot] = i
    last.update((slot, len(steps)) for slot in outputs)

    owner = _share(buffers, steps, last)
    lives: dict[Slot, tuple[int, int]] = {}
    for slot, root in owner.items():
        begin, end = lives.get(root, (first[root], -1))
        lives[root] = (min(begin, first[slot]), max(end, last[slot]))
    sizes = {root: _round(buffers[root].image_bytes * chunk) for root in lives}
    offsets = _place(lives, sizes)
    return {slot: offsets[root] for slot, root in owner.items()}, max(offsets[r] + sizes[r] for r in lives)


def _round(size: int) -> int:
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def _share(buffers: Mapping[Slot, Buffer], steps: Sequence[Step], last: Mapping[Slot, int]) -> dict[Slot, Slot]:
    """The slot whose memory each slot uses: its own, or that of an input which dies where the slot is made."""
    owner = {slot: slot for slot in buffers}
    for i, step in enumerate(steps):
        for slot in step.in_place:
            into, out = buffers[slot], buffers[step.writes[0]]
            same = into.image_bytes == out.image_bytes and into.stride == out.stride
            if last[slot] == i and step.reads.count(slot) == 1 and same:
                owner[step.writes[0]] = owner[slot]
                break
    return owner


def _place(lives: Mapping[Slot, tuple[int, int]], sizes: Mapping[Slot, int]) -> dict[Slot, int]:
    """Largest first, each in the lowest gap that is free during its life."""
    order = sorted(lives, key=lambda s: (-sizes[s], lives[s]))
    begin, end = np.array([lives[s] for s in order]).T
    size = np.array([sizes[s] for s in order])
    offset = np.zeros(len(order), dtype=np.int64)
    for i in range(len(order)):
        others = np.flatnonzero((begin[:i] <= end[i]) & (begin[i] <= end[:i]))
        others = others[np.argsort(offset[others])]
        tops = np.maximum.accumulate(np.append(0, offset[others] + size[others]))
        fits = np.flatnonzero(offset[others] - tops[:-1] >= size[i])
        offset[i] = tops[fits[0]] if fits.size else tops[-1]
    return {slot: int(at) for slot, at in zip(order, offset, strict=True)}
