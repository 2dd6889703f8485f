"""ONNX Runtime, static int8: QDQ form, uint8 activations, int8 weights per channel, ranges from the calibration inputs."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bitfold.bench.peers._base import Prepared, Subject, missing
from bitfold.bench.peers.onnxruntime_float32 import session

PRECISION = "int8"


def available() -> str | None:
    return missing("onnx", "onnxruntime")


def prepare(subject: Subject) -> Prepared:
    return session(quantised(subject), subject, f"static QDQ, {len(subject.calibration)} calibration inputs")


def quantised(subject: Subject) -> Path:
    """The QDQ model's file."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.inputs: Iterator[np.ndarray] = iter(subject.calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            x = next(self.inputs, None)
            return None if x is None else {"x": x}

    clean, path = subject.folder / "clean.onnx", subject.folder / "qdq.onnx"
    quiet = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # the quantiser advises on the root logger
    try:
        quant_pre_process(str(subject.onnx), str(clean), skip_symbolic_shape=True)
        quantize_static(
            str(clean),
            str(path),
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
    finally:
        logging.getLogger().setLevel(quiet)
    return path
