"""Generators wrapped in the ways found in the wild: which is taken, under which names, and what is said about it."""

from __future__ import annotations

import argparse
import datetime
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.reading_nets import discriminator, generator, optimizer_state, parameters, prefixed, same
from gan_core.errors import GanportError
from gan_export.reading import Reading, read_checkpoint

RAW, EMA, D = generator(0), generator(5), discriminator()


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Reading]:
    def read_content(content: Any, **options: Any) -> Reading:
        torch.save(content, tmp_path / "checkpoint.tar")
        return read_checkpoint(tmp_path / "checkpoint.tar", **options)

    return read_content


@pytest.mark.parametrize(
    "key",
    [
        "g_ema", "G_ema", "ema", "avgG", "netG", "G", "g", "generator", "gen", "model", "state_dict",
        "model_state_dict", "params_ema", "params", "netG_state_dict", "generator_state_dict", "G_state_dict",
        "modelG_state_dict", "Generator", "g_running", "G_net", "weights", "net",
    ],
)  # fmt: skip
def test_one_generator_under_any_key(read: Callable[..., Reading], key: str) -> None:
    reading = read({"epoch": 3, key: RAW, "optimizer": optimizer_state(), "losses": [0.5, 0.25]})
    assert reading.chosen == key
    assert same(reading.tensors, RAW)
    assert reading.which == ("ema" if "ema" in key.lower() or key in ("avgG", "g_running") else "raw")
    assert [candidate.key for candidate in reading.passed_over] == ["optimizer"]


@pytest.mark.parametrize("raw_key", ["G", "netG", "g", "generator", "model", "state_dict", "params"])
@pytest.mark.parametrize("ema_key", ["g_ema", "G_ema", "ema", "avgG", "params_ema", "ema_generator", "netG_ema"])
def test_the_ema_is_preferred_and_raw_overrides(read: Callable[..., Reading], raw_key: str, ema_key: str) -> None:
    content = {
        raw_key: RAW,
        "D": D,
        "D_ema": discriminator(2),
        ema_key: EMA,
        "optG": optimizer_state(),
        "optD": optimizer_state(),
    }
    averaged = read(content)
    assert (averaged.which, averaged.chosen) == ("ema", ema_key)
    assert same(averaged.tensors, EMA)
    assert any("EMA" in note and ema_key in note for note in averaged.notes)
    raw = read(content, raw=True)
    assert (raw.which, raw.chosen) == ("raw", raw_key)
    assert same(raw.tensors, RAW)
    reasons = {candidate.key: candidate.why for candidate in raw.passed_over}
    assert reasons == {
        "D": "its name says discriminator", "D_ema": "its name says discriminator",
        ema_key: "raw weights are asked for",
        "optG": "an optimizer's state", "optD": "an optimizer's state",
    }  # fmt: skip


def test_wrappers_at_depth(read: Callable[..., Reading]) -> None:
    content = {
        "run": [{"meta": "x"}, {"checkpoint": {"models": {"netG": {"state_dict": RAW}, "netD": {"state_dict": D}}}}]
    }
    reading = read(content)
    assert reading.chosen == "run.1.checkpoint.models.netG.state_dict"
    assert same(reading.tensors, RAW)


def test_lucidrains(read: Callable[..., Reading]) -> None:
    gan = OrderedDict(
        **prefixed(RAW, "G."),
        **prefixed(D, "D."),
        **prefixed(D, "D_aug.D."),
        **prefixed(EMA, "GE."),
        **{"S.0.w": torch.ones(2)},
    )
    reading = read({"GAN": gan, "version": "1.8.8", "G_optim": optimizer_state(), "D_optim": optimizer_state()})
    assert (reading.chosen, reading.which) == ("GAN.GE", "ema")
    assert same(reading.tensors, EMA)
    raw = read({"GAN": gan, "version": "1.8.8"}, raw=True)
    assert raw.chosen == "GAN.G"
    assert same(raw.tensors, RAW)


def test_mimicry(read: Callable[..., Reading]) -> None:
    reading = read({"model_state_dict": RAW, "optimizer_state_dict": optimizer_state(), "global_step": 100000})
    assert reading.chosen == "model_state_dict"
    assert same(reading.tensors, RAW)


def test_fastgan_names_its_list_after_the_raw_generator(read: Callable[..., Reading]) -> None:
    content = {
        "g": prefixed(RAW, "module."), "d": prefixed(D, "module."), "g_ema": parameters(EMA),
        "opt_g": optimizer_state(), "opt_d": optimizer_state(),
    }  # fmt: skip
    reading = read(content)
    assert (reading.chosen, reading.which, reading.positional) == ("g_ema", "ema", True)
    assert list(reading.tensors) == list(RAW)
    for name, tensor in reading.tensors.items():
        expected = RAW if "running" in name or "num_batches" in name else EMA
        assert torch.equal(tensor, expected[name])
    assert any("same shapes in the same order" in note for note in reading.notes)
    raw = read(content, raw=True)
    assert same(raw.tensors, RAW)
    assert not raw.positional


