"""How `pixels` leave a CUDA session fast: fixed buffers, two batches in flight, and CUDA graphs for the steady batch.

A slot holds a batch's buffers: latents, labels and pixels on the GPU, and their page-locked twins on the host. One
stream copies the inputs over and computes, a second one copies finished pixels back, so that the copy of a batch, the
computing of the next one and what the caller does with the last all go on at once. Only `pixels` are bound: the float
images, four times their size, are never computed into anything that is copied.

Launching forty small kernels costs more than running them for a small batch. A CUDA graph launches them at once, but
remembers addresses and shapes: hence fixed buffers, one graph a slot (run option `gpu_graph_id`), and smaller batches
padded in a stream. onnxruntime keeps graphs by thread, so only the thread that captured replays. A graph is not
trusted before it drew latents that it had not seen as the plain run draws them.

Nothing here is allowed to be wrong: whatever fails (a capture, a copy, no memory) turns the engine off, with a note,
and the batches in flight are drawn anew by the plain run.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gan_core.arrays import F32, U8
from gan_serve.runtime import Feed, Labels, Signature

MAX_SIZES = 4
"""Batch sizes whose buffers are kept; the least used go first."""
USES_BEFORE_GRAPH = 2
"""Batches of a slot that run plainly before its graph is captured: a size met once or twice is not worth one."""
_WARM_UPS = 3
"""Runs before a capture has happened for certain: onnxruntime runs once or twice for its allocations, then captures."""
NO_GRAPH = "-1"
"""The `gpu_graph_id` of a run that is neither captured nor replayed."""


class Runtime(Protocol):
    """What the engine asks of `cudart.CudaRuntime`."""

    def new_stream(self) -> int: ...
    def new_event(self) -> int: ...
    def record(self, event: int, stream: int) -> None: ...
    def stream_waits(self, stream: int, event: int) -> None: ...
    def wait(self, event: int) -> None: ...
    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]: ...
    def to_device(self, address: int, array: npt.NDArray[Any], stream: int) -> None: ...
    def to_host(self, array: npt.NDArray[Any], address: int, stream: int) -> None: ...


@dataclass
class Slot:
    """The buffers of one batch in flight, by the names of the graph's inputs and output, and its CUDA graph."""

    size: int
    graph_id: int
    binding: Any
    device: dict[str, Any]
    host: dict[str, npt.NDArray[Any]]
    addresses: dict[str, int]
    computed: int
    copied: int
    uses: int = 0
    replays: bool = False
    busy: bool = False


