"""Every file format that training scripts leave, told by content: the same tensors come out of each."""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.reading_nets import generator, same
from export.reading_saves import save_arrays, save_legacy, save_pickle, save_safetensors, save_tar, save_zip
from gan_core.errors import GanportError
from gan_export.reading import read_checkpoint
from gan_trainer.networks.architectures import network_spec
from gan_trainer.networks.generator import GeneratorCheckpoint, build, save_generator
from real_files import real_file


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".pkl", ".tar", ".bin", ""])
@pytest.mark.parametrize(
    ("save", "format_"),
    [
        (save_zip, "torch-zip"),
        (save_legacy, "torch-legacy"),
        (save_tar, "torch-tar"),
        *[(save_pickle(protocol), "pickle") for protocol in range(2, 6)],
        *[(save_arrays(protocol), "pickle") for protocol in range(2, 6)],
    ],
)
def test_every_format_under_every_suffix(tmp_path: Path, save: Any, format_: str, suffix: str) -> None:
    state = generator()
    path = tmp_path / f"netG{suffix}"
    save(state, path)
    reading = read_checkpoint(path)
    assert reading.format == format_
    assert same(reading.tensors, state)
    assert (reading.which, reading.chosen, reading.ours, reading.positional) == ("raw", "", None, False)
    assert reading.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert reading.size_bytes == path.stat().st_size


def test_torch_reads_our_tar_the_same(tmp_path: Path) -> None:
    """Else `save_tar` would only prove that two things of ours agree."""
    save_tar(generator(), tmp_path / "g.tar")
    assert same(torch.load(tmp_path / "g.tar", weights_only=False, map_location="cpu"), generator())


def test_text_pickles_of_protocol_0_and_1(tmp_path: Path) -> None:
    for protocol in (0, 1):
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps({name: tensor.numpy() for name, tensor in generator().items()}, protocol))
        assert same(read_checkpoint(path).tensors, generator())


def test_safetensors_are_put_in_natural_order(tmp_path: Path) -> None:
    state = {f"main.{index}.weight": torch.full((3, 3), float(index)) for index in (0, 2, 10)}
    state["main.12.weight"] = torch.ones(3, 3, 4, 4)
    save_safetensors(state, tmp_path / "g.pth")
    reading = read_checkpoint(tmp_path / "g.pth")
    assert reading.format == "safetensors"
    assert same(reading.tensors, state)


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_safetensors])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_become_float32_and_it_is_said(tmp_path: Path, save: Any, dtype: torch.dtype) -> None:
    state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in generator().items()}
    save(state, tmp_path / "g.pt")
    reading = read_checkpoint(tmp_path / "g.pt")
    assert all(
        torch.equal(reading.tensors[name], t.float() if t.is_floating_point() else t) for name, t in state.items()
    )
    assert reading.tensors["main.1.num_batches_tracked"].dtype == torch.int64
    assert any(f"converted from {str(dtype).removeprefix('torch.')} to float32" in note for note in reading.notes)


@pytest.mark.parametrize("tag", ["cuda:3", "mps", "xla:0", "hpu", "privateuseone:0"])
@pytest.mark.parametrize("legacy", [False, True])
def test_device_tags_do_not_matter(tmp_path: Path, tag: str, legacy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.serialization, "location_tag", lambda _: tag)
    torch.save(generator(), tmp_path / "g.pt", _use_new_zipfile_serialization=not legacy)
    reading = read_checkpoint(tmp_path / "g.pt")
    assert same(reading.tensors, generator())
    assert f"saved on {tag}, read to the CPU" in reading.notes


def test_tensors_from_devices_without_storages(tmp_path: Path) -> None:
    """XLA's way: a numpy array and a dtype."""

    class Xla:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor

        def __reduce__(self) -> Any:
            rebuild = torch._utils._rebuild_device_tensor_from_numpy
            return rebuild, (self.tensor.numpy(), self.tensor.dtype, "xla:1", False)

    (tmp_path / "g.pkl").write_bytes(pickle.dumps({name: Xla(tensor) for name, tensor in generator().items()}))
    assert same(read_checkpoint(tmp_path / "g.pkl").tensors, generator())


def test_views_strides_and_shared_storages(tmp_path: Path) -> None:
    base = torch.arange(96.0)
    state = {
        "a.weight": base[:24].view(4, 6),
        "b.weight": base[24:48].view(4, 6).t(),
        "c.weight": base.view(2, 3, 4, 4).permute(1, 0, 2, 3)[:, :, ::2],
        "d.bias": torch.tensor(2.0).expand(5),
        "e.empty": torch.empty(0, 7),
        "f.weight": torch.ones(4, 3, 4, 4),
    }
    for legacy in (False, True):
        torch.save(state, tmp_path / "g.pt", _use_new_zipfile_serialization=not legacy)
        assert same(read_checkpoint(tmp_path / "g.pt").tensors, state)


def test_the_tensors_are_independent_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "g.pt"
    torch.save(generator(), path)
    before = path.read_bytes()
    tensors = read_checkpoint(path).tensors
    path.unlink()
    for tensor in tensors.values():
        tensor.zero_()
    path.write_bytes(before)
    assert same(read_checkpoint(path).tensors, generator())


