"""``bitfold.verify``: does the exported graph compute what was trained? Layer by layer in exact integers, then end to end.

A quantised layer is judged on the trained network's own codes: PyTorch convolves them in float64, where sums of integers are exact,
and the engine runs the layer alone, without its epilogue. End to end the codes that every layer meets are compared; they may differ
where float32 sums of another order fall on the other side of a threshold, and such flips are counted.

A graph that takes bytes has integers where the network has the float weights of its first layer. It is compared with the network that has
those integers' values there, in float; what the replacement itself changed is reported beside it.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitfold.errors import ExportError, unknown
from bitfold.export.export import frozen_copy
from bitfold.export.lower import PATCH_SUM
from bitfold.export.pixels import Pixels, pixels_of
from bitfold.export.report import ROUNDING, LayerCheck, StemCheck, VerifyReport
from bitfold.ir import ops
from bitfold.ir.encoding import Float, Uniform
from bitfold.ir.graph import Graph
from bitfold.ir.interpreter import interpret
from bitfold.layers.adder import adder_conv2d
from bitfold.layers.quant import QuantConv2d, QuantLinear

Backend = Literal["engine", "interpreter"]
Runner = Callable[..., Any]
INTERPRETER_IMAGES = 2  # the NumPy interpreter is slow; two images already meet every border


def verify(
    model: nn.Module,
    graph: Graph,
    x: Tensor | np.ndarray | tuple[Tensor | np.ndarray, ...],
    *,
    labels: Tensor | np.ndarray | None = None,
    layer_images: int = 16,
    batch: int = 64,
    backend: Backend = "engine",
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Compares ``graph`` with the ``model`` it was exported from, on the inputs ``x`` (N, ...), as the graph takes them.

    A graph that takes pictures takes bytes here too; the model gets them normalised as the graph's metadata say.
    ``layer_images``: how many of them check the accumulators. ``batch``: how many run at once. ``labels``: (N,) classes, for accuracy.
    ``backend``: the native engine with ``threads``, or the NumPy interpreter. ``progress``: called with (images done, of all) after
    every batch. The model is not changed.
    """
    if backend not in ("engine", "interpreter"):
        raise unknown("backend of verify", backend, ("engine", "interpreter"))
    xs = [torch.as_tensor(a).detach().cpu() for a in (x if isinstance(x, tuple) else (x,))]
    if min(layer_images, batch, len(xs[0])) < 1:
        raise ExportError(f"verify: {len(xs[0])} inputs, layer_images={layer_images}, batch={batch}; allowed: 1 or more")
    if labels is not None and len(labels) != len(xs[0]):
        raise ExportError(f"verify: {len(labels)} labels for {len(xs[0])} inputs")
    if graph.takes_bytes and xs[0].dtype != torch.uint8:
        raise ExportError(f"verify: x is {xs[0].dtype}; allowed for a graph that takes pictures as bytes: torch.uint8")
    with torch.no_grad():
        return _Verification(frozen_copy(model), graph, backend, threads, layer_images).run(xs, batch, labels, progress)


def _runner(graph: Graph, backend: Backend, threads: int) -> Runner:
    if backend == "interpreter":
        return lambda *inputs: interpret(graph, *inputs)
    from bitfold.engine.engine import load

    return load(graph, threads)


