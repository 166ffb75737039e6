"""TorchScript is looked at before it is loaded: what only computes passes, what could do more is named and not run."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gan_serve
from export.script_files import (
    CONTRACT,
    WRITTEN,
    Last,
    Plain,
    entries_of,
    refused,
    replaced,
    save,
    scripted,
    with_entry,
)
from gan_core.errors import ContractError, GanportError
from gan_core.files.archive import read_contract, read_entries
from gan_export.proof.prove import prove
from gan_export.script_check import check_entries
from gan_export.torchscript_export import stored_zip
from gan_export.torchscript_runtime import load
from gan_serve.gen.request import Request
from gan_serve.gen.run import run_request
from gan_serve.terminal import console

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Writes(Plain):
    """Its drawing creates a file."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        z = z + torch.from_file("canary.bin", True, 8)
        image = torch.tanh(z @ torch.ones(8, 16)).view(-1, 1, 4, 4)
        return image, (image * 127.5 + 128).floor().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


class WritesWhenLoaded(Plain):
    @torch.jit.export
    def __getstate__(self) -> int:
        return 3

    @torch.jit.export
    def __setstate__(self, state: int) -> None:
        self.training = torch.from_file("canary.bin", True, 8).numel() > 100


def in_forward(line: str) -> bytes:
    """`Plain`, `line` before the rest of its forward, written by hand as torch's printer never would."""
    return with_entry(
        scripted(Plain()),
        ".py",
        lambda text: re.sub(
            rb"(def forward\([^)]*\)[^:]*:\n)", lambda found: found[0] + b"    " + line.encode() + b"\n", text
        ),
    )


LINES = {
    "from_file": 'y = torch.from_file("canary.bin", True, 8)',
    "from_file by ops": 'y = ops.aten.from_file("canary.bin", True, 8)',
    "as an alias": "y = torch.from_file",
    "as_strided": "y = torch.as_strided(z, [100000], [1], 0)",
    "set_": "y = torch.set_(z, z, 0, [100000], [1])",
    "resize_": "y = torch.resize_(z, [100000])",
    "empty": "y = torch.empty([10])",
    "a tensor's method": "y = (z).as_strided([100000], [1], 0)",
    "a tensor's own method": "y = (z).set_(z)",
    "save": 'torch.save(z, "canary.bin")',
    "torch.ops.aten": 'y = torch.ops.aten.from_file("canary.bin", True, 8)',
    "torch._C": "y = torch._C._from_file(z)",
    "a custom class": "y = __torch__.torch.classes.quantized.Conv2dPackedParamsBase()",
    "an operator nobody knows": "y = ops.mine.write(z)",
    "prim of I/O": 'ops.prim.Print("x")',
    "print": 'print("x")',
    "fork": "y = ops.prim.fork(z)",
    "getattr of a dunder": 'y = getattr(self, "__setstate__")',
    "getattr of a value": "y = getattr(self, z)",
    "a dunder": "y = self.__class__",
    "a type": "y = annotate(__torch__.torch.classes.x.Y, z)",
    "a lambda": "y = lambda x: x",
    "an import": "import os",
    "a global": "global z",
    "a with": "with z: pass",
    "a while": "while True: pass",
    "an attribute set": "self.training = True",
    "an f-string": 'y = f"{z}"',
    "bytes": 'y = b"x"',
    "open": 'y = open("canary.bin", "w")',
    "not ASCII": 'y = "ä"',
}


@pytest.mark.parametrize("name", LINES)
def test_what_a_generator_does_not_need_is_refused(name: str) -> None:
    assert "nothing of it was run" in str(refused(in_forward(LINES[name])))


@pytest.mark.parametrize("made", [Writes, WritesWhenLoaded])
def test_a_file_that_writes_files(made: type[nn.Module]) -> None:
    """The attack is live: torch itself runs it. `--info`, loading, proving and the library do not."""
    data = scripted(made())
    module = torch.jit.load(io.BytesIO(data))
    module(torch.zeros(1, 8))
    assert Path(WRITTEN).exists()
    Path(WRITTEN).unlink()
    assert re.search("from_file|__setstate__", str(refused(data)))
    for use in (lambda: gan_serve.load("m.ts"), lambda: prove("m.ts"), lambda: run(selftest=True), lambda: run(n=1)):
        with pytest.raises(ContractError, match="does more than a generator needs"):
            use()
    run(info=True)
    assert read_contract("m.ts").interface.z_dim == 8
    assert not Path(WRITTEN).exists()


def run(**asked: Any) -> None:
    run_request(Request(model=Path("m.ts"), **asked), "auto", None)


def test_trust_is_what_runs_it(caplog: pytest.LogCaptureFixture) -> None:
    save(scripted(Writes()))
    with pytest.raises(ContractError) as caught:
        gan_serve.load("m.ts")
    assert "`trust_script=True`" in caught.value.hint
    generator = gan_serve.load("m.ts", trust_script=True)
    assert "`trust_script`: loading the file runs the program in it with your rights" in caplog.text
    generator.generate([0])
    assert Path(WRITTEN).exists()


