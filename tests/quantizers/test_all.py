"""What every quantiser promises, for every quantiser found in the package."""

import copy
import inspect
import pkgutil
from collections.abc import Callable
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

import bitfold.quantizers
from bitfold.ir.encoding import Float, values
from bitfold.quantizers.adabin import AdaBinActivation, AdaBinWeight
from bitfold.quantizers.approx_sign import ApproxSign
from bitfold.quantizers.base import Identity, Quantizer
from bitfold.quantizers.classifier_sign import Classifier, ClassifierSign
from bitfold.quantizers.dsq import DSQSign
from bitfold.quantizers.dte import DTE
from bitfold.quantizers.ede import EDE
from bitfold.quantizers.fda import FDASign, NoiseAdaptation
from bitfold.quantizers.linear import LinearQuant
from bitfold.quantizers.log import LogQuant
from bitfold.quantizers.normalized import Normalized
from bitfold.quantizers.odd import OddQuant
from bitfold.quantizers.rbnn import RBNNSign
from bitfold.quantizers.rbonn import RBONNWeight
from bitfold.quantizers.rsign import RSign
from bitfold.quantizers.scaled_sign import ScaledSign
from bitfold.quantizers.shift import SignSparseShift
from bitfold.quantizers.sign import Sign
from bitfold.quantizers.sign_swish import SignSwish
from bitfold.quantizers.stochastic_sign import StochasticSign
from bitfold.quantizers.tanh_odd import TanhOdd
from bitfold.quantizers.weight_sign import WeightSign

SHAPE = (3, 4, 2, 2)  # of a weight, and of a batch of images with 4 channels


def _adabin(mode: str, alpha: float, beta: float) -> AdaBinActivation:
    quantizer = AdaBinActivation(mode)  # type: ignore[arg-type]
    torch.nn.init.constant_(quantizer.alpha, alpha)
    torch.nn.init.constant_(quantizer.beta, beta)
    return quantizer


def _rsign() -> RSign:
    quantizer = RSign(4)
    torch.nn.init.normal_(quantizer.shift)
    return quantizer


MAKERS: dict[type[Quantizer], list[Callable[[], Quantizer]]] = {
    Sign: [Sign, lambda: Sign(strict=True), lambda: Sign(clip=float("inf"))],
    ApproxSign: [ApproxSign],
    DTE: [lambda: DTE(10.0), lambda: DTE(10.0, eps=0.9)],
    EDE: [EDE, lambda: EDE(0.01), lambda: EDE(10.0)],
    StochasticSign: [StochasticSign],
    SignSwish: [SignSwish, lambda: SignSwish(1.0)],
    DSQSign: [DSQSign, lambda: DSQSign(0.5)],
    RBNNSign: [RBNNSign, lambda: RBNNSign(0.01), lambda: RBNNSign(0.1, least=1.0)],
    TanhOdd: [lambda b=b: TanhOdd(b) for b in (2, 4)],  # type: ignore[misc]
    RSign: [_rsign],
    Normalized: [lambda: Normalized(_rsign(), torch.nn.BatchNorm2d(4))],
    ScaledSign: [lambda r=rule: ScaledSign(r) for rule in ("swap", "detach", "exact", "paper", "code")],  # type: ignore[misc]
    WeightSign: [lambda k=k: WeightSign(Sign(), k) for k in ("none", "layer", "filter", "pow2")]  # type: ignore[misc]
    + [lambda: WeightSign(Sign(), "learned", scale_init=torch.tensor([0.5, -0.25, 2.0]).reshape(3, 1, 1, 1))],
    AdaBinWeight: [lambda: AdaBinWeight(EDE())],
    AdaBinActivation: [lambda m=m, a=a, b=b: _adabin(m, a, b) for m in ("code", "paper") for a, b in [(0.7, 0.3), (-0.4, 0.2), (1, 0)]],  # type: ignore[misc]
    LinearQuant: [lambda b=b, s=s, n=n: LinearQuant(b, s, n) for b in (2, 3, 8) for s in (True, False) for n in (True, False)],  # type: ignore[misc]
    OddQuant: [lambda b=b: OddQuant(b) for b in (2, 5, 8)],  # type: ignore[misc]
    LogQuant: [lambda b=b, n=n: LogQuant(b, n) for b in (2, 3, 5) for n in (True, False)],  # type: ignore[misc]
    SignSparseShift: [lambda b=b: SignSparseShift(torch.Size(SHAPE), b) for b in (2, 3, 5)],  # type: ignore[misc]
    ClassifierSign: [lambda h=h, d=d: ClassifierSign(Classifier(h), d) for h, d in [(100, "sign"), (5, "argmax"), (0, "argmax")]],  # type: ignore[misc]
    FDASign: [FDASign, lambda: FDASign(clip=1.0, terms=18, noise=NoiseAdaptation(4, "image"))],
    RBONNWeight: [lambda b=b: RBONNWeight(torch.Size(SHAPE), backtrack=b) for b in ("off", "code", "code_fixed_rank", "paper")],  # type: ignore[misc]
}
CASES = [(f"{cls.__name__}-{i}", make) for cls, makers in MAKERS.items() for i, make in enumerate(makers)]
cases = pytest.mark.parametrize("make", [make for _, make in CASES], ids=[name for name, _ in CASES])