class _Layer:
    """A Conv or Linear whose weight has codes, its PyTorch module, and the counts so far.

    ``pixels``: the layer is an integer stem; the module's float weight becomes what the integers stand for.
    """

    def __init__(
        self, node: ops.Conv | ops.Linear, graph: Graph, module: nn.Module, make: Callable[[Graph], Runner], pixels: Pixels | None
    ) -> None:
        self.node, self.module, self.is_stem = node, module, pixels is not None
        self.x_type = graph.types[node.x]
        stored = graph.constants[node.weight]
        own = _weight_codes(module, stored.codes) if pixels is None else _integer_stem(module, node, pixels)
        own = own.reshape(stored.type.shape)
        self.weight = own.double()
        self.counts = dict.fromkeys(LayerCheck.__dataclass_fields__, 0)
        del self.counts["name"]
        self.counts["weights"], self.counts["weights_differ"] = (
            own.numel(),
            int(np.sum(own.numpy() != stored.codes)),
        )
        self.coded = not isinstance(self.x_type.element, Float)
        if self.coded:
            alone = replace(node, x="x", output="accumulators", epilogue=None)
            self.graph = Graph({"x": self.x_type}, (alone,), ("accumulators",), {node.weight: stored})
            self.run = make(self.graph)

    def codes(self, x: Tensor) -> Tensor:
        """The codes that the trained network has where this layer reads its input."""
        module: Any = self.module
        if isinstance(module, QuantConv2d | QuantLinear) and not isinstance(module.act_quant.encoding(), Float):
            return module.act_quant.codes(x)
        encoding: Any = self.x_type.element  # the input is a quantiser's output: its values stand for codes
        return ((x.double() - encoding.offset) / encoding.scale).round().to(torch.int32)

    def as_value(self, x: Tensor, images: int) -> Tensor:
        """A tensor of the module's input as the graph has it: the features of tokens are channels, tokens pixels."""
        if isinstance(self.module, nn.Linear) and isinstance(self.node, ops.Conv):
            x = x.reshape(images, -1, x.shape[-1]).movedim(-1, 1)  # windows or heads may lie in the batch
        return x.reshape(images, *self.x_type.shape)

    def exact(self, codes: Tensor) -> np.ndarray:
        """The accumulators as PyTorch gives them; float64 holds every partial sum."""
        if isinstance(self.node, ops.Linear):
            return F.linear(codes.double(), self.weight).numpy()
        node = self.node
        if node.metric == ops.DISTANCE:  # the code of 0 is 0
            return adder_conv2d(codes.double(), self.weight, node.stride, node.padding, node.dilation, node.groups).numpy()
        return F.conv2d(codes.double(), self.weight, None, node.stride, node.padding, node.dilation, node.groups).numpy()

    def check(self, codes: Tensor) -> None:
        expected = self.exact(codes)
        array = codes.numpy().astype(np.int16)
        self.counts["accumulators"] += expected.size
        self.counts["accumulators_differ"] += int(np.sum(self.run(array) != expected))
        if not self.counts["interpreter_accumulators"]:
            few = expected[:INTERPRETER_IMAGES]
            self.counts["interpreter_accumulators"] = few.size
            self.counts["interpreter_differ"] = int(np.sum(interpret(self.graph, array[:INTERPRETER_IMAGES]) != few))

    def unexplained(self, x: Tensor, met: np.ndarray, of: np.ndarray) -> int:
        """How many of the codes ``met`` are not those of the images ``of`` of PyTorch's ``x`` moved by its rounding errors."""
        module: Any = self.module
        x = x.reshape(len(of), -1, *x.shape[1:])[torch.from_numpy(of)].flatten(0, 1)
        if not len(x) or not isinstance(module, QuantConv2d | QuantLinear) or isinstance(module.act_quant.encoding(), Float):
            return 0  # the quantiser stands elsewhere: x has been rounded to codes already
        reach = ROUNDING * x.abs().max()
        ends = np.stack([self.as_value(module.act_quant.codes(moved), len(met)).numpy() for moved in (x - reach, x + reach)])
        return int(((met < ends.min(axis=0)) | (met > ends.max(axis=0))).sum())

    def result(self) -> LayerCheck:
        return LayerCheck(name=self.node.name, **self.counts)


