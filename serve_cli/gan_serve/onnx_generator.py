"""A generator file run by onnxruntime: the one session class of gan-gen, the exporter's proof and gan-bench."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from gan_serve import model_file, providers
from gan_serve.contract import Contract
from gan_serve.cores import usable_cores
from gan_serve.errors import ContractError, GanportError, JobError
from gan_serve.generator import F32, I64, U8, Generator
from gan_serve.images import to_pixels
from gan_serve.latents import latents
from gan_serve.signature import Port, Signature, check_ours, understand

MAX_THREADS = 1024
_PROBE_SEEDS = range(4)


class OnnxGenerator(Generator):
    """Runs an ONNX generator.

    path      a file, or the bytes of one (then `where` names it in messages)
    provider  "auto" (the first of `providers.AUTO_ORDER` that starts) or one of `providers.PROVIDERS`
    threads   that share one operator; None: every physical core this process may use (`cores.usable_cores`)
    spin      whether idle threads wait busily. Off: the encoders need those cores, and a server's neighbours too.
              A model of many tiny operators is a little faster with it.

    Attributes beside `Generator`'s: `session` (onnxruntime's), `threads`, `signature`, `ours` (whether the file
    carries a contract), `skipped` (for "auto": what was tried before `provider`, with onnxruntime's reason).
    The session may be used from several threads. Raises `MissingPackageError` without onnxruntime, `ContractError` for
    a file that is no generator, `GanportError` for a file or a provider that does not load.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | bytes,
        provider: str = "auto",
        threads: int | None = None,
        *,
        spin: bool = False,
        where: str = "the model",
    ) -> None:
        if threads is not None and not 1 <= threads <= MAX_THREADS:
            raise GanportError(f"threads must be 1 … {MAX_THREADS}, got {threads}")
        providers.check_name(provider)
        model: str | bytes
        if isinstance(path, bytes):
            model, head = path, path[: model_file.HEAD_BYTES]
            self.sha256 = hashlib.sha256(path).hexdigest()
        else:
            file = model_file.check_model_file(path)
            where, model, head = str(file), str(file), model_file.read_head(file)
        model_file.refuse_what_is_not_onnx(where, head)
        self.threads = threads if threads is not None else usable_cores()
        self.skipped: tuple[str, ...] = ()
        self.session: Any = self._open(model, where, provider, spin)
        self.provider = providers.active(self.session)
        if isinstance(model, str):
            self.sha256 = model_file.sha256_of(Path(model))
        inputs = [Port.of(argument) for argument in self.session.get_inputs()]
        outputs = [Port.of(argument) for argument in self.session.get_outputs()]
        contract = Contract.from_metadata(self.session.get_modelmeta().custom_metadata_map, where=where)
        self.ours = contract is not None
        if contract is not None:
            self.signature: Signature = check_ours(contract, inputs, outputs, where)
            self.contract = contract
        else:
            self.signature, assumptions = understand(inputs, outputs, where)
            self.contract = self._probe(where, assumptions)

    def run(self, z: F32, label: I64 | None = None) -> tuple[F32, U8]:
        if self.signature.pixels is None:
            image = self._floats(z)
            return image, to_pixels(image, self.contract.value_range)
        image, pixels = self._run([self.signature.image, self.signature.pixels], self._feeds(z, label))
        return image, pixels

    def run_pixels(self, z: F32, label: I64 | None = None) -> U8:
        if self.signature.pixels is None:
            return self.run(z, label)[1]
        pixels: U8 = self._run([self.signature.pixels], self._feeds(z, label))[0]
        return pixels

    def _open(self, model: str | bytes, where: str, provider: str, spin: bool) -> Any:
        onnxruntime = providers.import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
        candidates = providers.resolve(provider)
        skipped: list[str] = []
        for name in candidates:
            providers.prepare(name)
            reason = "it did not start"
            try:
                session = onnxruntime.InferenceSession(
                    model, options, providers=providers.session_providers(name), enable_fallback=0
                )
            except Exception as error:
                if name == "cpu":
                    raise model_file.explain_load_error(where, error) from error
                reason = " ".join(str(error).split())
            else:
                if providers.active(session) == name:
                    self.skipped = tuple(skipped)
                    return session
            if provider != "auto":
                raise GanportError(
                    f"provider {name} is installed but does not run here: {reason}",
                    hint=f"{providers.HOW_TO_GET[name]}; or use --provider cpu",
                )
            skipped.append(f"{name}: {reason}")
        raise GanportError(f"no provider runs {where}: {'; '.join(skipped)}", hint=providers.HOW_TO_GET["cpu"])

    def _probe(self, where: str, assumptions: list[str]) -> Contract:
        """The contract of a file without metadata, from its signature and its first images."""
        (depth, *_) = self.signature.z_shape
        image = self._floats(latents(_PROBE_SEEDS, depth))
        if image.ndim != 4 or image.shape[1] not in (1, 3):
            raise ContractError(f"{where} gives arrays of shape {image.shape}, expected (batch, 1 or 3, H, W)")
        low, high = float(image.min()), float(image.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ContractError(f"{where} draws NaN or infinity", hint="its weights are damaged; export it again")
        notes = [*assumptions, "black is -1 and white is 1"]
        if low < -1.05 or high > 1.05:
            notes.append(f"its values reach {low:.2f} … {high:.2f}: what is beyond -1 … 1 is clamped")
        elif low >= 0:
            notes.append("no value is below 0: if black is 0, the images will look pale")
        _, c, h, w = image.shape
        return Contract(z_dim=depth, image=(c, h, w), weights="unknown", assumptions=tuple(notes))

    def _floats(self, z: F32) -> F32:
        """The image output of a file without metadata, in as many runs as its fixed batch needs."""
        wanted = self.signature
        size = wanted.fixed_batch
        fed = np.ascontiguousarray(z, wanted.z_dtype).reshape(len(z), *wanted.z_shape)
        if size is None:
            return np.asarray(self._run([wanted.image], {wanted.z: fed})[0], np.float32)
        whole = -(-len(z) // size) * size
        fed = np.concatenate([fed, np.zeros((whole - len(z), *wanted.z_shape), fed.dtype)])
        pieces = [self._run([wanted.image], {wanted.z: fed[i : i + size]})[0] for i in range(0, whole, size)]
        return np.concatenate(pieces).astype(np.float32, copy=False)[: len(z)]

    def _feeds(self, z: F32, label: I64 | None) -> dict[str, Any]:
        feeds: dict[str, Any] = {self.signature.z: np.ascontiguousarray(z, np.float32)}
        if self.signature.label is not None:
            feeds[self.signature.label] = np.ascontiguousarray(label, np.int64)
        return feeds

    def _run(self, outputs: list[str], feeds: dict[str, Any]) -> list[Any]:
        try:
            results: list[Any] = self.session.run(outputs, feeds)
        except Exception as error:
            batch = len(next(iter(feeds.values())))
            raise JobError(
                f"{self.provider} failed on a batch of {batch}: {' '.join(str(error).split())}",
                hint="try a smaller --batch-size, or --provider cpu",
            ) from error
        return results
