"""Converters of recurrent cells: linear layers, slices of the gates, and arithmetic. The state is an input and an output of the graph."""

from typing import Any

import numpy as np
from torch import nn

from bitfold.export.calls import channels
from bitfold.export.steps import Call, Step
from bitfold.ir import ops


def lstm(call: Call, cell: nn.LSTMCell, x: Step, state: Any = None) -> tuple[Step, Step]:
    """(h, c) of the next step."""
    if not isinstance(state, tuple | list) or len(state) != 2:
        raise call.refuse("has no state; allowed: cell(x, (h, c)), with h and c inputs of the model")
    h, c = state
    gates = _two(call, "gates", ops.Add, _linear(call, cell, "ih", x), _linear(call, cell, "hh", h))
    i, f, g, o = _gates(call, gates, "ifgo")
    i, f, o = (_unary(call, gate, "sigmoid") for gate in (i, f, o))
    kept = _two(call, "kept", ops.Mul, f, c)
    c = _two(call, "c", ops.Add, kept, _two(call, "new", ops.Mul, i, _unary(call, g, "tanh")))
    return _two(call, "h", ops.Mul, o, _unary(call, c, "tanh")), c


def gru(call: Call, cell: nn.GRUCell, x: Step, h: Any = None) -> Step:
    """n + z (h - n), as PyTorch."""
    if not isinstance(h, Step):
        raise call.refuse("has no state; allowed: cell(x, h), with h an input of the model")
    from_x, from_h = _gates(call, _linear(call, cell, "ih", x), "rzn"), _gates(call, _linear(call, cell, "hh", h), "rzn")
    r, z = (
        _unary(call, _two(call, f"{name}.sum", ops.Add, a, b), "sigmoid") for name, a, b in zip("rz", from_x[:2], from_h[:2], strict=True)
    )
    n = _unary(call, _two(call, "n.sum", ops.Add, from_x[2], _two(call, "n.reset", ops.Mul, r, from_h[2])), "tanh")
    minus = Step(ops.Affine, f"{call.path}.minus", (n,), n.shape, {"mul": np.full(n.shape, -1.0), "bias": np.zeros(n.shape)})
    return _two(call, "h", ops.Add, _two(call, "kept", ops.Mul, z, _two(call, "change", ops.Add, h, minus)), n)


def _linear(call: Call, cell: nn.RNNCellBase, which: str, x: Step) -> Step:
    """The layer of x ("ih") or of the state ("hh")."""
    weight, bias = getattr(cell, f"weight_{which}"), getattr(cell, f"bias_{which}")
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    layer.weight = weight
    if bias is not None:
        layer.bias = bias
    return Step(ops.Linear, f"{call.path}.{which}", (x,), (weight.shape[0],), {}, layer)


def _gates(call: Call, x: Step, names: str) -> list[Step]:
    size = x.shape[0] // len(names)
    return [channels(call, x, i * size, (i + 1) * size, f"{x.path}.{name}") for i, name in enumerate(names)]


def _unary(call: Call, x: Step, kind: str) -> Step:
    return Step(ops.Unary, f"{x.path}.{kind}", (x,), x.shape, {"kind": kind})


def _two(call: Call, name: str, op: type[ops.Node], a: Step, b: Step) -> Step:
    return Step(op, f"{call.path}.{name}", (a, b), a.shape)