def test_trust_is_for_scripts() -> None:
    with pytest.raises(GanportError, match=r"`trust_script` is for \.ts models"):
        gan_serve.load(trust_script=True)


CLASS_BODIES = {
    "a default that is computed": "  def f(self, x: Tensor=torch.ones([3])) -> Tensor:\n    return x\n",
    "a default that writes": '  def f(self, x: Tensor=torch.from_file("x", True, 8)) -> Tensor:\n    return x\n',
    "a value that is computed": '  y : Final[Tensor] = torch.from_file("canary.bin", True, 8)\n',
    "a decorator": "  @torch.jit.export\n  def f(self, x: Tensor) -> Tensor:\n    return x\n",
    "a custom class": "  y : __torch__.torch.classes.quantized.LinearPackedParamsBase\n",
    "a type of somebody's": "  y : os.PathLike\n",
    "a class in a class": "  class B(Module):\n    pass\n",
}


@pytest.mark.parametrize("name", CLASS_BODIES)
def test_what_loading_would_run_is_refused(name: str) -> None:
    body = CLASS_BODIES[name].encode()
    refused(with_entry(scripted(Plain()), ".py", lambda text: text + body))


def test_classes_that_are_no_modules() -> None:
    data = scripted(Plain())
    for base in (b"NamedTuple", b"Enum", b"Module, Module", b"torch.nn.Module", b"Module, metaclass=x"):
        refused(with_entry(data, ".py", replaced(b"(Module)", b"(" + base + b")")))


