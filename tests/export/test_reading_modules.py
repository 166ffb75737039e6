"""Whole-module pickles: tensors and inert structure come out, without the class that was pickled."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from export.reading_nets import Generator, same
from export.reading_saves import save_legacy, save_zip
from gan_core.errors import GanportError
from gan_export.reading import read_checkpoint

pytestmark = pytest.mark.slow


def by_pickle(net: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(net))


WAYS = [
    save_zip,
    save_legacy,
    by_pickle,
    *[partial(lambda n, p, k: p.write_bytes(pickle.dumps(n, k)), k=k) for k in range(6)],
]


@pytest.mark.filterwarnings("ignore:.*[Ss]ource.*")
@pytest.mark.parametrize("save", WAYS)
def test_the_tutorial_generator(tmp_path: Path, save: Callable[[Any, Path], None]) -> None:
    net = Generator(leak=0.3, eps=0.8).eval()
    save(net, tmp_path / "G.ckpt")
    reading = read_checkpoint(tmp_path / "G.ckpt")
    assert same(reading.tensors, net.state_dict())
    infos = reading.modules
    assert list(infos) == [name for name, _ in net.named_modules()]
    assert [info.kind for info in infos.values()] == [type(module).__name__ for module in net.modules()]
    assert infos[""].cls == "export.reading_nets.Generator"
    assert infos["layer1.0"].from_torch
    assert not infos[""].from_torch
    assert infos["layer1.1"].settings["eps"] == 0.8
    assert infos["layer2.2"].settings["negative_slope"] == 0.3
    last = infos["layer5.0"].settings
    assert (last["kernel_size"], last["stride"], last["padding"], last["output_padding"]) == (
        (5, 5),
        (3, 3),
        (1, 1),
        (0, 0),
    )
    assert {info.training for info in infos.values()} == {False}


def test_it_is_read_where_the_class_does_not_exist(tmp_path: Path) -> None:
    """The file is read in a process that cannot import the class, and that must not try to."""
    torch.save(Generator(), tmp_path / "G.pth")
    script = (
        "import sys; from gan_export.reading import read_checkpoint; before = set(sys.modules);"
        f"r = read_checkpoint({str(tmp_path / 'G.pth')!r}); assert len(r.tensors) == 25, len(r.tensors);"
        "assert 'export' not in sys.modules and 'export.reading_nets' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, lambda net: nn.Sequential(net), lambda net: {"netG": net, "epoch": 1}]
)
def test_wrapped_modules(tmp_path: Path, wrap: Callable[[nn.Module], Any]) -> None:
    net = Generator()
    torch.save(wrap(net), tmp_path / "G.pth")
    reading = read_checkpoint(tmp_path / "G.pth")
    tensors = {name.removeprefix("0."): tensor for name, tensor in reading.tensors.items()}
    assert same(tensors, net.state_dict())
    assert reading.modules[""].kind in ("Generator", "Sequential")


class Gan(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.disc = nn.Sequential(nn.Conv2d(3, 5, 4, 2, 1), nn.Flatten(), nn.Linear(80, 1))
        self.generator = Generator()
        self.act = torch.nn.functional.relu
        self.norm = partial(nn.BatchNorm2d, affine=True)


def test_a_gan_in_one_module(tmp_path: Path) -> None:
    gan = Gan()
    torch.save({"gan": gan, "optimizer": torch.optim.Adam(gan.parameters())}, tmp_path / "gan.pth")
    reading = read_checkpoint(tmp_path / "gan.pth")
    assert reading.chosen == "gan.generator"
    assert same(reading.tensors, gan.generator.state_dict())
    assert reading.modules[""].kind == "Generator"
    assert "layer1.0" in reading.modules
    assert read_checkpoint(tmp_path / "gan.pth", key="gan.generator").modules == reading.modules


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("noise", torch.ones(2), persistent=False)
        self.register_parameter("none", None)
        self.first = nn.Linear(6, 8)
        self.again = self.first
        self.last = nn.Linear(8, 784)
        self.activation = torch.tanh
        self.sizes = [28, 28]
        self.config = {"a": 1}


def test_what_a_state_dict_leaves_out_is_left_out(tmp_path: Path) -> None:
    net = Odd()
    torch.save(net, tmp_path / "G.pth")
    reading = read_checkpoint(tmp_path / "G.pth")
    assert same(reading.tensors, net.state_dict())
    assert reading.modules[""].settings["sizes"] == (28, 28)
    assert reading.modules[""].settings["activation"] == "torch.tanh"
    assert "config" not in reading.modules[""].settings


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_old_norms_in_modules_tell_their_dimension(tmp_path: Path) -> None:
    """Square kernels: only the pickled hook (or the class) says which dimension u belongs to."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.utils.spectral_norm(nn.ConvTranspose2d(6, 6, 4)), nn.utils.spectral_norm(nn.Conv2d(6, 6, 3)),
        nn.utils.weight_norm(nn.ConvTranspose2d(6, 3, 4)),
    )  # fmt: skip
    net.eval()
    net(torch.randn(1, 6, 1, 1).expand(1, 6, 4, 4))
    expected = [module.weight.detach().clone() for module in net if isinstance(module.weight, torch.Tensor)]
    torch.save(net, tmp_path / "G.pth")
    reading = read_checkpoint(tmp_path / "G.pth")
    for index, weight in enumerate(expected):
        assert torch.equal(reading.tensors[f"{index}.weight"], weight)
    assert same(reading.saved, net.state_dict())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torchscript(tmp_path: Path) -> None:
    net = Generator().eval()
    torch.jit.script(net).save(tmp_path / "G.pt")
    reading = read_checkpoint(tmp_path / "G.pt")
    assert reading.format == "torchscript"
    assert {n for n in net.state_dict() if "num_batches" not in n} <= set(reading.tensors)
    assert all(torch.equal(reading.tensors[n], t) for n, t in net.state_dict().items() if n in reading.tensors)


