"""Steps -> IR nodes: layers with their epilogues, quantisers with their thresholds, everything else one to one.

Two folds make networks small and fast, and both are taken only where they decide exactly as PyTorch does:
a coded layer whose output feeds nothing but quantisers becomes an integer core with integer thresholds; and monotone functions in
front of a quantiser disappear into its float thresholds.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from bitfold.errors import ExportError
from bitfold.export.builder import Builder
from bitfold.export.fold import Terms, Weight, act_encoding, distance_terms, refusal, sum_range, terms, weight_of
from bitfold.export.pixels import Pixels, most_bits
from bitfold.export.resize import Phases
from bitfold.export.steps import Step, TorchFunction
from bitfold.export.thresholds import (
    Accumulated,
    Entries,
    Thresholds,
    check_forward,
    float_thresholds,
    integer_thresholds,
    never_falls,
    spread,
)
from bitfold.ir import ops
from bitfold.ir.encoding import Binary, Coded, Float, Uniform
from bitfold.ir.graph import Constant, TensorType

# A row of thresholds per channel costs 4 bytes a level; beyond 4 bits the layer's scale and one shared row are smaller.
MAX_ROW = 15

PATCH_SUM = ".patch_sum"  # ends the name of a layer of ones, which sums the patches of float activations

_IN_CHAINS = (ops.Affine, ops.Clamp, ops.TwoSlope, ops.MaxPool, ops.Flatten)


@dataclass(frozen=True)
class Value:
    """A value of the graph and, if it has codes, what they stand for; ``pixels``: they are a picture's bytes, not yet normalised."""

    name: str
    coded: Coded | None = None
    pixels: Pixels | None = None


@dataclass(frozen=True, eq=False)
class Chain:
    """What lies between a value and the quantisers that alone read it: functions, at most one pooling, a flattening at the end."""

    functions: tuple[Step, ...]
    quantizers: tuple[Step, ...]

    @property
    def pool(self) -> int | None:
        return next((i for i, s in enumerate(self.functions) if s.op is ops.MaxPool), None)

    @property
    def flatten(self) -> Step | None:
        return self.functions[-1] if self.functions and self.functions[-1].op is ops.Flatten else None

    def tail(self, start: int = 0, end: int | None = None) -> list[TorchFunction]:
        """The functions as PyTorch computes them; pooling is left out, flattening keeps the channels of single trial values."""
        return [_torch_of(s) for s in self.functions[start:end] if s.op is not ops.MaxPool]


def _torch_of(step: Step) -> TorchFunction:
    if step.op is ops.Flatten:
        return lambda x: x[0, :, :, 0].T.contiguous()
    assert step.torch is not None
    return step.torch