def test_pickles_name_only_what_they_should() -> None:
    data = scripted(nn.Sequential(nn.Linear(8, 16), Last()))
    for old, new in (
        (b"ctorch._utils\n_rebuild_tensor_v2\n", b"cposix\nsystem\n"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_qtensor\n"),
        (b"c__torch__.", b"c__torch__.torch.classes.quantized."),
    ):
        assert any(old in entry for name, entry in entries_of(data).items() if name.endswith("data.pkl"))
        broken = with_entry(data, "data.pkl", replaced(old, new))
        assert "data.pkl" in str(refused(broken))


def test_a_tensor_beyond_its_storage() -> None:
    """torch believes the shape in the pickle: reading it would show memory, writing to it would destroy it."""
    data = scripted(nn.Sequential(nn.Linear(8, 16), Last()))
    sizes = b"K\x10K\x08"
    assert any(sizes in entry for name, entry in entries_of(data).items() if name.endswith("data.pkl"))
    for larger in (b"M\xff\xffK\x08", b"J\xff\xff\xff\x7fK\x08"):
        broken = with_entry(data, "data.pkl", replaced(sizes, larger))
        assert "a tensor claims" in str(refused(broken))
    short = with_entry(data, "data/0", lambda entry: entry[:8])
    assert "a tensor claims more than the file holds" in str(refused(short))


def test_packed_entries() -> None:
    """torch packs its code, and only that; a tensor of zeros that unpacks to gigabytes is not unpacked."""
    data = scripted(nn.Sequential(nn.Linear(8, 16), Last()))
    assert load(save(with_entry(data, ".py", bytes, zipfile.ZIP_DEFLATED)), "cpu").generate([0]).shape == (1, 4, 4, 1)
    assert "compressed" in str(refused(with_entry(data, "data/0", lambda _: bytes(50 << 20), zipfile.ZIP_DEFLATED)))
    bomb = with_entry(data, ".py", lambda text: text + b"\n" * (50 << 20), zipfile.ZIP_DEFLATED)
    assert len(bomb) < 1 << 20
    assert "its code takes over 1 MB" in str(refused(bomb))
    assert "compressed" in str(refused(with_entry(data, "gan.spec", lambda _: b"[" * (50 << 20), zipfile.ZIP_DEFLATED)))


@pytest.mark.parametrize("deep", [b"(" * 5000 + b")" * 5000, b"-" * 5000 + b"1", b"[" * 90 + b"]" * 90])
def test_nested_code(deep: bytes) -> None:
    refused(with_entry(scripted(Plain()), ".py", lambda text: text + b"\ny = " + deep + b"\n"))


def test_two_entries_of_one_name() -> None:
    """What Python's reader finds under a name is not what torch's finds: it tells no case."""
    entries = entries_of(scripted(Plain()))
    code = next(name for name in entries if name.endswith(".py"))
    assert "two entries of one name" in str(refused(stored_zip({**entries, code.upper(): b"x"})))
    assert "one folder" in str(refused(stored_zip({**entries, "other/data.pkl": b"x"})))


def test_any_bit_is_a_refusal_or_harmless() -> None:
    data = scripted(Plain())
    for bit in range(0, 8 * len(data), 8 * len(data) // 150):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        path = save(bytes(broken))
        try:
            check_entries(read_entries(path), "m.ts")
            read_contract(path)
        except GanportError as error:
            assert error.hint  # noqa: PT017


class Many(nn.Module):
    """Layers and functions that generators are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.label = nn.Embedding(3, 8)
        self.body = nn.Sequential(
            nn.Linear(8, 64), nn.BatchNorm1d(64), nn.LeakyReLU(0.2, inplace=True), nn.Unflatten(1, (4, 4, 4)),
            nn.ConvTranspose2d(4, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.ReLU(True), nn.Upsample(scale_factor=2.0),
            nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), nn.InstanceNorm2d(8, affine=True), nn.ELU(),
            nn.GroupNorm(2, 8), nn.SiLU(), nn.GELU(), nn.PReLU(), nn.Hardswish(), nn.Softplus(), nn.Mish(),
            nn.Dropout(),
            nn.ReflectionPad2d(1), nn.Conv2d(8, 16, 3), nn.PixelShuffle(2), nn.AvgPool2d(2), nn.MaxPool2d(2),
            nn.AdaptiveAvgPool2d(4), nn.Conv2d(4, 1, 1), nn.Hardtanh(),
        )  # fmt: skip

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        z = z / torch.sqrt(torch.mean(z**2, dim=1, keepdim=True) + 1e-8)
        z = torch.cat([z[:, :4], z.chunk(2, 1)[1]], 1) * self.label(torch.zeros(z.shape[0], dtype=torch.long))
        x = self.body(z)
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        x = F.interpolate(x, size=[4, 4], mode="nearest")
        for i in range(2):
            x = x + 0.1 * i
        if x.shape[0] > 2:
            x = x.contiguous()
        weight = torch.softmax(torch.einsum("bchw,bdhw->bcd", x, x), -1)
        x = torch.tanh(x + torch.matmul(weight, x.flatten(2)).view_as(x))
        return x, (x * 127.5 + 128).floor().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


@pytest.mark.parametrize("how", ["scripted", "traced", "frozen"])
def test_a_strangers_generator_passes(how: str) -> None:
    torch.manual_seed(0)
    module = Many().eval()
    z = torch.randn(3, 8)
    made = torch.jit.trace(module, z, check_trace=False) if how == "traced" else torch.jit.script(module)
    if how == "frozen":
        made = torch.jit.freeze(made.eval())
    torch.jit.save(made, "m.ts", _extra_files=CONTRACT.to_metadata())
    image, pixels = load("m.ts", "cpu").run(z.numpy())
    np.testing.assert_allclose(image, module(z)[0].detach().numpy(), atol=1e-5)
    assert pixels.dtype == np.uint8


def test_every_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    save(in_forward('y = torch.from_file("a\\nb\\x1b[2J", True, 8)'))

    def work() -> int:
        load("m.ts")
        return 0

    assert console.exit_code(work, name="gan-gen") == 2
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["error", "hint"]


def test_every_command_that_takes_scripts_can_trust_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --trust-script each refuses the file, and writes nothing; with it each says what that means."""
    from gan_export.cli import app as gan_export
    from gan_serve.gen.cli import app as gan_gen
    from gan_trainer.cli import app as gan_train

    save(scripted(Writes()))
    commands = {
        "gan-gen": (gan_gen, ["--model", "m.ts", "--n", "2", "--out", "o.png"]),
        "gan-export": (gan_export, ["verify", "--model", "m.ts"]),
        "gan-train": (gan_train, ["eval", "--model", "m.ts", "--data", "digits", "--n", "500"]),
    }
    for name, (app, arguments) in commands.items():
        with pytest.raises(SystemExit) as refused:
            console.run(app, name, arguments)
        assert refused.value.code == 2
        error, hint = capsys.readouterr().err.splitlines()[-2:]
        assert "does more than a generator needs" in error
        assert "--trust-script" in hint
        assert not Path(WRITTEN).exists()
        with pytest.raises(SystemExit):
            console.run(app, name, [*arguments, "--trust-script"])
        assert "warning: --trust-script: loading the file runs the program in it" in capsys.readouterr().err
        Path(WRITTEN).unlink(missing_ok=True)


@pytest.mark.long
def test_gan_bench_refuses_a_program() -> None:
    save(scripted(Writes()))
    arguments = ["--model", "m.ts", "--quick", "--batch", "1"]
    command = [sys.executable, "-c", "from gan_bench.cli import main; main()", *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert done.returncode == 2, done.stderr
    assert "does more than a generator needs: torch.from_file" in done.stderr
    assert "--trust-script" in done.stderr
    assert not Path(WRITTEN).exists()
    trusting = [*command, "--trust-script", "--no-roofline", "--rounds", "4"]
    done = subprocess.run(trusting, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert "does more than a generator needs" not in done.stderr
    assert Path(WRITTEN).exists()
