"""Random small valid graphs over all operations and encodings, and inputs for them; also used to compare the engine.

``random_graph(rng)`` draws nodes until it has ``length`` of them; a value may be read many times. Thresholds, scales and shapes
are drawn so that codes vary. ``graphs()`` is the hypothesis strategy: (seed, graph); print the seed to repeat a failure.
"""

import numpy as np
from hypothesis import strategies as st

from bitfold.ir import ops
from bitfold.ir.encoding import Accumulator, Binary, Coded, Element, Float, PowerOfTwo, Ternary, Uniform
from bitfold.ir.graph import Constant, Graph, TensorType
from bitfold.ir.infer import infer_node
from bitfold.ir.unary import UNARY

CHANNELS = (1, 2, 3, 4, 7, 8, 9, 12, 16, 33, 64, 65)
SIZES = (1, 2, 3, 5, 6, 8, 9)


def random_graph(rng: np.random.Generator, length: int = 12) -> Graph:
    """A valid graph of ``length`` nodes or a few more; its outputs are the values that nothing reads."""
    return _Builder(rng).build(length)


def random_inputs(graph: Graph, rng: np.random.Generator, batch: int = 2) -> list[np.ndarray]:
    """One array for each input of the graph."""
    return [random_array(tensor, rng, batch) for tensor in graph.inputs.values()]


def random_array(tensor: TensorType, rng: np.random.Generator, batch: int = 2) -> np.ndarray:
    shape = (batch, *tensor.shape)
    if isinstance(tensor.element, Float):
        return rng.standard_normal(shape).astype(np.float32)
    codes = rng.choice(tensor.element.alphabet(), shape)
    return codes.astype(np.uint8 if tensor.element == Uniform(8, False) else np.int16)


def random_encoding(rng: np.random.Generator) -> Coded:
    """Any encoding, small ones more often, with a scalar scale and an offset where it has one."""
    scale = float(rng.uniform(0.1, 2.0))
    bits, signed = int(rng.choice([1, 2, 2, 3, 4, 8])), bool(rng.integers(2))
    low = -(1 << bits - 1) if signed else 0
    return [
        lambda: Binary(scale, float(rng.choice([0.0, 0.25]))),
        lambda: Ternary(scale),
        lambda: PowerOfTwo(int(rng.integers(1, 4)), int(rng.integers(2)), scale),
        lambda: Uniform(bits, signed, scale, int(rng.integers(low, low + (1 << bits)))),
        lambda: Binary(),
    ][rng.integers(5)]()


graph_seeds = st.integers(0, 2**32 - 1)


def graphs(length: int = 12) -> st.SearchStrategy[tuple[int, Graph]]:
    return graph_seeds.map(lambda seed: (seed, random_graph(np.random.default_rng(seed), length)))


