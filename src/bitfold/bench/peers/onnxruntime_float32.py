"""ONNX Runtime, CPU provider, float32, all graph optimisations."""

from pathlib import Path

import numpy as np

from bitfold.bench.peers._base import Prepared, Subject, missing

PRECISION = "float32"


def available() -> str | None:
    return missing("onnx", "onnxruntime")


def prepare(subject: Subject) -> Prepared:
    return session(subject.onnx, subject)


def session(path: Path, subject: Subject, note: str = "CPU provider") -> Prepared:
    """Any ONNX file of one input, on the subject's x and threads."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = subject.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    net = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {net.get_inputs()[0].name: np.ascontiguousarray(subject.x)}
    return Prepared(lambda: net.run(None, feed)[0], note)