def test_a_list_alone_is_numbered(read: Callable[..., Reading]) -> None:
    reading = read({"g_ema": parameters(EMA)})
    assert reading.positional
    assert same(reading.tensors, {str(index): tensor for index, tensor in enumerate(parameters(EMA))})
    assert any("numbered in order" in note for note in reading.notes)


def test_an_ema_of_parameters_alone_takes_its_buffers_from_the_raw_network(read: Callable[..., Reading]) -> None:
    shadow = {name: tensor for name, tensor in EMA.items() if "running" not in name and "num_batches" not in name}
    reading = read({"netG": prefixed(RAW, "module."), "ema": {"decay": 0.999, "shadow": shadow}})
    assert reading.chosen == "ema.shadow"
    assert list(reading.tensors) == list(RAW)
    assert torch.equal(reading.tensors["main.0.weight"], EMA["main.0.weight"])
    assert torch.equal(reading.tensors["main.1.running_mean"], RAW["main.1.running_mean"])
    assert any("6 buffers taken from 'netG'" in note for note in reading.notes)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("_generator.", "_discriminator."), ("netG.", "netD."), ("generator.", "discriminator."), ("G.", "D."),
        ("gan.netG.", "gan.netD."), ("module.generator.", "module.discriminator."), ("gen.", "disc."),
        ("first.", "second."),
    ],
)  # fmt: skip
@pytest.mark.parametrize("turned", [False, True])
def test_both_networks_in_one_dictionary(read: Callable[..., Reading], ours: str, theirs: str, turned: bool) -> None:
    parts = [prefixed(RAW, ours), prefixed(D, theirs)]
    state = OrderedDict(item for part in (parts[::-1] if turned else parts) for item in part.items())
    reading = read(state)
    assert reading.chosen == ours.rstrip(".")
    assert same(reading.tensors, RAW)
    assert [candidate.key for candidate in reading.passed_over] == [theirs.rstrip(".")]


def test_lightning(read: Callable[..., Reading]) -> None:
    state = OrderedDict(**prefixed(RAW, "generator."), **prefixed(D, "discriminator."), **prefixed(D, "lpips.net."))
    reading = read(
        {
            "epoch": 4,
            "pytorch-lightning_version": "2.1.0",
            "state_dict": state,
            "lr_schedulers": [],
            "optimizer_states": [optimizer_state(), optimizer_state()],
            "hyper_parameters": {"latent_dim": 6},
        }
    )
    assert reading.chosen == "state_dict.generator"
    assert same(reading.tensors, RAW)
    assert {c.key for c in reading.passed_over if c.why == "an optimizer's state"} == {
        "optimizer_states.0",
        "optimizer_states.1",
    }


def test_ema_pytorch_and_swa(read: Callable[..., Reading]) -> None:
    both = OrderedDict(**prefixed(RAW, "online_model."), **prefixed(EMA, "ema_model."), initted=torch.tensor(True))
    reading = read(both)
    assert (reading.chosen, reading.which) == ("ema_model", "ema")
    assert same(reading.tensors, EMA)
    averaged = torch.optim.swa_utils.AveragedModel(nn.Sequential(nn.Linear(6, 16), nn.Linear(16, 784)))
    reading = read(averaged.state_dict())
    assert reading.which == "ema"
    assert list(reading.tensors) == ["0.weight", "0.bias", "1.weight", "1.bias"]


@pytest.mark.parametrize(
    ("prefix", "stripped", "first"),
    [
        ("module.", "module.", "main.0.weight"),
        ("_orig_mod.", "_orig_mod.", "main.0.weight"),
        ("module._orig_mod.", "module._orig_mod.", "main.0.weight"),
        ("_orig_mod.module.", "_orig_mod.module.", "main.0.weight"),
        ("my_gan.module.", "my_gan.module.", "main.0.weight"),
        ("generator._orig_mod.", "generator.", "main.0.weight"),
        ("generator.", "generator.", "main.0.weight"),
        ("model.netG.", "model.netG.", "main.0.weight"),
        ("", "", "main.0.weight"),
    ],
)
def test_wrapper_prefixes_go_and_own_names_stay(
    read: Callable[..., Reading], prefix: str, stripped: str, first: str
) -> None:
    reading = read(prefixed(RAW, prefix))
    assert reading.prefix == stripped
    assert next(iter(reading.tensors)) == first
    assert same(reading.tensors, RAW)
    assert any("stripped" in note for note in reading.notes) == bool(stripped)


@pytest.mark.parametrize("own", ["main.", "gen.", "model.", "generator_deconv.", "net.gen."])
def test_a_generators_own_names_are_not_a_prefix(read: Callable[..., Reading], own: str) -> None:
    state = generator(0, own)
    reading = read(prefixed(state, "module."))
    assert same(reading.tensors, state)


class Config(dict[str, Any]):
    """A dictionary class of the author's, such as EasyDict or addict's."""