class CudaEngine:
    """Draws `pixels` on the CUDA session it is given.

    onnxruntime  the module
    session      opened with `stream` as its `user_compute_stream`
    graphs       whether the session was opened with `enable_cuda_graph`
    plain        draws a feed when the engine cannot, on another session
    note         takes one sentence about what was turned off, and why
    device       where the buffers lie ("cpu" in the tests, on a CPU session)
    """

    def __init__(
        self,
        onnxruntime: Any,
        session: Any,
        runtime: Runtime,
        stream: int,
        signature: Signature,
        pixels_shape: tuple[int, int, int],
        *,
        graphs: bool,
        plain: Callable[[Feed], U8],
        note: Callable[[str], None],
        device: str = "cuda",
    ) -> None:
        self._ort, self._session, self._runtime, self._stream = onnxruntime, session, runtime, stream
        self._signature, self._shape, self._device = signature, pixels_shape, device
        self._plain, self._note = plain, note
        self.graphs = graphs
        self.failed = False
        self.lock = threading.RLock()
        self._copies = runtime.new_stream()
        self._thread = 0
        self._next_graph_id = 1
        self._slots: OrderedDict[int, list[Slot]] = OrderedDict()
        self._options: dict[str, Any] = {}

    def run(self, z: F32, label: Labels) -> U8:
        """The pixels of one batch, waited for."""
        with self.lock:
            slot = self._submit((z, label), len(z))
        return self._collect((z, label), slot)

    def stream(self, feeds: Iterable[Feed]) -> Iterator[U8]:
        """The pixels of every feed, in order, one batch computing while the last is copied and used."""
        pending: deque[tuple[Feed, Slot | None]] = deque()
        steady = 0
        try:
            for feed in feeds:
                steady = max(steady, len(feed[0]))
                with self.lock:
                    pending.append((feed, self._submit(feed, steady)))
                if len(pending) == 2:
                    yield self._collect(*pending.popleft())
            while pending:
                yield self._collect(*pending.popleft())
        finally:  # also where the caller stops early
            for _, slot in pending:
                if slot is not None:
                    with contextlib.suppress(Exception):
                        self._runtime.wait(slot.copied)
                    slot.busy = False

    def _submit(self, feed: Feed, size: int) -> Slot | None:
        """Starts a batch in buffers for `size` images. None: it is for the plain run, which also says what is wrong."""
        if self.failed or not self._fits(feed):
            return None
        try:
            slot = self._free_slot(size)
            self._fill(slot, feed)
            slot.uses += 1
            if self.graphs and not slot.replays and slot.uses > USES_BEFORE_GRAPH and self._is_graph_thread():
                self._capture(slot)
                self._fill(slot, feed)
            self._start(slot, slot.replays and self._is_graph_thread())
        except Exception as error:
            self._fail(error)
            return None
        slot.busy = True
        return slot

    def _collect(self, feed: Feed, slot: Slot | None) -> U8:
        """The pixels of a batch that was started; drawn plainly where the engine has failed since."""
        if slot is not None and not self.failed:
            try:
                self._runtime.wait(slot.copied)
                pixels: U8 = slot.host[self._pixels][: len(feed[0])].copy()
            except Exception as error:
                self._fail(error)
            else:
                return pixels
            finally:
                slot.busy = False
        return self._plain(feed)

    @property
    def _pixels(self) -> str:
        assert self._signature.pixels is not None
        return self._signature.pixels

    def _fits(self, feed: Feed) -> bool:
        z, label = feed
        labels = (len(z),) if self._signature.label is not None else None
        return (
            len(z) > 0
            and z.shape[1:] == self._signature.z_shape
            and (label if label is None else label.shape) == labels
        )

    def _fill(self, slot: Slot, feed: Feed) -> None:
        """Puts a feed into the slot's host buffers; rows beyond it draw z = 0 of class 0."""
        for name, values in self._named(feed).items():
            slot.host[name][: len(values)] = values
            slot.host[name][len(values) :] = 0

    def _named(self, feed: Feed) -> dict[str, npt.NDArray[Any]]:
        z, label = feed
        named: dict[str, npt.NDArray[Any]] = {self._signature.z: z}
        if self._signature.label is not None:
            assert label is not None
            named[self._signature.label] = label
        return named

    def _start(self, slot: Slot, replay: bool) -> None:
        """Gives the GPU a batch: inputs over, compute, and pixels back on the second stream. Returns at once."""
        for name in self._inputs():
            self._runtime.to_device(slot.addresses[name], slot.host[name], self._stream)
        self._session.run_with_iobinding(slot.binding, self._run_options(str(slot.graph_id) if replay else NO_GRAPH))
        self._runtime.record(slot.computed, self._stream)
        self._runtime.stream_waits(self._copies, slot.computed)
        self._runtime.to_host(slot.host[self._pixels], slot.addresses[self._pixels], self._copies)
        self._runtime.record(slot.copied, self._copies)

    def _inputs(self) -> list[str]:
        return [name for name in (self._signature.z, self._signature.label) if name is not None]

    def _run_options(self, graph_id: str) -> Any:
        if graph_id not in self._options:
            options = self._ort.RunOptions()
            options.add_run_config_entry("gpu_graph_id", graph_id)
            options.add_run_config_entry("disable_synchronize_execution_providers", "1")
            self._options[graph_id] = options
        return self._options[graph_id]

    def _is_graph_thread(self) -> bool:
        self._thread = self._thread or threading.get_ident()
        return self._thread == threading.get_ident()

    def _capture(self, slot: Slot) -> None:
        """Captures the slot's graph and tries it on other latents. Where it draws differently, graphs are off."""
        kept = slot.host[self._signature.z].copy()
        for _ in range(_WARM_UPS):
            self._start(slot, replay=True)
            self._runtime.wait(slot.copied)
        slot.host[self._signature.z][:] = -kept[::-1]
        drawn = []
        for replay in (True, False):
            self._start(slot, replay)
            self._runtime.wait(slot.copied)
            drawn.append(slot.host[self._pixels].astype(np.int16))
        worst = int(np.abs(drawn[0] - drawn[1]).max(initial=0))
        if worst > 1:
            self.graphs = False
            self._note(f"CUDA graphs are off: a replay was {worst} levels from the plain run")
            return
        slot.replays = True

    def _free_slot(self, size: int) -> Slot:
        """A slot for batches of `size`, made where none is free; two of a size in flight are enough."""
        slots = self._slots.setdefault(size, [])
        self._slots.move_to_end(size)
        for slot in slots:
            if not slot.busy:
                return slot
        slots.append(self._new_slot(size))
        for old in [old for old, kept in self._slots.items() if not any(slot.busy for slot in kept)][:-MAX_SIZES]:
            if old != size:
                del self._slots[old]
        return slots[-1]

    def _new_slot(self, size: int) -> Slot:
        shapes: dict[str, tuple[tuple[int, ...], npt.DTypeLike]] = {
            self._signature.z: ((size, *self._signature.z_shape), np.float32),
            self._pixels: ((size, *self._shape), np.uint8),
        }
        if self._signature.label is not None:
            shapes[self._signature.label] = ((size,), np.int64)
        device, host = {}, {}
        binding = self._session.io_binding()
        for name, (shape, dtype) in shapes.items():
            device[name] = self._ort.OrtValue.ortvalue_from_shape_and_type(list(shape), dtype, self._device, 0)
            host[name] = self._runtime.pinned(shape, dtype)
            bind = binding.bind_ortvalue_output if name == self._pixels else binding.bind_ortvalue_input
            bind(name, device[name])
        addresses = {name: int(value.data_ptr()) for name, value in device.items()}
        self._next_graph_id += 1
        events = self._runtime.new_event(), self._runtime.new_event()
        return Slot(size, self._next_graph_id - 1, binding, device, host, addresses, *events)

    def _fail(self, error: Exception) -> None:
        self.failed = True
        self._session = None
        self._slots.clear()
        self._note(f"CUDA runs without fixed buffers: {' '.join(str(error).split())}")