class _Builder:
    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.inputs: dict[str, TensorType] = {}
        self.nodes: list[ops.Node] = []
        self.constants: dict[str, Constant] = {}
        self.types: dict[str, TensorType] = {}

    def build(self, length: int) -> Graph:
        for i in range(int(self.rng.integers(1, 3))):
            element: Element = Float() if self.rng.integers(2) else random_encoding(self.rng)
            size = (self.channels(),) if self.rng.integers(5) == 0 else (self.channels(), self.size(), self.size())
            self.inputs[f"x{i}"] = self.types[f"x{i}"] = TensorType(size, element)
        while len(self.nodes) < length:
            self.step()
        read = {name for node in self.nodes for name in ops.input_names(node)}
        outputs = tuple(node.output for node in self.nodes if node.output not in read)
        return Graph(self.inputs, tuple(self.nodes), outputs, self.constants, "random", {"made by": "tests"})

    def step(self) -> None:
        """One node on a value, a recent one more often."""
        names = list(self.types)
        name = names[max(0, len(names) - 1 - int(self.rng.geometric(0.4) - 1))]
        tensor = self.types[name]
        image = len(tensor.shape) == 3
        choices = [self.conv, self.conv, self.max_pool, self.flatten, self.upsample] if image else [self.linear, self.linear]
        choices.append(self.concat)
        if isinstance(tensor.element, Float):
            choices += [self.quantize] * 4 + [self.affine, self.add, self.mul, self.clamp, self.two_slope, self.abs, self.unary]
            choices += [self.softmax, self.pad, self.slice, self.rearrange]
            choices += [self.avg_pool, self.mean, self.depth_to_space, self.matmul] if image else []
        elif isinstance(tensor.element, Accumulator):
            choices = [self.quantize, self.quantize, self.affine, self.concat] + (
                [self.max_pool, self.flatten, self.upsample] if image else []
            )
        else:
            choices += [self.dequantize] + [self.conv if image else self.linear] * 3
        choices[self.rng.integers(len(choices))](name, tensor)

    # ---- drawing ------------------------------------------------------------------------------------------------------------

    def channels(self) -> int:
        return int(self.rng.choice(CHANNELS))

    def size(self) -> int:
        return int(self.rng.choice(SIZES))

    def floats(self, *shape: int, mean: float = 0.0) -> str:
        return self.constant(Constant.from_array((self.rng.standard_normal(shape) + mean).astype(np.float32)))

    def constant(self, constant: Constant) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = constant
        return name

    def maybe(self, make, *args):  # type: ignore[no-untyped-def]
        return make(*args) if self.rng.integers(2) else None

    def put(self, op: type[ops.Node], **fields) -> None:  # type: ignore[no-untyped-def]
        i = len(self.nodes)
        node = op(name=f"layer{i}.{op.__name__.lower()}", output=f"v{i}", **fields)
        self.types[node.output] = infer_node(node, self.types, self.constants)
        self.nodes.append(node)

    # ---- operations ---------------------------------------------------------------------------------------------------------

    def weight(self, x: Element, shape: tuple[int, ...], metric: str) -> str:
        if metric == ops.DISTANCE:
            assert isinstance(x, Uniform)
            wider = [bits for bits in range(1, 11) if Uniform(bits, x.signed).min_code <= x.zero_point <= Uniform(bits, x.signed).max_code]
            near = Uniform(int(self.rng.choice(wider)), x.signed, x.scale, x.zero_point)
            return self.constant(Constant.from_codes(self.rng.choice(near.alphabet(), shape), near))
        if isinstance(x, Float) and self.rng.integers(3):
            return self.floats(*shape)
        encoding = random_encoding(self.rng)
        return self.constant(Constant.from_codes(self.rng.choice(encoding.alphabet(), shape), encoding))

    def metric(self, x: Element) -> str:
        return ops.DISTANCE if isinstance(x, Uniform) and x.bits <= 8 and self.rng.integers(2) else ops.PRODUCT

    def epilogue(self, weight: str, tensor: TensorType, metric: str) -> ops.Epilogue | None:
        x = tensor.element
        constant = self.constants[weight]
        out = constant.type.shape[0]
        exact = metric == ops.PRODUCT and not isinstance(x, Float) and not isinstance(constant.type.element, Float)
        if self.rng.integers(3) == 0:
            return None
        extra = {name: self.maybe(self.floats, out) for name in ("patch_mul", "weight_mul", "tap_mul")} if exact else {}
        if exact:
            extra["x_offset"] = self.maybe(self.floats, tensor.shape[0])
        return ops.Epilogue(mul=self.maybe(self.floats, out), bias=self.maybe(self.floats, out), **extra)

    def conv(self, name: str, x: TensorType) -> None:
        channels, height, width = x.shape
        groups = int(self.rng.choice([g for g in range(1, channels + 1) if channels % g == 0])) if self.rng.integers(3) == 0 else 1
        out = groups * int(self.rng.integers(1, 4)) if groups > 1 else self.channels()
        padding = (int(self.rng.integers(3)), int(self.rng.integers(3)))
        dilation = (int(self.rng.integers(1, 3)), int(self.rng.integers(1, 3)))
        kernel = []
        for size, pad, step in ((height, padding[0], dilation[0]), (width, padding[1], dilation[1])):
            fitting = [k for k in (1, 2, 3, 3, 3, 5) if step * (k - 1) < size + 2 * pad]
            kernel.append(int(self.rng.choice(fitting)))
        metric = self.metric(x.element)
        weight = self.weight(x.element, (out, channels // groups, *kernel), metric)
        self.put(
            ops.Conv,
            x=name,
            weight=weight,
            stride=(int(self.rng.integers(1, 4)), int(self.rng.integers(1, 3))),
            padding=padding,
            dilation=dilation,
            groups=groups,
            metric=metric,
            epilogue=self.epilogue(weight, x, metric),
        )

    def linear(self, name: str, x: TensorType) -> None:
        metric = self.metric(x.element)
        weight = self.weight(x.element, (self.channels(), x.shape[0]), metric)
        self.put(ops.Linear, x=name, weight=weight, metric=metric, epilogue=self.epilogue(weight, x, metric))

    def quantize(self, name: str, x: TensorType) -> None:
        encoding = random_encoding(self.rng)
        rows = x.shape[0] if self.rng.integers(2) else 1
        spread = min(x.element.bound, 60) if isinstance(x.element, Accumulator) else 1.5
        thresholds = np.sort(self.rng.uniform(-spread, spread, (rows, len(encoding.alphabet()) - 1)), axis=1).astype(np.float32)
        if self.rng.integers(4) == 0:
            thresholds[0, -1] = np.inf
        if isinstance(x.element, Accumulator):
            thresholds = np.clip(np.rint(thresholds), -(1 << 31), (1 << 31) - 128).astype(np.int32)
        flags = self.maybe(lambda: self.constant(Constant.from_codes(self.rng.choice([-1, 1], x.shape[0]), Binary())))
        self.put(ops.Quantize, x=name, thresholds=self.constant(Constant.from_array(thresholds)), encoding=encoding, descending=flags)

    def dequantize(self, name: str, x: TensorType) -> None:
        self.put(ops.Dequantize, x=name)

    def affine(self, name: str, x: TensorType) -> None:
        self.put(ops.Affine, x=name, mul=self.floats(x.shape[0]), bias=self.floats(x.shape[0]))

    def partner(self, name: str, x: TensorType) -> str:
        """A float value that broadcasts to x: x itself, a mean of it, or another value of its shape."""
        if len(x.shape) == 3 and self.rng.integers(2):
            self.put(ops.Mean, x=name, over=str(self.rng.choice(["space", "channels"])))
            return self.nodes[-1].output
        same = [n for n, t in self.types.items() if t.shape == x.shape and isinstance(t.element, Float)]
        return str(self.rng.choice(same))

    def add(self, name: str, x: TensorType) -> None:
        self.put(ops.Add, a=name, b=self.partner(name, x))

    def mul(self, name: str, x: TensorType) -> None:
        self.put(ops.Mul, a=name, b=self.partner(name, x))

    def clamp(self, name: str, x: TensorType) -> None:
        low, high = ((0.0, None), (-1.0, 1.0), (None, 0.5), (0.0, 6.0))[self.rng.integers(4)]
        self.put(ops.Clamp, x=name, low=low, high=high)

    def two_slope(self, name: str, x: TensorType) -> None:
        size = x.shape[0] if self.rng.integers(2) else 1
        fields = {field: self.maybe(self.floats, size) for field in ("pos", "shift_in", "shift_out")}
        self.put(ops.TwoSlope, x=name, neg=self.floats(size), **fields)

    def abs(self, name: str, x: TensorType) -> None:
        self.put(ops.Abs, x=name)

    def unary(self, name: str, x: TensorType) -> None:
        self.put(ops.Unary, x=name, kind=str(self.rng.choice(list(UNARY))))

    def softmax(self, name: str, x: TensorType) -> None:
        self.put(ops.Softmax, x=name)

    def window(self, x: TensorType) -> dict[str, tuple[int, ...]]:
        kernel = (int(self.rng.integers(1, min(4, x.shape[1] + 1))), int(self.rng.integers(1, min(4, x.shape[2] + 1))))
        padding = tuple(int(self.rng.integers(k)) for k in kernel * 2)
        return {"kernel": kernel, "stride": (int(self.rng.integers(1, 4)), int(self.rng.integers(1, 4))), "padding": padding}

    def pool(self, op: type[ops.Node], name: str, x: TensorType, **fields) -> None:  # type: ignore[no-untyped-def]
        """A window beyond the image may hold no pixel; then the rows and columns after the image are left out."""
        window = self.window(x)
        top, left, bottom, right = window["padding"]
        keep = [end if _all_windows_read(x.shape[1 + i], window, i, end) else 0 for i, end in enumerate((bottom, right))]
        self.put(op, x=name, kernel=window["kernel"], stride=window["stride"], padding=(top, left, *keep), **fields)

    def max_pool(self, name: str, x: TensorType) -> None:
        self.pool(ops.MaxPool, name, x)

    def avg_pool(self, name: str, x: TensorType) -> None:
        self.pool(ops.AvgPool, name, x, count_padding=bool(self.rng.integers(2)))

    def mean(self, name: str, x: TensorType) -> None:
        self.put(ops.Mean, x=name, over=str(self.rng.choice(["space", "channels"])))

    def flatten(self, name: str, x: TensorType) -> None:
        if np.prod(x.shape) <= 600:
            self.put(ops.Flatten, x=name)

    def concat(self, name: str, x: TensorType) -> None:
        fitting = [
            n for n, t in self.types.items() if t.element == x.element and t.shape[1:] == x.shape[1:] and len(t.shape) == len(x.shape)
        ]
        others = [str(n) for n in self.rng.choice(fitting, int(self.rng.integers(1, 3)))]
        if sum(self.types[n].shape[0] for n in others) + x.shape[0] <= 150:
            self.put(ops.Concat, xs=(name, *others))

    def slice(self, name: str, x: TensorType) -> None:
        start = int(self.rng.integers(x.shape[0]))
        self.put(ops.Slice, x=name, start=start, stop=int(self.rng.integers(start, x.shape[0])) + 1)

    def upsample(self, name: str, x: TensorType) -> None:
        """Any rows and columns in any order, with any weights, or with zeros in between."""
        out = (self.size(), self.size())
        between = isinstance(x.element, Float) and self.rng.integers(2)
        lowest = -1 if isinstance(x.element, Float) and not between and self.rng.integers(2) else 0
        tables = [self.constant(Constant.from_array(self.rng.integers(lowest, n, m))) for n, m in zip(x.shape[1:], out, strict=True)]
        weights: list[str | None] = [None, None]
        if between:
            weights = [self.constant(Constant.from_array(self.rng.uniform(0, 1, m).astype(np.float32))) for m in out]
        self.put(ops.Upsample, x=name, rows=tables[0], columns=tables[1], row_weights=weights[0], column_weights=weights[1])

    def depth_to_space(self, name: str, x: TensorType) -> None:
        channels, *size = x.shape
        fits = [(a, b) for a in (1, 2, 3) for b in (1, 2, 4) if channels % (a * b) == 0]
        factor = fits[self.rng.integers(len(fits))]
        out = channels // (factor[0] * factor[1])
        groups = int(self.rng.choice([g for g in range(1, out + 1) if out % g == 0]))
        crop = [int(self.rng.integers((n * f + 1) // 2)) for n, f in zip(size * 2, factor * 2, strict=True)]
        self.put(ops.DepthToSpace, x=name, factor=factor, groups=groups, crop=tuple(crop))

    def rearrange(self, name: str, x: TensorType) -> None:
        """The axes of x in another order; or any view, whose first number is drawn among those that keep it inside."""
        if self.rng.integers(2):
            axes = self.rng.permutation(len(x.shape))
            steps = [int(np.prod(x.shape[i + 1 :])) for i in range(len(x.shape))]
            sizes, strides = [x.shape[i] for i in axes], [steps[i] for i in axes]
            self.put(ops.Rearrange, x=name, shape=tuple(sizes), sizes=tuple(sizes), strides=tuple(strides))
            return
        shape = (self.channels(), self.size(), self.size()) if self.rng.integers(3) else (self.channels(),)
        sizes = [part for n in shape for part in ((1, n) if n % 2 else (n // 2, 2))]
        room, strides, offset = int(np.prod(x.shape)) - 1, [], 0
        for size in self.rng.permutation(len(sizes)):  # in any order, so that none is always the one that reaches far
            most = min(room // max(1, sizes[size] - 1), 40)
            strides.append((size, int(self.rng.integers(-most, most + 1))))
            room -= abs(strides[-1][1]) * (sizes[size] - 1)
            offset += max(0, -strides[-1][1]) * (sizes[size] - 1)
        offset += int(self.rng.integers(room + 1))
        self.put(ops.Rearrange, x=name, shape=shape, sizes=tuple(sizes), strides=tuple(s for _, s in sorted(strides)), offset=offset)

    def matmul(self, name: str, x: TensorType) -> None:
        """x times a view of itself."""
        terms, groups = x.shape[:2]
        channels = self.channels()
        reach = int(np.prod(x.shape)) - 1
        strides = tuple(int(self.rng.integers(min(reach // (3 * max(1, n - 1)), 9) + 1)) for n in (channels, groups, terms))
        shape = (channels, groups, terms)
        self.put(ops.Rearrange, x=name, shape=shape, sizes=shape, strides=strides)
        self.put(ops.MatMul, a=name, b=self.nodes[-1].output)

    def pad(self, name: str, x: TensorType) -> None:
        self.put(ops.PadChannels, x=name, before=int(self.rng.integers(4)), after=int(self.rng.integers(4)))


def _all_windows_read(size: int, window: dict[str, tuple[int, ...]], axis: int, after: int) -> bool:
    kernel, stride, before = window["kernel"][axis], window["stride"][axis], window["padding"][axis]
    last = (size + before + after - kernel) // stride * stride - before
    return last < size