class EasyDict(dict[str, Any]):
    """StyleGAN's dnnlib.EasyDict."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


def test_stylegan_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch_utils.persistence`: class name, source text and state; the source is never run."""
    import types

    persistence = types.ModuleType("torch_utils.persistence")
    monkeypatch.setitem(sys.modules, "torch_utils", types.ModuleType("torch_utils"))
    monkeypatch.setitem(sys.modules, "torch_utils.persistence", persistence)

    def _reconstruct_persistent_obj(meta: Any) -> Any:
        raise AssertionError(f"called with {meta}")

    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    persistence._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    net = Generator()

    class Persistent:
        def __init__(self, scale: float) -> None:
            self.scale = scale

        def __reduce__(self) -> Any:
            state = {**vars(net), "_parameters": {"scale": torch.tensor(self.scale)}}
            meta = EasyDict(
                type="class", version=6, module_src="raise SystemExit('ran')", class_name="Generator", state=state
            )
            return _reconstruct_persistent_obj, (meta,)

    with (tmp_path / "network-snapshot.pkl").open("wb") as handle:
        pickle.dump({"G": Persistent(0.0), "D": None, "G_ema": Persistent(1.0), "augment_pipe": None}, handle)
    reading = read_checkpoint(tmp_path / "network-snapshot.pkl")
    assert (reading.chosen, reading.which) == ("G_ema", "ema")
    assert reading.tensors["scale"] == 1.0
    assert torch.equal(reading.tensors["layer1.0.weight"], net.state_dict()["layer1.0.weight"])
    assert reading.modules[""].kind == "Generator"


def test_trusted_modules_give_the_same_tensors_and_structure(tmp_path: Path) -> None:
    torch.save({"G": Generator()}, tmp_path / "G.pth")
    safe, trusted = read_checkpoint(tmp_path / "G.pth"), read_checkpoint(tmp_path / "G.pth", trust_pickle=True)
    assert same(trusted.tensors, safe.tensors)
    assert trusted.modules == safe.modules
    assert (trusted.chosen, trusted.passed_over) == (safe.chosen, safe.passed_over)


def test_trusting_needs_the_classes(tmp_path: Path) -> None:
    (tmp_path / "G.pkl").write_bytes(b"\x80\x02cno_such_package\nGenerator\n)\x81.")
    with pytest.raises(GanportError, match="needs the code that it was written with") as caught:
        read_checkpoint(tmp_path / "G.pkl", trust_pickle=True)
    assert "PYTHONPATH" in caught.value.hint


def test_the_plain_values_of_a_file_are_its_settings(tmp_path: Path) -> None:
    looped: dict[object, object] = {"depth": 1}
    looped["again"] = looped
    weights = {"main.0.weight": torch.rand(9, 4), "main.2.weight": torch.rand(784, 9)}
    tree = {
        "config": {"alpha": 0.5, "sizes": [1, 2], "deep": {"er": {"yes": True}}, "list": [{"no": 1}], 3: "three"},
        "optimizer": {"state": {}, "param_groups": [], "lr": 1e-3},
        "looped": looped,
        "long" * 100: 1,
        "generator": weights,
    }
    path = tmp_path / "file.pt"
    torch.save(tree, path)
    assert read_checkpoint(path).settings == {
        "config.alpha": 0.5,
        "config.sizes": (1, 2),
        "config.deep.er.yes": True,
        "config.3": "three",
        "looped.depth": 1,
    }
    torch.save({"many": dict.fromkeys(range(5_000), 1), "more": {"x": 1}, "generator": weights}, path)
    assert len(read_checkpoint(path).settings) == 1_000
