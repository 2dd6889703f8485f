"""OpenVINO CPU plugin, float32 (bfloat16, its default where the CPU has it, is switched off)."""

from pathlib import Path
from typing import Any

import numpy as np

from bitfold.bench.peers._base import Prepared, Subject, missing, no_telemetry

PRECISION = "float32"


def available() -> str | None:
    return missing("onnx", "openvino")


def prepare(subject: Subject) -> Prepared:
    prepared = compiled(read(subject.onnx), subject, "CPU plugin, one stream")
    return prepared._replace(first=lambda: compiled(read(subject.onnx), subject, prepared.note).call())


def read(onnx: Path) -> Any:
    """The file as an ``openvino.Model``."""
    with no_telemetry():
        import openvino as ov

    return ov.Core().read_model(onnx)


def compiled(model: Any, subject: Subject, note: str) -> Prepared:
    """An ``openvino.Model`` on the subject's x and threads: latency mode, one stream, no copies at the door."""
    import openvino as ov

    config = {
        "INFERENCE_NUM_THREADS": subject.threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = ov.Core().compile_model(model, "CPU", config).create_infer_request()
    inputs = [np.ascontiguousarray(subject.x)]

    def call() -> np.ndarray:
        return request.infer(inputs, share_inputs=True, share_outputs=True)[0]  # type: ignore[no-any-return]

    return Prepared(call, note)
