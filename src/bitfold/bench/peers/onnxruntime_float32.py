"""ONNX Runtime, CPU provider, float32, all graph optimisations."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bitfold.bench.peers._base import Prepared, Subject, missing

PRECISION = "float32"


def available() -> str | None:
    return missing("onnx", "onnxruntime")


def prepare(subject: Subject) -> Prepared:
    return session(subject.onnx, subject)


def session(path: Path, subject: Subject, note: str = "CPU provider", config: Mapping[str, str] | None = None) -> Prepared:
    """Any ONNX file of one input, on the subject's x and threads. ``config``: entries of the session's configuration."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = subject.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    for key, value in (config or {}).items():
        options.add_session_config_entry(key, value)

    def opened() -> Any:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    net = opened()
    feed = {net.get_inputs()[0].name: np.ascontiguousarray(subject.x)}
    return Prepared(lambda: net.run(None, feed)[0], note, lambda: opened().run(None, feed)[0])