def test_configurations_and_dictionaries_of_other_classes(read: Callable[..., Reading]) -> None:
    content = Config(
        args=argparse.Namespace(lr=0.1, device=torch.device("cuda")), path=Path("runs"), G=Config(netG=Config(RAW))
    )
    content["started"] = datetime.datetime(2020, 1, 1)
    content["loss"] = defaultdict(list, g=[0.1] * 1000)
    content["rng"] = np.random.default_rng(0)
    reading = read(content)
    assert reading.chosen == "G.netG"
    assert same(reading.tensors, RAW)


def test_whole_optimizers_are_passed_over(read: Callable[..., Reading]) -> None:
    net = nn.Sequential(nn.Linear(6, 32), nn.Linear(32, 784))
    adam = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 6)).sum().backward()
    adam.step()
    reading = read({"model": net.state_dict(), "optimizer": adam, "step": 3})
    assert reading.chosen == "model"
    assert [(c.key, c.why) for c in reading.passed_over] == [("optimizer", "an optimizer's state")]


def test_strays_are_no_networks(read: Callable[..., Reading]) -> None:
    content = {
        "G": RAW, "D": D, "fixed_noise": torch.randn(64, 6, 1, 1), "img_list": [torch.ones(3, 8, 8)] * 3,
        "rng": torch.get_rng_state(), "args": {"lr": 1e-3}, "z": torch.ones(2, 6),
    }  # fmt: skip
    assert read(content).chosen == "G"


def test_shapes_decide_where_names_do_not(read: Callable[..., Reading]) -> None:
    reading = read({"net_1": D, "net_2": RAW})
    assert reading.chosen == "net_2"
    assert reading.passed_over[0].key == "net_1"
    assert "a discriminator" in reading.passed_over[0].why
    assert read([D, RAW]).chosen == "1"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("models.G", RAW),
        ("models", EMA),
        ("models.avg", EMA),
        ("models.both.netG", RAW),
        ("models.both.gan.x", EMA),
    ],
)
def test_key_overrides(read: Callable[..., Reading], key: str, expected: dict[str, Tensor]) -> None:
    both = OrderedDict(**prefixed(RAW, "netG."), **prefixed(D, "netD."), **prefixed(EMA, "gan.x."))
    reading = read(
        {"models": {"G": RAW, "D": D, "avg": EMA, "both": both}} if key != "models" else {"models": {"G_ema": EMA}},
        key=key,
    )
    assert same(reading.tensors, expected)
    assert reading.chosen.startswith(key)


def test_key_silences_the_shapes_but_says_what_it_sees(read: Callable[..., Reading]) -> None:
    reading = read({"G": RAW, "odd": D}, key="odd")
    assert same(reading.tensors, D)
    assert any("looks like a discriminator" in note for note in reading.notes)
    assert same(read(D, key=".").tensors, D)


@pytest.mark.parametrize(
    ("key", "said", "listed"),
    [
        ("nope", "no key 'nope' at the top of the file", "keys there: models, step"),
        ("models.H", "no key 'H' under 'models'", "keys there: G, D"),
        ("models.G.x", "no key 'x' under 'models.G'", "keys there: main"),
        ("models.G.main.0.weight", "leads to one tensor", ""),
        ("models.D", "", ""),
    ],
)
def test_keys_that_lead_nowhere_list_what_is_there(
    read: Callable[..., Reading], key: str, said: str, listed: str
) -> None:
    content = {"models": {"G": RAW, "D": D}, "step": {"x": 1}, "name": "run"}
    if not said:
        assert same(read(content, key=key).tensors, D)
        return
    with pytest.raises(GanportError, match=said) as caught:
        read(content, key=key)
    assert listed in caught.value.hint


def test_two_generators_are_a_question(read: Callable[..., Reading]) -> None:
    with pytest.raises(GanportError, match="2 networks that may be the generator: 'G_A', 'G_B'") as caught:
        read({"G_A": RAW, "G_B": EMA})
    assert '`key="G_A"`' in caught.value.hint


def test_raw_where_there_is_only_an_ema(read: Callable[..., Reading]) -> None:
    with pytest.raises(GanportError, match=r"averaged \(EMA\) weights only, at 'g_ema'"):
        read({"g_ema": EMA}, raw=True)


def test_a_training_state_of_ours(read: Callable[..., Reading]) -> None:
    content = {
        "ganport_run": 1, "config": "{}", "generator": RAW, "discriminator": D, "optimizer_g": optimizer_state(),
        "optimizer_d": optimizer_state(), "ema": EMA, "torch_rng": torch.get_rng_state(), "step": 3,
    }  # fmt: skip
    assert same(read(content).tensors, EMA)


def test_trusted_loading_walks_the_same_tree(read: Callable[..., Reading], caplog: pytest.LogCaptureFixture) -> None:
    content = {
        "models": {"G": nn.ParameterDict(), "netG": prefixed(RAW, "module."), "netD": D},
        "g_ema": parameters(EMA),
    }
    reading = read(content, trust_pickle=True)
    assert (reading.chosen, reading.format) == ("g_ema", "trusted")
    assert torch.equal(reading.tensors["main.0.weight"], EMA["main.0.weight"])
    assert "runs the code in it" in caplog.text
    assert any("`trust_pickle`" in note for note in reading.notes)