def _integer_stem(module: Any, node: ops.Conv | ops.Linear, pixels: Pixels) -> Tensor:
    """The codes of a float layer's weight; the module gets the values they stand for, so that it computes what the stem does."""
    groups = node.groups if isinstance(node, ops.Conv) else 1
    pixels = pixels.flattened(module.weight.shape[1] * groups // len(pixels.mean))
    codes, values = pixels.codes_and_values(module.weight.numpy(), groups)
    module.weight.copy_(torch.from_numpy(values))
    return torch.from_numpy(codes.astype(np.int32))


def _weight_codes(module: nn.Module, stored: np.ndarray) -> Tensor:
    """The trained network's own weight codes, not the graph's."""
    if isinstance(module, QuantConv2d | QuantLinear):
        return module.weight_quant.codes(module.weight)
    return torch.from_numpy(stored)


class _Verification:
    def __init__(self, model: nn.Module, graph: Graph, backend: Backend, threads: int, layer_images: int) -> None:
        self.model, self.graph, self.backend, self.layer_images = model, graph, backend, layer_images
        self.pixels, self.trained = None, model  # the normalisation of bytes; the network before its stem is replaced
        for shape in (t.shape for t in graph.inputs.values() if not isinstance(t.element, Float)):
            self.pixels, self.trained = pixels_of(graph.metadata, shape[0], _stem_bits(graph)), copy.deepcopy(model)
        modules = dict(model.named_modules())
        self.layers: dict[nn.Module, list[_Layer]] = {}  # in the order of a module's calls
        for node in graph.nodes:
            if isinstance(node, ops.Conv | ops.Linear) and not isinstance(graph.constants[node.weight].type.element, Float):
                path = node.name.partition("#")[0]
                if path.endswith(PATCH_SUM):
                    continue  # a layer of ones that export added
                if path not in modules:
                    raise ExportError(f"verify: the graph's layer {node.name!r} is not in the model; export it again from this model")
                stem = self.pixels if _reads_input(graph, node.x) else None
                layer = _Layer(node, graph, modules[path], lambda g: _runner(g, backend, threads), stem)
                self.layers.setdefault(modules[path], []).append(layer)
        read = [layer.node.x for group in self.layers.values() for layer in group if layer.coded and not layer.is_stem]
        self.taps = [name for name in dict.fromkeys(read) if name not in graph.inputs]
        self.run_graph = _runner(graph, backend, threads)
        self.run_tapped = _runner(replace(graph, outputs=(*graph.outputs, *self.taps)), backend, threads)

    def run(
        self, xs: list[Tensor], batch: int, labels: Tensor | np.ndarray | None, progress: Callable[[int, int], None] | None
    ) -> VerifyReport:
        images = len(xs[0])
        trained_out: list[np.ndarray] = []
        torch_out: list[np.ndarray] = []
        graph_out: list[np.ndarray] = []
        clean: list[np.ndarray] = []
        different, different_clean, largest = 0.0, 0.0, 0.0
        for first in range(0, images, batch):
            part = [x[first : first + batch] for x in xs]
            expected, got, unflipped = self._batch(part, self.layer_images - first)
            for e, g in zip(expected, got, strict=True):
                distance = np.abs(e.astype(np.float64) - g).reshape(len(e), -1).max(axis=1)
                different, largest = max(different, distance.max()), max(largest, float(np.abs(e).max()))
                different_clean = max(different_clean, distance[unflipped].max(initial=0.0))
            torch_out.append(expected[0])
            if self.pixels is not None:
                trained_out.append(_several(self.trained(*self._floats(part)))[0].numpy())
            graph_out.append(got[0])
            clean.append(unflipped)
            if progress is not None:
                progress(first + len(part[0]), images)
        returned = np.concatenate(graph_out)
        top1, right_torch, right = _classes(np.concatenate(torch_out), returned, labels)
        stem = None
        if self.pixels is not None:
            trained = np.concatenate(trained_out)
            same, right_torch, _ = _classes(trained, returned, labels)
            stem = StemCheck(self.pixels.bits, float(np.abs(trained - returned).max()), same)
        return VerifyReport(
            graph=self.graph.name,
            backend=self.backend,
            images=images,
            layer_images=min(self.layer_images, images),
            layers=tuple(layer.result() for group in self.layers.values() for layer in group),
            images_without_flips=int(np.concatenate(clean).sum()),
            max_difference=float(different),
            max_difference_without_flips=float(different_clean),
            max_output=largest,
            top1_agree=top1,
            accuracy_torch=right_torch,
            accuracy=right,
            stem=stem,
        )

    def _floats(self, xs: list[Tensor]) -> list[Tensor]:
        """The inputs as the model takes them."""
        return xs if self.pixels is None else [torch.from_numpy(self.pixels.normalized(x.numpy())) for x in xs]

    def _batch(self, xs: list[Tensor], to_check: int) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
        """(PyTorch's outputs, the graph's, which images have no flipped code)."""
        arrays = [x.numpy().reshape(len(x), *t.shape) for x, t in zip(xs, self.graph.inputs.values(), strict=True)]
        got, tapped = _several(self.run_graph(*arrays)), _several(self.run_tapped(*arrays))
        for name, alone, beside in zip(self.graph.outputs, got, tapped, strict=False):
            if not np.array_equal(alone, beside, equal_nan=True):
                raise ExportError(f"verify: output {name!r} of {self.backend} changes when inner values are read as well")
        codes = dict(zip(self.taps, tapped[len(got) :], strict=True))
        unflipped = np.ones(len(arrays[0]), dtype=bool)
        calls: dict[nn.Module, int] = dict.fromkeys(self.layers, 0)

        def meet(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            layer = self.layers[module][calls[module]]
            calls[module] += 1
            if not layer.coded:
                return
            own = layer.as_value(xs[0].reshape(inputs[0].shape) if layer.is_stem else layer.codes(inputs[0]), len(xs[0]))
            if to_check > 0:
                layer.check(own[:to_check])
            if layer.node.x in codes:
                met = codes[layer.node.x]
                flips = (met != own.numpy()).reshape(len(own), -1).sum(axis=1)
                layer.counts["codes"] += own.numel()
                layer.counts["flipped"] += int(flips.sum())
                layer.counts["fresh"] += int(flips[unflipped].sum())
                layer.counts["unexplained"] += layer.unexplained(inputs[0], met[unflipped], unflipped)
                unflipped[flips > 0] = False

        handles = [module.register_forward_pre_hook(meet) for module in self.layers]
        try:
            expected = self.model(*self._floats(xs))
        finally:
            for handle in handles:
                handle.remove()
        answers = [e.numpy() for e in _several(expected)]
        return answers, [g.reshape(e.shape) for g, e in zip(got, answers, strict=True)], unflipped


def _reads_input(graph: Graph, value: str) -> bool:
    """Whether a value is the graph's input, flattened or not."""
    while value not in graph.inputs:
        maker = next(node for node in graph.nodes if node.output == value)
        if not isinstance(maker, ops.Flatten):
            return False
        value = maker.x
    return True


def _stem_bits(graph: Graph) -> int:
    """The bits of the weights that read the input. ExportError where it is not an integer stem."""
    layers = [n for n in graph.nodes if isinstance(n, ops.Conv | ops.Linear) and _reads_input(graph, n.x)]
    found = {graph.constants[n.weight].type.element for n in layers}
    bits = {e.bits for e in found if isinstance(e, Uniform) and e.signed}
    if len(found) != 1 or len(bits) != 1:
        raise ExportError("verify: the graph takes codes, but not into an integer stem; export it again from this model")
    return bits.pop()


def _several(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, tuple | list) else [outputs]


def _classes(expected: np.ndarray, got: np.ndarray, labels: Tensor | np.ndarray | None) -> tuple[int | None, float | None, float | None]:
    """(images whose top-1 class agrees, accuracy of PyTorch, accuracy of the graph) for outputs (N, classes)."""
    if expected.ndim != 2:
        return None, None, None
    a, b = expected.argmax(axis=1), got.argmax(axis=1)
    if labels is None:
        return int((a == b).sum()), None, None
    truth = np.asarray(labels)
    return int((a == b).sum()), float((a == truth).mean()), float((b == truth).mean())