def test_the_list_is_complete() -> None:
    found = set()
    for module in pkgutil.iter_modules(bitfold.quantizers.__path__):
        members = vars(import_module(f"bitfold.quantizers.{module.name}")).values()
        found |= {m for m in members if isinstance(m, type) and issubclass(m, Quantizer)}
    assert found - {Quantizer, Identity} == set(MAKERS)


tensors = hnp.arrays(np.float32, SHAPE, elements=st.floats(-4, 4, width=32, allow_subnormal=False))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(x=tensors)
def test_codes_encoding_and_forward_agree(x: np.ndarray) -> None:
    torch.manual_seed(0)
    t = torch.tensor(x)
    for name, make in CASES:
        quantizer = make().eval()
        if isinstance(quantizer, AdaBinWeight) and bool((quantizer.binary_set(t)[1] == 0).any()):
            continue  # a constant filter is NaN, as published
        codes, encoding, y = quantizer.codes(t), quantizer.encoding(t), quantizer(t).detach()
        assert not isinstance(encoding, Float), name
        assert codes.dtype == torch.int32 and codes.shape == t.shape and y.shape == t.shape and y.dtype == t.dtype, name
        assert set(codes.flatten().tolist()) <= set(encoding.alphabet()), name
        np.testing.assert_allclose(y.numpy(), values(encoding, codes.numpy()), rtol=1e-6, atol=1e-6, err_msg=name)


@cases
def test_gradient_reaches_input_and_parameters(make: Callable[[], Quantizer], rng: np.random.Generator) -> None:
    quantizer = make()
    x = torch.tensor(rng.uniform(-0.9, 0.9, SHAPE), dtype=torch.float32, requires_grad=True)
    quantizer(x).square().sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all()) and bool((x.grad != 0).any())
    for name, p in quantizer.named_parameters():
        assert p.grad is not None and bool(p.grad.isfinite().all()), name


@cases
def test_copied_and_other_dtypes(make: Callable[[], Quantizer], rng: np.random.Generator) -> None:
    quantizer = make().eval()
    x = torch.tensor(rng.normal(size=SHAPE), dtype=torch.float32)
    assert torch.equal(copy.deepcopy(quantizer)(x), quantizer(x))
    double: Tensor = copy.deepcopy(quantizer).double()(x.double())
    assert double.dtype == torch.float64
    half: Tensor = copy.deepcopy(quantizer).bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16


@pytest.mark.parametrize("cls", MAKERS, ids=lambda cls: cls.__name__)
def test_compiles_without_a_graph_break(cls: type[Quantizer], rng: np.random.Generator) -> None:
    quantizer = MAKERS[cls][0]().eval()
    x = torch.tensor(rng.normal(size=SHAPE), dtype=torch.float32)
    torch.compiler.reset()
    assert torch.equal(torch.compile(quantizer, backend="eager", fullgraph=True)(x), quantizer(x))


def test_no_quantiser_uses_torch_sign() -> None:
    for module in pkgutil.iter_modules(bitfold.quantizers.__path__):
        code = inspect.getsource(import_module(f"bitfold.quantizers.{module.name}"))
        assert "torch.sign(" not in code and ".sign()" not in code, module.name
