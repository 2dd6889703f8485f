"""Methods are found by file name; fields are checked."""

import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest

from bitfold import methods
from bitfold.errors import ConfigError


def test_names_are_files() -> None:
    assert methods.names() == sorted(methods.names())
    assert {"adabin", "bireal", "float", "qnn", "reactnet", "s3", "xnor_net"} <= set(methods.names())
    assert not {"base", "_apply"} & set(methods.names())


def test_names_need_no_torch() -> None:
    code = "import sys, bitfold; assert bitfold.methods.names(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_method_and_field() -> None:
    with pytest.raises(ConfigError, match=r"unknown method 'adabinn'; did you mean 'adabin'\? known: adabin, "):
        methods.get("adabinn")
    with pytest.raises(ConfigError, match=r"unknown field of method 'adabin' 'max_out'; did you mean 'maxout'.*t_min: float = 0.001"):
        methods.get("adabin", max_out=True)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("adabin", {"center_mode": "cod"}, r"unknown AdaBin\.center_mode 'cod'; did you mean 'code'"),
        ("adabin", {"maxout": 1}, r"AdaBin\.maxout: expected bool, got 1"),
        ("adabin", {"t_min": "small"}, r"AdaBin\.t_min: expected float, got 'small'"),
        ("adabin", {"t_min": 20}, "allowed: 0 < t_min <= t_max"),
        ("qnn", {"weight_bits": True}, r"QNN\.weight_bits: expected int, got True"),
        ("qnn", {"weight_bits": 9}, "weight_bits=9 with kind='linear'; allowed: 1 to 8"),
        ("qnn", {"act_bits": 6, "kind": "log"}, "act_bits=6 with kind='log'; allowed: 1 to 5"),
        ("qnn", {"act_bits": 2, "act_rounding": "stochastic"}, "is defined for act_bits=1, got 2"),
        ("qnn", {"act_signed": True}, "act_signed=True is a choice of kind='linear'"),
        ("qnn", {"grad_bits": 17}, r"allowed: 0 \(float\) to 16"),
        ("s3", {"bits": 6}, "bits=6; allowed: 2 to 5"),
        ("s3", {"reg": -1.0}, "allowed: >= 0"),
        ("xnor_net", {"mode": "bwn", "input_scale": "K"}, "mode='bwn' keeps inputs in float"),
        ("xnor_net", {"act_bits": 0}, "allowed: 1 to 8"),
        ("float", {"first": True}, "float quantises no layer"),
    ],
)
def test_bad_fields(name: str, fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        methods.get(name, **fields)


@pytest.mark.parametrize("name", methods.names())
def test_description(name: str) -> None:
    info = methods.describe(name)
    assert info.name == name and len(info.summary) > 20
    assert methods.get(name, **{f.name: f.default for f in info.fields}) == methods.get(name)
    if name not in ("float", "compose", "bitfold_best"):  # of no paper
        assert "arXiv" in info.summary
    with pytest.raises(FrozenInstanceError):
        methods.get(name).first = True  # type: ignore[misc]


def test_an_integer_serves_as_a_float() -> None:
    assert methods.get("adabin", t_max=5).t_max == 5  # type: ignore[attr-defined]
