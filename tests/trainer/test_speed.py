"""How a training computes: what is chosen where, and that no choice changes what is trained."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gan_core.errors import GanportError
from gan_trainer import devices, speed
from gan_trainer.config import Limit
from gan_trainer.discriminators import Discriminator
from gan_trainer.presets import PRESETS, TUTORIALS
from gan_trainer.speed import PLAIN, Autocast, Speed, as_called, choose, lay_out
from gan_trainer.state import read_last
from trainer.conftest import CPU, CPU_SPEED, TINY, StartRun

CUDA = torch.device("cuda", 0)
EVERY_SPEED = {
    "plain": PLAIN,
    "channels-last": Speed(channels_last=True),
    "bf16": Speed(channels_last=True, bf16=True),
}


@pytest.fixture
def ampere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))


@pytest.fixture
def turing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))


@pytest.fixture
def amx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})


def test_auto_on_a_cpu_is_float32_and_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, "avx512_bf16": False})
    for exact in (True, False):
        assert choose(CPU, exact=exact) == Speed(channels_last=True, winograd=True)
    assert choose(CPU, exact=False).describe() == "float32, channels-last"


def test_bf16_on_a_cpu_is_there_for_the_asking() -> None:
    chosen = choose(CPU, exact=True, amp="bf16")
    assert chosen.bf16
    assert chosen.describe() == "bfloat16, channels-last"


@pytest.mark.usefixtures("amx")
def test_auto_on_a_cpu_with_bf16_is_to_be_measured() -> None:
    assert choose(CPU, exact=False).bf16 is None
    for kept in (choose(CPU, exact=True), choose(CPU, exact=False, amp="off")):
        assert kept == Speed(channels_last=True, winograd=True)


@pytest.mark.usefixtures("amx")
@pytest.mark.parametrize(("gain", "bf16"), [(1.1, False), (1.3, True)])
@pytest.mark.parametrize("changes", [{"conditional": True}, {"d_norm": "spectral", "d_loss": "joined"}])
def test_a_measured_pass_decides(
    gain: float, bf16: bool, changes: dict[str, object], start_run: StartRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = speed._pass_seconds

    def timed(network: nn.Module, *batch: Tensor) -> float:
        assert measure(network, *batch) > 0
        return 1.0 / gain if isinstance(network, Autocast) else 1.0

    monkeypatch.setattr(speed, "_pass_seconds", timed)
    labels = np.arange(42) % 2 if "conditional" in changes else None
    names = ("a", "b") if "conditional" in changes else ()
    given = {"limit": Limit("steps", 2), "labels": labels, "class_names": names, **changes}
    training, plain = (
        start_run(name=name, speed=asked, **given)
        for name, asked in (
            ("auto", choose(CPU, exact=False)),
            ("asked", choose(CPU, exact=False, amp="bf16" if bf16 else "off")),
        )
    )
    assert training.speed == plain.speed
    for run in (training, plain):
        run.run()
    weights = (run.state.discriminator.state_dict().values() for run in (training, plain))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*weights, strict=True)), "measuring left a trace"


@pytest.mark.usefixtures("amx")
@pytest.mark.parametrize("bf16", [False, True])
def test_a_resumed_run_computes_as_it_began(bf16: bool, monkeypatch: pytest.MonkeyPatch, start_run: StartRun) -> None:
    monkeypatch.setattr(speed, "_pass_seconds", lambda network, *_: 1.0 / (1 + isinstance(network, Autocast) * bf16))
    begun = start_run(name="begun", speed=choose(CPU, exact=False), limit=Limit("steps", 1))
    begun.run()
    monkeypatch.setattr(speed, "_pass_seconds", lambda *_: pytest.fail("measured again"))
    again = start_run(name="begun", speed=choose(CPU, exact=False), limit=Limit("steps", 1))
    assert again.speed == begun.speed
    assert again.speed.bf16 is bf16
    content = torch.load(begun.run_dir.last)
    content["bf16"] = "yes"
    torch.save(content, begun.run_dir.last)
    with pytest.raises(GanportError, match="bf16 is neither true nor false"):
        read_last(begun.run_dir.last)


@pytest.mark.usefixtures("ampere")
def test_auto_on_a_new_gpu() -> None:
    chosen = choose(CUDA, exact=False)
    assert chosen == Speed(channels_last=True, bf16=True, cuda_graphs=True)
    assert chosen.describe() == "bfloat16, channels-last, CUDA graph"
    assert not choose(CUDA, exact=True).bf16, "a tutorial stays exact"
    assert choose(CUDA, exact=True, amp="bf16").bf16, "unless it is asked for"
    assert not choose(CUDA, exact=False, amp="off").bf16
    assert not choose(CUDA, exact=False, cuda_graphs=False).cuda_graphs
    assert not choose(CUDA, exact=False, ngpu=2).cuda_graphs, "DataParallel is not to be recorded"


@pytest.mark.usefixtures("ampere")
def test_no_graph_among_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    assert not choose(CUDA, exact=False).cuda_graphs


@pytest.mark.usefixtures("turing")
def test_bf16_on_an_old_gpu() -> None:
    assert not choose(CUDA, exact=False).bf16
    with pytest.raises(GanportError, match="this GPU computes no bfloat16 in hardware"):
        choose(CUDA, exact=False, amp="bf16")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"amp": "fp16"}, "`amp` must be one of auto, off, bf16, got 'fp16'"),
        ({"amp": ""}, "`amp` must be one of"),
        ({"amp": "BF16"}, "`amp` must be one of"),
        ({"compiled": "yes"}, "`compile` must be one of auto, off, on, got 'yes'"),
        ({"compiled": "on", "ngpu": 2}, '`compile="on"` does not go with `ngpu`'),
    ],
)
def test_refused(asked: dict[str, object], message: str) -> None:
    with pytest.raises(GanportError, match=message):
        choose(CPU, exact=False, **asked)  # type: ignore[arg-type]


def test_compiling_is_tried_before_it_is_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_function: object, **_: object) -> Callable[[Tensor], Tensor]:
        def call(_: Tensor) -> Tensor:
            raise RuntimeError("\nInvalidCxxCompiler: No working C++ compiler found\nlong story")

        return call

    monkeypatch.setattr(torch, "compile", fails)
    with pytest.raises(
        GanportError, match=r"(?m)does not work here: InvalidCxxCompiler: No working C\+\+ compiler found$"
    ):
        choose(CPU, exact=False, compiled="on")
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    assert choose(CPU, exact=False, compiled="on").compiled


def test_compiled_networks_share_their_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def compiled(network: nn.Module, **settings: object) -> nn.Module:
        seen.append((network, settings))
        return network

    monkeypatch.setattr(torch, "compile", compiled)
    network = nn.Linear(2, 2)
    assert as_called(network, Speed(compiled=True), CPU) is network
    assert seen == [(network, {"dynamic": False})]
    assert as_called(network, PLAIN, CPU) is network


def test_tutorials_are_presets() -> None:
    assert set(PRESETS) - set(TUTORIALS) >= {"default"}
    assert set(TUTORIALS) <= set(PRESETS)


@pytest.mark.parametrize("name", ["channels-last", "bf16"])
def test_a_fast_way_trains_the_same(name: str, start_run: StartRun) -> None:
    """In float32 to rounding, in bfloat16 to its eight bits."""
    runs = {way: start_run(name=way, limit=Limit("steps", 6), speed=EVERY_SPEED[way]) for way in ("plain", name)}
    before = runs["plain"].state.generator.state_dict()["layers.1.weight"].clone()
    for training in runs.values():
        training.run()
    plain, fast = (list(run.state.generator.state_dict().values()) for run in runs.values())
    assert not torch.equal(plain[0], before)
    tolerance = 1e-4 if name == "channels-last" else 0.02
    for ours, theirs in zip(fast, plain, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours.contiguous(), theirs, rtol=tolerance, atol=tolerance)
    losses = [[line["loss_d"] for line in run.run_dir.read_log()] for run in runs.values()]
    assert losses[0] == pytest.approx(losses[1], rel=tolerance, abs=tolerance)
    if name == "bf16":
        assert losses[0] != losses[1], "nothing was computed in bfloat16"


def test_channels_last_is_how_weights_moments_and_images_lie(start_run: StartRun) -> None:
    training = start_run(recipe=dataclasses.replace(TINY, channels=3), limit=Limit("steps", 2))
    training.run()
    state = training.state
    assert state.ema is not None
    for network in (state.generator, state.discriminator, state.ema.module):
        for weight in network.parameters():
            assert weight.dim() < 4 or weight.is_contiguous(memory_format=torch.channels_last)
    for optimizer in (state.optimizer_g, state.optimizer_d):
        for tensor, moments in optimizer.state.items():
            assert moments["exp_avg"].stride() == tensor.stride() == moments["exp_avg_sq"].stride()
    assert training.batches(0).is_contiguous(memory_format=torch.channels_last)
    assert (
        not start_run(recipe=dataclasses.replace(TINY, arch="mlp", channels=3), name="mlp")
        .batches(0)
        .is_contiguous(memory_format=torch.channels_last)
    )


def test_a_run_goes_on_in_another_layout(start_run: StartRun) -> None:
    """Moments saved in one layout and weights in another must not be walked side by side as they lie."""
    whole = start_run(name="whole", limit=Limit("steps", 8), speed=PLAIN)
    whole.run()
    start_run(name="parts", limit=Limit("steps", 4), speed=PLAIN).run()
    parts = start_run(name="parts", limit=Limit("steps", 8), speed=CPU_SPEED)
    parts.run()
    for ours, theirs in zip(parts.state.generator.parameters(), whole.state.generator.parameters(), strict=True):
        torch.testing.assert_close(ours.contiguous(), theirs, rtol=1e-4, atol=1e-5)


def test_adam_restored_from_elsewhere_becomes_ours() -> None:
    """A state written by plain Adam, its flags and a step counter as a number, goes on as fused Adam does."""
    torch.manual_seed(0)
    networks = [nn.Conv2d(3, 4, 3) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    x = torch.randn(2, 3, 8, 8)
    plain, ours = (torch.optim.Adam(network.parameters(), 0.01) for network in networks)
    for network, optimizer in zip(networks, (plain, ours), strict=True):
        network(x).square().mean().backward()
        optimizer.step()
    for moments in ours.state.values():
        moments["step"] = 1
    ours.param_groups[0]["capturable"] = True  # as a GPU leaves it
    lay_out(networks[1], ours, CPU_SPEED)
    assert ours.param_groups[0]["fused"]
    assert not ours.param_groups[0]["capturable"]
    for network, optimizer in zip(networks, (plain, ours), strict=True):
        optimizer.zero_grad()
        network(x).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(networks[1].weight.contiguous(), networks[0].weight, rtol=1e-5, atol=1e-6)


def test_autocast_keeps_spectral_norm_in_float32() -> None:
    torch.manual_seed(0)
    network = Discriminator("dcgan", (1, 28, 28), 4, "spectral")
    plain = copy.deepcopy(network)
    called = Autocast(network, CPU)
    x = torch.randn(4, 1, 28, 28)
    logits, exact = called(x), plain(x)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, exact, rtol=0.05, atol=0.02)
    assert not torch.equal(logits, exact)
    for ours, theirs in zip(network.buffers(), plain.buffers(), strict=True):
        assert torch.equal(ours, theirs), "the singular vectors were rounded to bfloat16"


def test_images_may_fill_a_third_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (9 << 30, 16 << 30))
    assert devices.memory_for_images(CUDA) == 3 << 30
    assert devices.memory_for_images(CPU) == 2 << 30


def test_fast_bf16_asks_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0) if device == CUDA else (7, 0))
    assert speed.fast_bf16(CUDA)
    assert not speed.fast_bf16(torch.device("cuda", 1))
