"""A generator file run by onnxruntime."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from gan_serve.contract import Contract
from gan_serve.errors import ContractError, GanportError, MissingPackageError
from gan_serve.generator import F32, I64, U8, Generator


class OnnxGenerator(Generator):
    """Runs an ONNX file that keeps the contract."""

    def __init__(self, path: str | os.PathLike[str], provider: str = "auto", threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingPackageError("onnxruntime", "cpu", "running ONNX models") from error
        data = Path(path).read_bytes()
        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self.session: Any = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise GanportError(f"{path} is not an ONNX model that onnxruntime can load: {error}") from error
        contract = Contract.from_metadata(self.session.get_modelmeta().custom_metadata_map, where=str(path))
        if contract is None:
            raise ContractError(f"{path} has no gan.* metadata")
        self.contract = contract
        self.provider = "cpu"
        self.sha256 = hashlib.sha256(data).hexdigest()

    def run(self, z: F32, label: I64 | None = None) -> tuple[F32, U8]:
        image, pixels = self.session.run(["image", "pixels"], self._feeds(z, label))
        return image, pixels

    def run_pixels(self, z: F32, label: I64 | None = None) -> U8:
        pixels: U8 = self.session.run(["pixels"], self._feeds(z, label))[0]
        return pixels

    def _feeds(self, z: F32, label: I64 | None) -> dict[str, Any]:
        feeds: dict[str, Any] = {"z": np.ascontiguousarray(z, np.float32)}
        if label is not None:
            feeds["label"] = np.ascontiguousarray(label, np.int64)
        return feeds
