"""OpenVINO CPU plugin, int8 by NNCF post-training quantisation; without NNCF the QDQ model that ONNX Runtime's quantiser wrote."""

import contextlib
import io
import logging
from importlib.util import find_spec
from typing import Any

import numpy as np

from bitfold.bench.peers import onnxruntime_int8
from bitfold.bench.peers._base import Prepared, Subject, missing, no_telemetry
from bitfold.bench.peers.openvino_float32 import compiled, read

PRECISION = "int8"


def available() -> str | None:
    return missing("onnx", "openvino") or (missing("onnxruntime") if find_spec("nncf") is None else None)


def prepare(subject: Subject) -> Prepared:
    if find_spec("nncf") is None:
        return compiled(read(onnxruntime_int8.quantised(subject)), subject, "QDQ model of ONNX Runtime (NNCF not installed)")
    note = f"NNCF, {len(subject.calibration)} calibration inputs"
    return compiled(_quantised(read(subject.onnx), subject), subject, note)


def _quantised(model: Any, subject: Subject) -> Any:
    with no_telemetry():
        import nncf

    nncf.set_log_level(logging.ERROR)
    data = nncf.Dataset([np.ascontiguousarray(x) for x in subject.calibration])
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        return nncf.quantize(model, data, preset=nncf.QuantizationPreset.MIXED, subset_size=len(subject.calibration))
