"""Offsets in one arena: buffers that are never alive together share memory; element-wise steps work in place."""

from collections.abc import Mapping, Sequence

import numpy as np

from bitfold.engine.step import Buffer, Slot, Step

ALIGNMENT = 64


def assign(
    buffers: Mapping[Slot, Buffer], steps: Sequence[Step], inputs: Sequence[Slot], outputs: Sequence[Slot], chunk: int
) -> tuple[dict[Slot, int], int]:
    """The offset of every slot for ``chunk`` images, and the arena's size in bytes."""
    owner, lives = lifetimes(buffers, steps, inputs, outputs)
    roots: dict[Slot, tuple[int, int]] = {}
    for slot, root in owner.items():
        begin, end = roots.get(root, (lives[root][0], -1))
        roots[root] = (min(begin, lives[slot][0]), max(end, lives[slot][1]))
    sizes = {root: size_of(buffers[root], chunk) for root in roots}
    offsets = _place(roots, sizes)
    inside = {slot: buffers[slot].at * buffers[slot].element_bytes for slot in owner}
    return {slot: offsets[root] + inside[slot] for slot, root in owner.items()}, max(offsets[r] + sizes[r] for r in roots)


def lifetimes(
    buffers: Mapping[Slot, Buffer], steps: Sequence[Step], inputs: Sequence[Slot], outputs: Sequence[Slot]
) -> tuple[dict[Slot, Slot], dict[Slot, tuple[int, int]]]:
    """The slot whose memory each slot uses, and the numbers of the steps that make it and need it last (-1: the door in)."""
    first = dict.fromkeys(inputs, -1)
    last = dict.fromkeys(inputs, -1)
    for i, step in enumerate(steps):
        for slot in step.writes:
            first[slot] = last[slot] = i
        for slot in step.reads:
            last[slot] = i
    last.update((slot, len(steps)) for slot in outputs)
    needed = dict(last)  # of a slot's memory: channels of it are read under other names too
    for slot, b in buffers.items():
        if b.root is not None:
            needed[b.root] = max(needed[b.root], last[slot])
    return _share(buffers, steps, needed), {slot: (first[slot], last[slot]) for slot in buffers}


def size_of(buffer: Buffer, images: int) -> int:
    """Bytes in the arena."""
    return _round(buffer.image_bytes * images)


def _round(size: int) -> int:
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def _share(buffers: Mapping[Slot, Buffer], steps: Sequence[Step], last: Mapping[Slot, int]) -> dict[Slot, Slot]:
    """The slot whose memory each slot uses: its own, its root's, or that of an input which dies where the slot is made."""
    owner = {slot: slot for slot in buffers}
    for i, step in enumerate(steps):
        for slot in step.in_place:
            into, out = buffers[slot], buffers[step.writes[0]]
            same = into.image_bytes == out.image_bytes and into.stride == out.stride and into.root is None and out.root is None
            if last[slot] == i and step.reads.count(slot) == 1 and same:
                owner[step.writes[0]] = owner[slot]
                break
    return {slot: owner[buffers[slot].root or slot] for slot in owner}


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