class Lowering:
    """One export. ``run`` fills the builder. ``pixels``: the input is a picture as bytes."""

    def __init__(self, builder: Builder, steps: list[Step], outputs: list[Step], pixels: Pixels | None = None) -> None:
        self.builder, self.pixels = builder, pixels
        self.steps, self.outputs = steps, outputs
        self.readers: dict[Step, list[Step | None]] = {s: [] for s in steps}  # None: the graph's own output
        for step in steps:
            for source in step.inputs:
                self.readers[source].append(step)
        for step in outputs:
            self.readers[step].append(None)
        self.values: dict[Step, Value] = {}
        self._floats: dict[str, str] = {}
        self._quantized: dict[tuple[object, ...], str] = {}

    def run(self) -> tuple[str, ...]:
        """The names of the outputs."""
        for step in self.steps:
            if step in self.values:
                continue
            if step.op is None:
                self.values[step] = Value(step.path, self.pixels.encoding if self.pixels is not None else None, self.pixels)
            elif step.op in (ops.Conv, ops.Linear) and step.module is not None:
                self._layer(step)
            elif step.op is ops.Quantize:
                self._quantizer(step)
            elif not self._float_chain(step):
                self._plain(step)
        return tuple(self._float(step) for step in self.outputs)

    # ---- values

    def _float(self, step: Step) -> str:
        """The step's value as float32."""
        value = self.values[step]
        if value.pixels is not None:
            readers = ", ".join(sorted({repr(r.path) if r is not None else "the output" for r in self.readers[step]}))
            raise ExportError(
                f"export: {readers} reads the picture's bytes; allowed with input='uint8': convolutions and linear layers with float "
                "weights, which take in the normalisation, and a flattening in front of them"
            )
        if value.coded is None:
            return value.name
        if value.name not in self._floats:
            self._floats[value.name] = self.builder.add(ops.Dequantize, f"{value.name}.values", x=value.name)
        return self._floats[value.name]

    def _plain(self, step: Step) -> None:
        """One node of the step's own kind. Codes stay codes where moving them about is all that is done."""
        assert step.op is not None
        sources = [self.values[s] for s in step.inputs]
        if step.op is ops.Flatten and (pixels := sources[0].pixels) is not None:
            name = self.builder.add(ops.Flatten, step.path, x=sources[0].name)
            self.values[step] = Value(name, sources[0].coded, pixels.flattened(step.shape[0] // len(pixels.mean)))
            return
        kinds = {s.coded for s in sources}
        coded = next(iter(kinds)) if len(kinds) == 1 else None
        coded = None if any(s.pixels is not None for s in sources) else coded
        repeated = step.op is ops.Upsample and "row_weights" not in step.attrs and min(min(step.attrs[a]) for a in ("rows", "columns")) >= 0
        moved = step.op in (ops.Flatten, ops.Concat) or repeated or (step.op is ops.MaxPool and coded is not None and coded.scale > 0)  # type: ignore[operator]
        keep = coded if moved else None
        names = [s.name for s in sources] if keep is not None else [self._float(s) for s in step.inputs]
        fields: dict[str, Any] = {"xs": tuple(names)} if step.op is ops.Concat else dict(zip(step.op.INPUTS, names, strict=True))
        self.values[step] = Value(self.builder.add(step.op, step.path, **fields, **step.attrs), keep)

    # ---- layers

    def _layer(self, step: Step) -> None:
        weight = weight_of(step)
        source = self.values[step.inputs[0]]
        distance = step.attrs.get("metric") == ops.DISTANCE  # of codes alone: its terms refuse everything else
        if source.pixels is not None and not weight.coded and not distance and not isinstance(step.module, Phases):
            self._stem(step, weight, source, source.pixels)
            return
        if (source.pixels is not None or not weight.coded) and not distance:
            self._finish(step, weight, terms(step, weight, None), self._float(step.inputs[0]), None)
            return
        made = (distance_terms if distance else terms)(step, weight, source.coded)
        if source.coded is None or not self._integer_chain(step, weight, made, source):
            self._finish(step, weight, made, source.name, source.coded)

    def _stem(self, step: Step, weight: Weight, source: Value, pixels: Pixels) -> None:
        """A float layer on a picture's bytes: integer weights, its normalisation in the epilogue."""
        products = int(np.prod(weight.data.shape[1:]))
        if pixels.bits > (most := most_bits(products)):
            raise refusal(
                step, f"{products} products of bytes and {pixels.bits}-bit weights do not fit an int32; allowed: stem_bits <= {most}"
            )
        codes, scale = pixels.weight(weight.data, step.attrs.get("groups", 1))
        whole = Weight(codes, Uniform(pixels.bits, signed=True), scale, np.zeros(len(codes)))
        made = replace(terms(step, weight, None), mul=scale, x_offset=pixels.x_offset)
        self._finish(step, whole, made, source.name, source.coded)

    def _finish(self, step: Step, weight: Weight, made: Terms, x: str, act: Coded | None) -> None:
        """The layer with a float output: all affines that follow join its epilogue."""
        last = step
        while (reader := self._only_reader(last)) is not None and reader.op is ops.Affine:
            made, last = made.then(reader.array("mul"), reader.array("bias")), reader
        scaled = weight.coded and act is not None and made.same_everywhere and made.x_offset is None
        if scaled and (copies := self._copies(last)) is not None:
            self._finish_copies(step, weight, made, x, copies)
            return
        if act is None and made.patch_mul.any():
            name = self._with_patch_sum(step, weight, made, x)
        else:
            name = self._core(step, weight, x, made, act)
        self._absorb(step, last, Value(name))

    def _copies(self, step: Step) -> Step | None:
        """The Concat that copies the step's channels, if nothing else reads them and an affine follows."""
        readers = self.readers[step]
        concat = readers[0] if readers else None
        if concat is None or concat.op is not ops.Concat or any(r is not concat for r in readers) or set(concat.inputs) != {step}:
            return None
        reader = self._only_reader(concat)
        return concat if reader is not None and reader.op is ops.Affine else None

    def _finish_copies(self, step: Step, weight: Weight, made: Terms, x: str, copies: Step) -> None:
        """The layer's affine joins those of its copies: the accumulators are copied, so that one call of a kernel can do it all."""
        times, last = len(copies.inputs), copies
        made = Terms(*(np.tile(part, times) for part in (made.mul, made.bias, made.patch_mul, made.weight_mul, made.tap_mul)))
        while (reader := self._only_reader(last)) is not None and reader.op is ops.Affine:
            made, last = made.then(reader.array("mul"), reader.array("bias")), reader
        sums = self.builder.add(ops.Concat, copies.path, xs=(self._core(step, weight, x, None, None),) * times)
        self._absorb(step, last, Value(self.builder.add(ops.Affine, last.path, x=sums, mul=made.mul, bias=made.bias)))

    def _absorb(self, first: Step, last: Step, value: Value) -> None:
        """``last`` has the value; the steps before it, down to ``first``, have no reader of their own."""
        step = last
        while step is not first:
            self.values[step] = value
            step = step.inputs[0]
        self.values[first] = value

    def _core(self, step: Step, weight: Weight, x: str, made: Terms | None, act: Coded | None) -> str:
        """Conv or Linear; without ``made`` its accumulators come out."""
        name = step.path
        epilogue = made.epilogue(self.builder, name) if made is not None else None
        if not (weight.coded and act is not None) and epilogue == ops.Epilogue():
            epilogue = None  # a float sum without anything added is its own output
        return self.builder.add(step.op, name, x=x, weight=self._store(f"{name}.weight", weight), epilogue=epilogue, **step.attrs)  # type: ignore[arg-type]

    def _store(self, name: str, weight: Weight) -> str:
        if isinstance(weight.encoding, Float):
            return self.builder.array(name, weight.data)
        return self.builder.constant(name, Constant.from_codes(weight.data, weight.encoding))

    def _with_patch_sum(self, step: Step, weight: Weight, made: Terms, x: str) -> str:
        """Float activations and weights o + s c: the product with c, plus o times the sum of the patch, which a layer of ones gives."""
        groups = step.attrs.get("groups", 1)
        ones = Weight(np.ones((groups, *weight.data.shape[1:]), np.int16), Binary(), np.ones(groups), np.zeros(groups))
        lone = Step(step.op, step.path + PATCH_SUM, step.inputs, step.shape, step.attrs, step.module)
        sums = self._core(lone, ones, x, None, None)
        offset = made.patch_mul.reshape(-1, *[1] * (weight.data.ndim - 1))
        fields = {"groups": groups} if step.op is ops.Conv else {}
        shift = self.builder.add(step.op, f"{step.path}.patch_offset", x=sums, weight=offset, **fields)  # type: ignore[arg-type]
        product = self._core(step, weight, x, made.without_patch(), None)
        return self.builder.add(ops.Add, f"{step.path}.sum", a=product, b=shift)

    def _only_reader(self, step: Step) -> Step | None:
        readers = self.readers[step]
        return readers[0] if len(readers) == 1 else None

    # ---- quantisers

    def _quantizer(self, step: Step) -> None:
        """A quantiser on a value that nothing could be folded from."""
        encoding = self._encoding(step)
        found = float_thresholds(Entries(step.module, encoding), step.inputs[0].shape)  # type: ignore[arg-type]
        if found is None:
            raise refusal(
                step, "its codes do not rise or fall with its input, or depend on other values; allowed: step functions per channel"
            )
        self.values[step] = Value(self._thresholded(step, self._float(step.inputs[0]), encoding, found), encoding)

    def _encoding(self, step: Step) -> Coded:
        encoding = act_encoding(step)
        trial = torch.from_numpy(np.random.default_rng(0).standard_normal((step.shape[0], 64), dtype=np.float32))
        if problem := check_forward(step.module, encoding, spread(trial, step.shape), 1):  # type: ignore[arg-type]
            raise refusal(step, problem)
        return encoding

    def _thresholded(self, step: Step, x: str, encoding: Coded, found: Thresholds) -> str:
        """The Quantize node; quantisers of one value that decide alike share it."""
        key = (x, encoding, found.rows.tobytes(), found.rows.shape, None if found.descending is None else found.descending.tobytes())
        if key not in self._quantized:
            fields: dict[str, Any] = {"thresholds": self.builder.array(f"{step.path}.thresholds", found.rows)}
            if found.descending is not None:
                flags = Constant.from_codes(np.where(found.descending, -1, 1).astype(np.int16), Binary())
                fields["descending"] = self.builder.constant(f"{step.path}.descending", flags)
            self._quantized[key] = self.builder.add(ops.Quantize, step.path, x=x, encoding=encoding, **fields)
        return self._quantized[key]

    # ---- chains

    def _chain(self, first: Step) -> Chain | None:
        """The steps from ``first`` to quantisers that are the only readers; None if there are others on the way."""
        functions: list[Step] = []
        step = first
        while step.op in _IN_CHAINS:
            functions.append(step)
            readers = self.readers[step]
            if readers and all(r is not None and r.op is ops.Quantize for r in readers):
                return _allowed(Chain(tuple(functions), tuple(r for r in readers if r is not None)))
            reader = self._only_reader(step)
            if reader is None:
                return None
            step = reader
        return None

    def _float_chain(self, first: Step) -> bool:
        """Monotone functions of a float value, then quantisers: thresholds on the float value itself."""
        chain = self._chain(first)
        if chain is None or not all(_monotone(s) for s in chain.functions):
            return False
        source = first.inputs[0]
        found: list[tuple[Step, Coded, Thresholds]] = []
        for step in chain.quantizers:
            encoding = self._encoding(step)
            many = len(encoding.alphabet()) - 1 > MAX_ROW and not all(_same_in_channels(s) for s in chain.functions)
            if many or not self._flattens(chain, step, encoding):
                return False
            thresholds = float_thresholds(Entries(step.module, encoding, chain.tail()), source.shape)  # type: ignore[arg-type]
            if thresholds is None:
                return False
            if chain.pool is not None and not self._pools_codes(chain, step, encoding):
                return False
            found.append((step, encoding, thresholds))
        for step, encoding, thresholds in found:
            codes = self._thresholded(step, self._float(source), encoding, thresholds)
            self._move_codes(chain, step, codes, encoding, pooled=False)
        return True

    def _integer_chain(self, layer: Step, weight: Weight, made: Terms, source: Value) -> bool:
        """A coded layer that feeds only quantisers: thresholds on its accumulators."""
        assert source.coded is not None
        readers = self.readers[layer]
        direct = bool(readers) and all(r is not None and r.op is ops.Quantize for r in readers)
        only = self._only_reader(layer)
        chain = Chain((), tuple(r for r in readers if r is not None)) if direct else self._chain(only) if only is not None else None
        if chain is None or not made.same_everywhere:
            return False
        accumulated = Accumulated(made.mul, made.bias, *sum_range(layer, weight, source.coded), layer.shape)
        monotone = all(_monotone(s) for s in chain.functions)
        found: list[tuple[Step, Coded, Thresholds, bool]] = []
        for step in chain.quantizers:
            encoding = self._encoding(step)
            entries = Entries(step.module, encoding, chain.tail())  # type: ignore[arg-type]
            if len(entries.alphabet) - 1 > MAX_ROW or not self._flattens(chain, step, encoding):
                return False
            pool_first = chain.pool is not None and not self._pools_codes(chain, step, encoding)
            if pool_first and not (monotone and never_falls(accumulated, chain.tail(0, chain.pool))):
                return False
            thresholds = integer_thresholds(accumulated, entries, monotone)
            if thresholds is None:
                return False
            found.append((step, encoding, thresholds, pool_first))
        core = self._core(layer, weight, source.name, None, source.coded)
        self.values[layer] = Value(core)
        for step, encoding, thresholds, pool_first in found:
            x = self._pool(chain, core) if pool_first else core
            self._move_codes(chain, step, self._thresholded(step, x, encoding, thresholds), encoding, pool_first)
        return True

    def _pool(self, chain: Chain, x: str) -> str:
        assert chain.pool is not None
        step = chain.functions[chain.pool]
        return self.builder.add(ops.MaxPool, step.path, x=x, **step.attrs)

    def _move_codes(self, chain: Chain, step: Step, codes: str, encoding: Coded, pooled: bool) -> None:
        """What of the chain runs on codes: the pooling, unless it already ran, and the flattening."""
        if chain.pool is not None and not pooled:
            codes = self._pool(chain, codes)
        if chain.flatten is not None:
            codes = self.builder.add(ops.Flatten, chain.flatten.path, x=codes)
        for function in chain.functions:
            self.values[function] = Value(codes)
        self.values[step] = Value(codes, encoding)

    def _pools_codes(self, chain: Chain, step: Step, encoding: Coded) -> bool:
        """Whether everything behind the pooling rises in every channel, so that the largest value has the largest code."""
        assert chain.pool is not None
        behind = chain.functions[chain.pool + 1 :]
        if not all(_monotone(s) for s in behind):
            return False
        entries = Entries(step.module, encoding, chain.tail(chain.pool + 1))  # type: ignore[arg-type]
        found = float_thresholds(entries, chain.functions[chain.pool].shape)
        return found is not None and found.descending is None

    def _flattens(self, chain: Chain, step: Step, encoding: Coded) -> bool:
        """Codes may be taken before a flattening if the quantiser treats all features alike, or there is one per channel."""
        if chain.flatten is None or chain.flatten.inputs[0].shape[1:] == (1, 1):
            return True
        found = float_thresholds(Entries(step.module, encoding), step.shape)  # type: ignore[arg-type]
        return found is not None and found.per_tensor


def _allowed(chain: Chain) -> Chain | None:
    kinds = [s.op for s in chain.functions]
    good = kinds.count(ops.MaxPool) <= 1 and ops.Flatten not in kinds[:-1]
    return chain if good else None


def _monotone(step: Step) -> bool:
    """Whether the function cannot turn round within a channel: slopes of one sign on both sides."""
    if step.op is not ops.TwoSlope:
        return True
    neg, pos = step.array("neg"), np.asarray(step.attrs.get("pos", 1.0))
    return bool((neg * pos >= 0).all())


def _same_in_channels(step: Step) -> bool:
    """Whether one row of thresholds would serve all channels."""
    return all((v == v.flat[0]).all() for v in step.attrs.values() if isinstance(v, np.ndarray))


def input_types(steps: list[Step], pixels: Pixels | None = None) -> dict[str, TensorType]:
    return {s.path: TensorType(s.shape, Float() if pixels is None else pixels.encoding) for s in steps if s.op is None}
