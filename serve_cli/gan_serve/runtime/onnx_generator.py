"""A generator file run by onnxruntime: the one session class of gan-gen, the exporter's proof and gan-bench."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_core.arrays import F32, U8
from gan_core.contract import Contract
from gan_core.errors import GanportError, JobError
from gan_core.files import metadata, model_file
from gan_core.files.metadata import Port
from gan_core.images import to_pixels
from gan_core.limits import stricter
from gan_core.process import usable_cores
from gan_core.said import OnnxAnswers, check_unsaid
from gan_serve.runtime import Feed, Given, Labels, Signature, check_drawn, check_ours, in_order, providers, sessions
from gan_serve.runtime.generator import BATCH_PIXELS, Generator
from gan_serve.runtime.sessions import Settings, SideBySide, suits_side_by_side
from gan_serve.runtime.styles import Options, noise_behind, reopened_with

if TYPE_CHECKING:
    from gan_serve.runtime.cuda_engine import CudaEngine
    from gan_serve.runtime.cudart import CudaRuntime

_log = logging.getLogger(__name__)

_Run = Callable[[list[str], dict[str, Any]], list[Any]]

MAX_THREADS = 1024
STYLES = "styles"
GPU_BATCH_PIXELS, MAX_GPU_BATCH = 8 * BATCH_PIXELS, 512
"""A GPU has thousands of cores to keep busy: 128 images of 64x64 RGB a batch, and more of smaller ones."""


class OnnxGenerator(Generator):
    """Runs an ONNX generator.

    path        a file, or the bytes of one (then `where` names it in messages)
    provider    "auto" (the first of `providers.AUTO_ORDER` that starts) or one of `providers.PROVIDERS`
    threads     None: every physical core this process may use (`cores.usable_cores`). On a CPU they share the images
                of a batch where that is faster, else every operator (`SideBySide`)
    whole       whether every batch is one run of the session, so that the graph is seen at that size; else the threads
                of a CPU may share its images
    many        whether many images are to come, so that what draws a single one soonest is opened only when needed
    tf32        whether cuda and tensorrt may round the factors of fp32 products to 10 bits: faster, and no parity
    cuda_graph  whether cuda replays steady batches as CUDA graphs
    options     provider options of onnxruntime's that come on top of `gan_serve.runtime.sessions`
    answers     what the user says of a file without a contract

    Attributes beside `Generator`'s: `session` (onnxruntime's), `threads`, `signature`, `ours` (whether the file
    carries a contract), `skipped` (for "auto": what was tried before `provider`, with onnxruntime's reason), `notes`
    (what could not be had or was turned off, also while it runs, when each is logged too: one sentence each).
    The session may be used from several threads. Raises `MissingPackageError` without onnxruntime, `ContractError` for
    a file that is no generator, `GanportError` for a file or a provider that does not load.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | bytes,
        provider: str = "auto",
        threads: int | None = None,
        *,
        whole: bool = False,
        many: bool = False,
        tf32: bool = False,
        cuda_graph: bool = True,
        options: Mapping[str, str] | None = None,
        answers: OnnxAnswers = OnnxAnswers(),
        where: str = "the model",
    ) -> None:
        # Where another process opens it again, the current folder may be another.
        again = path if isinstance(path, bytes) else Path(path).absolute()
        self.reopen = partial(
            OnnxGenerator, again, provider, threads,
            whole=whole, many=many, tf32=tf32, cuda_graph=cuda_graph, options=options, answers=answers, where=where,
        )  # fmt: skip
        if threads is not None and not 1 <= threads <= MAX_THREADS:
            raise GanportError(
                f"`threads` must be 1 … {MAX_THREADS}, got {threads}", hint="leave it out to use every core"
            )
        providers.check_name(provider)
        model: str | bytes
        if isinstance(path, bytes):
            model, head = path, path[: model_file.HEAD_BYTES]
            self.sha256 = hashlib.sha256(path).hexdigest()
        else:
            file = model_file.check_model_file(path)
            where, model, head = str(file), str(file), model_file.read_head(file)
        self.file = Path(where).name
        model_file.refuse_what_is_not_onnx(where, head)
        self._model, self._text = model, metadata.read_onnx_text(model, where)
        metadata.check_external(self._text.external, where)
        contract = Contract.from_metadata(self._text.metadata, where=where)
        self.ours = contract is not None
        probed = None
        if contract is None:
            from gan_serve.runtime.probe import probe  # which a file of ours never needs

            probed = probe(model, answers, where)
        else:
            check_unsaid(answers, where)
        self.threads = threads if threads is not None else usable_cores()
        apart = not whole and self.threads > 1 and suits_side_by_side(model)
        of_images = contract is not None and contract.interface.input is not None
        self._settings = Settings(
            self.threads, many, apart and many, tf32, cuda_graph and not of_images, options=dict(options or {})
        )
        beside = ThreadPoolExecutor(1)  # hashes the file while the session opens
        hashed = None if isinstance(model, bytes) else beside.submit(model_file.sha256_of, Path(model))
        beside.shutdown(wait=False)
        opened = sessions.open_session(model, where, provider, self._settings)
        self.session: Any = opened.session
        self.skipped = opened.skipped
        self.notes = list(opened.notes)
        self.provider = providers.active(self.session)
        if hashed is not None:
            self.sha256 = hashed.result()
        self._apart: SideBySide | None = None
        # A run that is not the engine's must neither be captured nor replayed.
        self._run_options = sessions.without_graph() if opened.graphs else None
        self._engine: CudaEngine | None = None
        inputs = [Port.of(argument) for argument in self.session.get_inputs()]
        outputs = [Port.of(argument) for argument in self.session.get_outputs()]
        if contract is not None:
            self.signature: Signature = check_ours(contract, inputs, outputs, where)
            self.contract = contract
            if opened.runtime is not None and not of_images:  # the engine is for batches of one size
                self._engine = self._make_engine(opened, opened.runtime, model, where)
        else:
            assert probed is not None
            self.signature, self.contract = probed.signature, probed.contract(answers)
            self.notes += probed.notes
        self._fixed = self.signature.fixed()
        self._held: object = None
        self.optioned = False
        if apart and self.provider == "cpu" and self.signature.fixed_batch is None:
            self.callers = self.threads
            self._apart = SideBySide(self.session, self._settings.single, self._another(model, where), self.threads)

    def close(self) -> None:
        self.session, self._apart, self._engine, self.callers = sessions.Closed(), None, None, 1

    def cpu_nodes(self) -> tuple[str, ...] | None:
        """The names of the nodes that run on the CPU though another provider does the rest; () when none do.

        None: the installed onnxruntime (before 1.24) does not say.
        """
        return sessions.cpu_nodes(self.session)

    @property
    def held_to(self) -> str:
        return stricter(self.contract.held_to, self._text.precision)

    def graph_sha256(self) -> str:
        return metadata.graph_sha256(self._model)

    def run(self, z: Given, label: Labels = None) -> tuple[F32, U8]:
        if self.signature.pixels is None:
            image = self._floats(z, label, self._run)
            return image, to_pixels(image, self.contract.interface.value_range)
        image, pixels = self._run([self.signature.image, self.signature.pixels], self._feeds(z, label))
        return image, pixels

    @property
    def mixes_classes(self) -> bool:
        return self.signature.mixes

    def _with(self, options: Options, noise_of_seeds: bool = False) -> OnnxGenerator:
        made = OnnxGenerator.__new__(OnnxGenerator)
        vars(made).update(vars(self))
        made._fixed, made.optioned, made.noise_of_seeds = {**self._fixed, **options}, True, noise_of_seeds
        made.reopen = partial(reopened_with, self.reopen, options, noise_of_seeds)  # type: ignore[arg-type,assignment]
        return made

    def styles_of(self, z: F32, label: Labels = None) -> F32:
        if self.contract.interface.styles is None:
            return super().styles_of(z, label)
        only = sessions.without_graph() if self._run_options else providers.import_onnxruntime().RunOptions()
        only.only_execute_path_to_fetches = True
        styles: F32 = self._run_on(self.session, [STYLES], self._feeds(z, label), only)[0]
        return styles

    def run_pixels(self, z: Given, label: Labels = None) -> U8:
        if self._engine is not None and not self.optioned:
            return self._engine.run(z, label)
        return self._pixels((z, label))

    def batch_size(self, n: int) -> int:
        if self.provider not in providers.GPUS:
            return super().batch_size(n)
        return max(1, min(n, MAX_GPU_BATCH, GPU_BATCH_PIXELS // math.prod(self.contract.interface.image)))

    def run_stream(self, feeds: Iterable[Feed]) -> Iterator[U8]:
        if self._apart is not None:
            return self._side_by_side(self._apart, feeds)
        if self._engine is not None and not self.optioned:
            return self._engine.stream(feeds)
        return self._padded(feeds) if self.provider == "tensorrt" else super().run_stream(feeds)

    def _padded(self, feeds: Iterable[Feed]) -> Iterator[U8]:
        """As `run_stream`, smaller batches filled up: TensorRT builds anew, for minutes, for a shape it has not met."""
        steady = 0
        for z, label in feeds:
            steady = max(steady, len(z))
            yield self.run_pixels(_filled(z, steady), _filled(label, steady))[: len(z)]

    def _pixels(self, feed: Feed, run: _Run | None = None) -> U8:
        """One batch, by `run` in the place of `_run` where it is given."""
        run = run or self._run
        if self.signature.pixels is None:
            return to_pixels(self._floats(*feed, run), self.contract.interface.value_range)
        pixels: U8 = run([self.signature.pixels], self._feeds(*feed))[0]
        return pixels

    def _make_engine(self, opened: sessions.Opened, runtime: CudaRuntime, model: str | bytes, where: str) -> CudaEngine:
        from gan_serve.runtime.cuda_engine import CudaEngine

        def plain(feed: Feed) -> U8:
            with engine.lock:
                if engine.failed and self._engine is not None:
                    # What failed may have left its stream, and so its session, unusable.
                    self._engine, self._run_options, self.session = None, None, None
                    self.session = sessions.reopen_cuda(model, where, self._settings)
            return self._pixels(feed)

        def note(text: str) -> None:
            self.notes.append(text)
            _log.info("%s", text)

        c, h, w = self.contract.interface.image
        engine = CudaEngine(
            providers.import_onnxruntime(),
            self.session,
            runtime,
            opened.stream,
            self.signature,
            (h, w, c),
            graphs=opened.graphs,
            plain=plain,
            note=note,
        )
        return engine

    def _floats(self, z: Given, label: Labels, run: _Run) -> F32:
        """The images of a file without metadata, in as many runs as its fixed batch needs."""
        wanted, interface, n = self.signature, self.contract.interface, len(z)
        if wanted.fixed_batch is None:
            image = wanted.images(run([wanted.image], wanted.feeds(z, label, interface.n_classes))[0], interface.image)
        else:
            steady = n + -n % wanted.fixed_batch
            z, label = _filled(z, steady), _filled(label, steady)
            pieces = []
            for start in range(0, len(z), wanted.fixed_batch):
                part = slice(start, start + wanted.fixed_batch)
                feeds = wanted.feeds(z[part], None if label is None else label[part], interface.n_classes)
                pieces.append(wanted.images(run([wanted.image], feeds)[0], interface.image))
            image = np.concatenate(pieces)[:n]
        check_drawn(self.contract, (n, interface.z_dim), image_NCHW=image)
        return image

    def _feeds(self, z: Given, label: Labels) -> dict[str, Any]:
        interface = self.contract.interface
        styles, (z, noise) = interface.styles, noise_behind(z, interface)
        feeds: dict[str, Any] = {self.signature.z: np.ascontiguousarray(z, self.signature.z_dtype)} | noise
        if styles is not None and z.ndim == 3:  # w in the place of z
            zeros = np.zeros((len(z), *self.signature.z_shape), np.float32)
            feeds = {self.signature.z: zeros, "w": z, "from_w": np.ones(len(z), bool)}
        if self.signature.label is not None:
            feeds[self.signature.label] = np.ascontiguousarray(label, np.int64)
        return feeds

    def _side_by_side(self, apart: SideBySide, feeds: Iterable[Feed]) -> Iterator[U8]:
        """As `run_stream`, a thread for each of several feeds; a single image by all threads."""
        first_two = list(islice(feeds := iter(feeds), 2))
        if len(first_two) == 1 and len(first_two[0][0]) == 1:
            yield self._pixels(first_two[0])
            return
        session = apart.session(single=True)

        def run(outputs: list[str], feeds: dict[str, Any]) -> list[Any]:
            return self._run_on(session, outputs, feeds)

        yield from in_order(lambda feed: self._pixels(feed, run), chain(first_two, feeds), self.callers)

    def _run(self, outputs: list[str], feeds: dict[str, Any]) -> list[Any]:
        if self._apart is None:
            return self._run_on(self.session, outputs, feeds)
        return self._apart.run(self._run_on, outputs, feeds, self.most_at_once)

    def _run_on(self, session: Any, outputs: Sequence[str], feeds: Mapping[str, Any], options: Any = None) -> list[Any]:
        options, engine = options or self._run_options, self._engine
        if self._fixed:
            feeds = {**feeds, **self._fixed}
        try:
            if engine is None:
                results: list[Any] = session.run(outputs, feeds, options)
            else:
                with engine.lock:
                    results = session.run(outputs, feeds, options)
        except GanportError:
            raise
        except Exception as error:
            batch = len(feeds[self.signature.z])
            raise JobError(
                f"{self.provider} failed on a batch of {batch}: {' '.join(str(error).split())}",
                hint='try a smaller `batch_size`, or `provider="cpu"`',
            ) from error
        if self.ours:
            self._hold(outputs, results, feeds[self.signature.z].shape)
        return results

    def _hold(self, outputs: Sequence[str], results: Sequence[Any], batch: tuple[int, ...]) -> None:
        """Whether a run gave what it was asked for. The same as the last time, which was right, is right again."""
        found = (batch, outputs, [(getattr(given, "shape", None), getattr(given, "dtype", None)) for given in results])
        for name, given in zip(outputs, results, strict=True) if found != self._held else ():
            if name != STYLES:
                key = "pixels_NHWC" if name == self.signature.pixels else "image_NCHW"
                check_drawn(self.contract, batch, **{key: given})
        self._held = found

    def _another(self, model: str | bytes, where: str) -> Callable[[bool], Any]:
        """Opens the same model for one thread or for all; None when the file has changed since."""

        def open_another(single: bool) -> Any:
            if isinstance(model, str):
                try:
                    if model_file.sha256_of(Path(model)) != self.sha256:
                        return None
                except OSError:
                    return None
            return sessions.open_session(model, where, "cpu", replace(self._settings, single=single)).session

        return open_another


def _filled(rows: Any, count: int) -> Any:
    """`rows`, and zeros up to `count` of them; None for None."""
    return rows if rows is None else np.pad(rows, [(0, count - len(rows)), *[(0, 0)] * (rows.ndim - 1)])
