"""Which values hold memory at each step of a call, and how much: what ``bitfold summary --liveness`` shows."""

from dataclasses import dataclass

from bitfold.engine.arena import lifetimes, size_of
from bitfold.engine.forced import forced
from bitfold.engine.plan import lay_out
from bitfold.ir.graph import Graph

BAR = 40  # characters of the longest bar


@dataclass(frozen=True)
class Moment:
    """While one step runs. ``values``: name and form of what is alive. ``bytes``: of their memory, that of values in one place once."""

    layer: str
    op: str
    values: tuple[str, ...]
    bytes: int


@dataclass(frozen=True)
class Liveness:
    """Of ``images`` images that are computed together. ``arena_bytes``: what the engine takes for them, gaps included."""

    moments: tuple[Moment, ...]
    images: int
    arena_bytes: int

    @property
    def peak_bytes(self) -> int:
        return max(moment.bytes for moment in self.moments)

    def __str__(self) -> str:
        head = ("layer", "op", "bytes alive")
        cells = [head, *((m.layer, m.op, f"{m.bytes:,}") for m in self.moments)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
        lines = [f"{layer:{widths[0]}}  {op:{widths[1]}}  {size:>{widths[2]}}" for layer, op, size in cells]
        bars = ["#" * round(BAR * m.bytes / self.arena_bytes) for m in self.moments]
        rows = [f"{line}  {bar:{BAR}}  {' '.join(m.values)}" for line, bar, m in zip(lines[1:], bars, self.moments, strict=True)]
        width = max(map(len, (lines[0], *rows)))
        return "\n".join([f"{lines[0]}  {'of the arena':{BAR}}  alive", "-" * min(width, 140), *rows, self.total()])

    def total(self) -> str:
        """One line."""
        together = "1 image" if self.images == 1 else f"{self.images} images together"
        return f"activations: arena {self.arena_bytes:,} bytes for {together}, at most {self.peak_bytes:,} alive at once"


def liveness(graph: Graph) -> Liveness:
    """For the images that the engine computes together."""
    made = lay_out(graph, forced(None))
    owner, lives = lifetimes(made.forms.buffers, made.steps, made.inputs, made.outputs)
    moments = []
    for i, step in enumerate(made.steps):
        alive = [slot for slot, (first, last) in lives.items() if first <= i <= last]
        places = {owner[slot] for slot in alive}
        size = sum(size_of(made.forms.buffers[slot], made.chunk) for slot in places)
        moments.append(Moment(step.layer, step.op, tuple(f"{slot.value}:{slot.form}" for slot in alive), size))
    return Liveness(tuple(moments), made.chunk, made.arena)
