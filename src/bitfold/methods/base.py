"""The method contract: a frozen dataclass whose fields are hyperparameters, and hooks, all optional."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple, TypeAlias, get_args, get_origin, get_type_hints

from torch import Tensor, nn

from bitfold.errors import ConfigError, unknown
from bitfold.layers.quant import QuantLayer
from bitfold.layers.swap import swap
from bitfold.quantizers.base import Quantizer


class Features(NamedTuple):
    """Outputs of the modules that ``Method.taps`` names, by path. The teacher's are detached; there are none without a teacher."""

    student: Mapping[str, Tensor]
    teacher: Mapping[str, Tensor]


class Forward(NamedTuple):
    """What a pass over one batch gave, for a method's loss."""

    batch: Any  # (inputs, targets)
    outputs: Tensor
    teacher: Tensor | None  # the teacher's outputs
    task_loss: Tensor  # the task's own loss, or what the method before has made of it
    features: Features = Features({}, {})  # what ``taps`` asked for


@dataclass(frozen=True, kw_only=True)
class Method:
    """Base of all methods. A subclass in ``methods/<name>.py`` with ``METHOD = Subclass`` is found by its file name.

    The three fields say which layers besides the inner ones are quantised (the field's default: none of them).
    Fields are bool, int, float, str, ``Literal[...]``, ``MethodLike`` or a tuple of those; types and choices are checked here, ranges
    by the subclass. The plain ``Method()`` quantises nothing. Step hooks touch only layers whose slots hold the method's own quantisers,
    so that methods can be put together.
    """

    first: bool = False  # the first conv or linear
    last: bool = False  # the classifier
    shortcut: bool = False  # convs on residual shortcuts

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for f in fields(self):
            value = _checked(f"{type(self).__name__}.{f.name}", hints[f.name], getattr(self, f.name))
            object.__setattr__(self, f.name, value)

    def weight_quantizer(self, layer: QuantLayer) -> Quantizer | None:
        """The weight slot of ``layer`` (see ``layer.role``); None leaves it in float."""
        return None

    def act_quantizer(self, layer: QuantLayer) -> Quantizer | None:
        """The input slot of ``layer``; None leaves it in float."""
        return None

    def grad_quantizer(self, layer: QuantLayer) -> nn.Module | None:
        """A module that is the identity on the output of ``layer`` and changes the gradient that comes back; None changes nothing."""
        return None

    def transform(self, model: nn.Module, keep_float: Collection[str] = ()) -> nn.Module:
        """``prepare``, then every eligible conv/linear swapped for its Quant twin (same parameters, same names), then ``finish``."""
        return self.finish(swap(self.prepare(model), self, keep_float))

    def prepare(self, model: nn.Module) -> nn.Module:
        """Structural change of the plain model, before the swap."""
        return model

    def finish(self, model: nn.Module) -> nn.Module:
        """Structural change after the swap: other activations, modules around layers."""
        return model

    def param_groups(self, model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        """Optimiser groups. Default: one group, all parameters.

        Keys: ``params``, ``weight_decay``, and where they differ from the recipe: ``lr_scale`` (times the recipe's rate), ``lr`` (a
        rate of its own), ``factor`` (progress in [0, 1] -> factor on the rate, in place of the recipe's schedule), ``optimizer`` (a
        name that ``bitfold.training.optim`` knows) with its ``options``.
        """
        return [{"params": [p for p in model.parameters() if p.requires_grad], "weight_decay": weight_decay}]

    def before_step(self, model: nn.Module, progress: float) -> None:
        """Before each forward; progress in [0, 1] over the stage, rising with optimiser steps."""

    def after_backward(self, model: nn.Module, progress: float) -> None:
        """Between the backward pass and the optimiser's step: ``.grad`` is what the optimiser will see, the mean over all processes."""

    def after_step(self, model: nn.Module, progress: float) -> None:
        """After each optimiser step (clamps, recentring)."""

    @property
    def needs_teacher(self) -> bool:
        """Whether ``loss`` cannot do without a teacher; training then refuses a recipe that has none."""
        return False

    def taps(self, model: nn.Module) -> tuple[str, ...]:
        """Paths of modules whose outputs ``loss`` wants to see, in the model and, by the same paths, in the teacher."""
        return ()

    def loss(self, model: nn.Module, forward: Forward) -> Tensor:
        """The training loss. Default: the task's own."""
        return forward.task_loss

    def calibrate(self, model: nn.Module, loader: Any) -> None:
        """Post-training methods: set quantisers from data."""


MethodLike: TypeAlias = Method | str | Mapping[str, Any]  # a method, its name, or {"method": name, field: value, ...}


@dataclass(frozen=True, kw_only=True)
class Joint(Method):
    """Several methods at once: every hook of every one of ``parts``, in order; each loss gets the one before as its task loss.

    Slots: those of the first part that fills them. Subclasses say what the parts are, or which part fills which slot.
    """

    @property
    def parts(self) -> Sequence[Method]:
        raise NotImplementedError

    def __post_init__(self) -> None:
        super().__post_init__()
        for role in ("first", "last", "shortcut"):
            object.__setattr__(self, role, getattr(self, role) or any(getattr(part, role) for part in self.parts))

    def weight_quantizer(self, layer: QuantLayer) -> Quantizer | None:
        return next((q for q in (part.weight_quantizer(layer) for part in self.parts) if q is not None), None)

    def act_quantizer(self, layer: QuantLayer) -> Quantizer | None:
        return next((q for q in (part.act_quantizer(layer) for part in self.parts) if q is not None), None)

    def grad_quantizer(self, layer: QuantLayer) -> nn.Module | None:
        return next((q for q in (part.grad_quantizer(layer) for part in self.parts) if q is not None), None)

    def prepare(self, model: nn.Module) -> nn.Module:
        for part in self.parts:
            model = part.prepare(model)
        return model

    def finish(self, model: nn.Module) -> nn.Module:
        for part in self.parts:
            model = part.finish(model)
        return model

    def param_groups(self, model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        """A parameter's options are those in which any part departs from the default; the later part wins."""
        options: dict[nn.Parameter, dict[str, Any]] = {}
        for part in self.parts:
            for group in part.param_groups(model, weight_decay):
                own = {k: v for k, v in group.items() if k != "params" and (k != "weight_decay" or v != weight_decay)}
                for p in group["params"]:
                    options.setdefault(p, {"weight_decay": weight_decay}).update(own)
        groups: list[dict[str, Any]] = []
        for p, wanted in options.items():
            same = next((g for g in groups if {k: v for k, v in g.items() if k != "params"} == wanted), None)
            if same is None:
                groups.append({"params": [p], **wanted})
            else:
                same["params"].append(p)
        return groups

    def before_step(self, model: nn.Module, progress: float) -> None:
        for part in self.parts:
            part.before_step(model, progress)

    def after_backward(self, model: nn.Module, progress: float) -> None:
        for part in self.parts:
            part.after_backward(model, progress)

    def after_step(self, model: nn.Module, progress: float) -> None:
        for part in self.parts:
            part.after_step(model, progress)

    @property
    def needs_teacher(self) -> bool:
        return any(part.needs_teacher for part in self.parts)

    def taps(self, model: nn.Module) -> tuple[str, ...]:
        return tuple(dict.fromkeys(path for part in self.parts for path in part.taps(model)))

    def loss(self, model: nn.Module, forward: Forward) -> Tensor:
        for part in self.parts:
            forward = forward._replace(task_loss=part.loss(model, forward))
        return forward.task_loss

    def calibrate(self, model: nn.Module, loader: Any) -> None:
        for part in self.parts:
            part.calibrate(model, loader)


@dataclass(frozen=True, kw_only=True)
class Wrapper(Joint):
    """A method on top of another: all hooks of ``base``; a subclass adds its own by overriding, and calls super() to keep the base's."""

    base: MethodLike = field(default_factory=Method)

    @property
    def parts(self) -> Sequence[Method]:
        assert isinstance(self.base, Method)
        return (self.base,)


def _checked(where: str, hint: Any, value: Any) -> Any:
    """``value``, or the method that it names. Raises ConfigError for a wrong type or choice."""
    if hint == MethodLike:
        return _method(where, value)
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: expected a list, got {value!r}")
        return tuple(_checked(f"{where}[{i}]", get_args(hint)[0], v) for i, v in enumerate(value))
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise unknown(where, str(value), [str(choice) for choice in get_args(hint)])
        return value
    accepted = (int, float) if hint is float else hint
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{where}: expected {hint.__name__}, got {value!r}")
    return value


def _method(where: str, value: Any) -> Method:
    from bitfold.methods import get  # the finder imports method files, which import this one

    if isinstance(value, Method):
        return value
    table = {"method": value} if isinstance(value, str) else value
    if not isinstance(table, Mapping) or not isinstance(table.get("method"), str):
        raise ConfigError(f"{where}: expected a method, its name or {{method = name, field = value, ...}}, got {value!r}")
    return get(table["method"], **{k: v for k, v in table.items() if k != "method"})