def test_byte_order_of_numpy_arrays_is_respected(tmp_path: Path) -> None:
    weight = np.arange(144, dtype=">f4").reshape(3, 3, 4, 4)
    fortran = np.asfortranarray(weight.astype("<f8"))
    (tmp_path / "g.pkl").write_bytes(pickle.dumps({"0.weight": weight, "1.weight": fortran}))
    tensors = read_checkpoint(tmp_path / "g.pkl").tensors
    assert torch.equal(tensors["0.weight"], torch.arange(144.0).reshape(3, 3, 4, 4))
    assert torch.equal(tensors["1.weight"], tensors["0.weight"])


def test_storage_views_of_old_files(tmp_path: Path) -> None:
    """torch before 0.4 shared one storage among tensors by naming views of it; the loader still knows them."""
    flat = torch.arange(48.0)

    class Pickler(pickle._Pickler):
        def persistent_id(self, value: Any) -> Any:
            if isinstance(value, int) and value >= 1000:
                view = None if value == 1000 else ("1", 24, 24)
                return ("storage", torch.FloatStorage, "0", "cuda:0", 48, view)
            return None

    class Rebuilt:
        def __init__(self, storage: int, shape: tuple[int, ...]) -> None:
            self.args = (storage, 0, shape, (shape[1], 1))

        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor, self.args

    body = io.BytesIO()
    Pickler(body, 2).dump({"a.weight": Rebuilt(1000, (4, 12)), "b.weight": Rebuilt(1001, (4, 6))})
    serialization = torch.serialization
    head = (serialization.MAGIC_NUMBER, serialization.PROTOCOL_VERSION, {"little_endian": True})
    numbers = struct.pack("<q", 48) + flat.numpy().tobytes()
    path = tmp_path / "g.pth"
    path.write_bytes(b"".join(pickle.dumps(h, 2) for h in head) + body.getvalue() + pickle.dumps(["0"], 2) + numbers)
    expected = torch.load(path, map_location="cpu", weights_only=False)
    assert torch.equal(expected["b.weight"], flat[24:].view(4, 6))
    assert same(read_checkpoint(path).tensors, expected)


def test_python_2_pickles(tmp_path: Path) -> None:
    """Bytes and text are one type there: the array's data is a string."""
    data = np.arange(48, dtype="<f4").tobytes()
    path = tmp_path / "g.pkl"
    path.write_bytes(
        b"\x80\x02}q\x00U\x08a.weightcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x0cK\x04\x86cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89T" + struct.pack("<I", len(data)) + data + b"tbs."
    )
    assert same(read_checkpoint(path).tensors, {"a.weight": torch.arange(48.0).reshape(12, 4)})


def test_parameters_and_subclasses(tmp_path: Path) -> None:
    state = {name: nn.Parameter(t, requires_grad=False) for name, t in generator().items()}
    torch.save(state, tmp_path / "g.pt")
    assert same(read_checkpoint(tmp_path / "g.pt").tensors, generator())


def test_a_checkpoint_of_ours(tmp_path: Path) -> None:
    spec = network_spec("mlp", 28, 1, width=4, z_dim=8)
    weights = build(spec).state_dict()
    save_generator(GeneratorCheckpoint(spec, weights, "ema", {"steps": 3}), tmp_path / "g.pt")
    reading = read_checkpoint(tmp_path / "g.pt")
    assert reading.format == "ganport"
    assert reading.ours is not None
    assert (reading.ours.spec, reading.ours.training, reading.which) == (spec, {"steps": 3}, "ema")
    assert same(reading.tensors, weights)
    reading.ours.module()
    with pytest.raises(GanportError, match="averaged"):
        read_checkpoint(tmp_path / "g.pt", raw=True)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("quantised", "quantised"),
        ("int8", "quantised"),
        ("sparse", "sparse"),
        ("meta", "meta device"),
        ("complex", "complex"),
        ("nan", "NaN"),
        ("inf", "infinite"),
        ("huge", "beyond float32"),
    ],
)
def test_weights_that_cannot_be_exported(tmp_path: Path, kind: str, said: str) -> None:
    state: dict[str, Any] = dict(generator())
    weight = state["main.3.weight"]
    bad: dict[str, Callable[[], Tensor]] = {
        "quantised": lambda: _quantised(weight),
        "int8": lambda: weight.to(torch.int8),
        "sparse": lambda: weight[0, 0].to_sparse(),
        "meta": lambda: weight.to("meta"),
        "complex": lambda: weight.to(torch.complex64),
        "nan": lambda: weight * float("nan"),
        "inf": lambda: weight / 0,
        "huge": lambda: weight.double() * 1e300,
    }
    state["main.3.weight"] = bad[kind]()
    torch.save(state, tmp_path / "g.pt")
    with pytest.raises(GanportError, match=said) as caught:
        read_checkpoint(tmp_path / "g.pt")
    assert "main.3.weight" in str(caught.value)


def _quantised(tensor: Tensor) -> Tensor:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


@pytest.mark.parametrize("name", ["conditional_mnist.pth", "mixed_faces32.pt", "mlp_mnist.ckpt"])
def test_real_checkpoints(name: str) -> None:
    path = real_file(name)
    reading = read_checkpoint(path)
    assert same(reading.tensors, torch.load(path, map_location="cpu", weights_only=True))
    assert (reading.chosen, reading.prefix, reading.passed_over) == ("", "", ())
    assert reading.notes == ("saved on cuda:0, read to the CPU",)
