"""Files of StyleGANs from the file alone: pickles of modules that bring their source, and state_dicts."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from export.style_networks import Generator, Rosinality, persistent
from export.style_networks_later import Lucidrains, StyleGan3
from gan_core.latents import latents
from gan_export import identify
from gan_export.answers import Answers
from gan_export.draft import Draft, Evidence
from gan_export.families import Family, stylegan2
from gan_export.families.lucidrains import Lucidrains as LucidrainsFamily
from gan_export.families.registry import check_family
from gan_export.families.rosinality import Rosinality as RosinalityFamily
from gan_export.families.stylegan3 import NvlabsStyleGan3
from gan_export.families.styles import MEAN_NOTE, W_SAMPLES

SOURCE = "class Generator: ...\n"


def drafted(path: Path) -> Draft:
    draft = identify.identify(path, Answers()).draft
    assert draft is not None
    return draft


def images(draft: Draft, z: Tensor, label: Tensor | None = None, **options: Tensor) -> Tensor:
    with torch.no_grad():
        image: Tensor = identify.module_of(draft)(z, label, **options)
    return image


def pickled(tmp_path: Path, network: Generator, source: str = SOURCE) -> Path:
    raw, path = Generator(network.architecture, network.n_classes), tmp_path / "network-snapshot.pkl"
    path.write_bytes(persistent({"G": raw, "D": None, "G_ema": network, "augment_pipe": None}, source))
    return path


@pytest.mark.parametrize("family", [stylegan2.NvlabsStyleGan2, NvlabsStyleGan3, RosinalityFamily, LucidrainsFamily])
def test_random_files_are_read_back(family: type[Family[Any]]) -> None:
    check_family(family(), times=8)


@pytest.mark.parametrize(("architecture", "n_classes"), [("skip", 0), ("skip", 3), ("resnet", 0), ("orig", 0)])
@torch.no_grad()
def test_a_pickle_of_modules_is_read_to_the_letter(tmp_path: Path, architecture: str, n_classes: int) -> None:
    network = Generator(architecture, n_classes)
    draft = drafted(pickled(tmp_path, network))
    assert draft.spec.interface.n_classes == n_classes
    z, label = torch.randn(3, 7), torch.tensor([0, 2, 1]) if n_classes else None
    torch.testing.assert_close(images(draft, z, label), network(z, label), rtol=1e-4, atol=1e-4)
    half = images(draft, z, label, psi=torch.tensor([0.5]))
    torch.testing.assert_close(half, network(z, label, psi=0.5), rtol=1e-4, atol=1e-4)
    ws = torch.randn(3, 6, 6)
    given = images(draft, 0 * z, label, w=ws, from_w=torch.tensor([True]), noise=torch.zeros(1))
    torch.testing.assert_close(given, network(z, label, ws=ws, noise=0.0), rtol=1e-4, atol=1e-4)


def test_a_known_source_makes_it_proved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pickled(tmp_path, Generator())
    unknown = drafted(path)
    assert {choice.evidence for choice in unknown.choices} == {Evidence.STRONG}
    assert "none that is known" in " ".join(unknown.notes)
    monkeypatch.setitem(stylegan2.SOURCES, hashlib.sha256(SOURCE.encode()).hexdigest(), "ours")
    known = drafted(path)
    assert {choice.evidence for choice in known.choices} == {Evidence.PROVED}
    assert "that of ours" in " ".join(known.notes)


def test_another_value_range_is_heard(tmp_path: Path) -> None:
    answers = Answers(value_range=(-2.0, 2.0))
    draft = identify.identify(pickled(tmp_path, Generator()), answers).draft
    assert draft is not None
    assert draft.spec.interface.value_range == (-2.0, 2.0)


def test_an_altered_class_is_not_taken_for_the_published_one(tmp_path: Path) -> None:
    network = Generator()
    vars(network.synthesis.get_submodule("b8.conv0"))["activation"] = "cubic"
    with pytest.raises(identify.NotUnderstoodError) as caught:
        drafted(pickled(tmp_path, network))
    assert "`module` FILE.py:Generator" in caught.value.hint


@torch.no_grad()
def test_a_state_dict_says_what_it_assumes(tmp_path: Path) -> None:
    network = Generator()
    for name, part in network.named_modules():
        if name.startswith("mapping.fc"):
            part.weight_gain, part.bias_gain = part.weight_gain / 2, 0.01
        if hasattr(part, "conv_clamp"):
            part.conv_clamp = 256.0
    torch.save(network.state_dict(), tmp_path / "g.pth")
    draft, z = drafted(tmp_path / "g.pth"), torch.randn(2, 7)
    assert "defaults of NVlabs' code" in " ".join(draft.notes)
    torch.testing.assert_close(images(draft, z), network(z), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_rosinality_with_and_without_the_mean_of_w(tmp_path: Path) -> None:
    network, z = Rosinality(), torch.randn(3, 6)
    w, average = network.w(z), torch.randn(6)
    torch.save({"g_ema": network.held, "latent_avg": average}, tmp_path / "converted.pt")
    torch.save({"g": Rosinality().held, "g_ema": network.held, "ada_aug_p": 0.0}, tmp_path / "trained.pt")
    converted, trained = drafted(tmp_path / "converted.pt"), drafted(tmp_path / "trained.pt")
    assert MEAN_NOTE in trained.notes
    assert MEAN_NOTE not in converted.notes
    mean = network.w(torch.from_numpy(trained.spec.interface.latents(range(W_SAMPLES)))).mean(dim=0)
    for draft, middle in ((converted, average), (trained, mean)):
        expected = network(w[:, None].expand(3, 6, 6))
        torch.testing.assert_close(images(draft, z), expected, rtol=1e-4, atol=1e-4)
        truncated = (middle + 0.7 * (w - middle))[:, None].expand(3, 6, 6)
        seen = images(draft, z, psi=torch.full((3,), 0.7), noise=torch.zeros(1))
        torch.testing.assert_close(seen, network(truncated, noise=0.0), rtol=1e-4, atol=1e-4)
        constant = torch.cat([network.held[f"noises.noise_{n}"].reshape(1, -1) for n in range(5)], dim=1)
        double = images(draft, z, noise_maps=2 * constant)
        torch.testing.assert_close(double, network(w[:, None].expand(3, 6, 6), noise=2.0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kernel", "radial"), [(3, False), (1, True)])
@torch.no_grad()
def test_stylegan3(tmp_path: Path, kernel: int, radial: bool) -> None:
    network, z = StyleGan3(kernel, radial), torch.randn(3, 6)
    torch.save(network.held, tmp_path / "g.pth")
    draft, w = drafted(tmp_path / "g.pth"), network.w(z)
    assert draft.family == "stylegan3"
    expected = network(w[:, None].expand(3, 4, 5))
    torch.testing.assert_close(images(draft, z), expected, rtol=1e-3, atol=1e-4)
    ws = torch.randn(3, 4, 5)
    given = images(draft, z, w=ws, from_w=torch.tensor([True]))
    torch.testing.assert_close(given, network(ws), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_lucidrains_takes_the_mapping_network_beside_the_generator(tmp_path: Path) -> None:
    network, raw, z = Lucidrains(), Lucidrains(), torch.randn(3, 5)
    other = {name.replace("SE.", "S.").replace("GE.", "G."): tensor for name, tensor in raw.held.items()}
    critic = {"D.blocks.0.net.0.weight": torch.randn(4, 3, 3, 3), "D.to_logit.weight": torch.randn(1, 64)}
    torch.save({"GAN": other | critic | network.held, "version": "1.9.0"}, tmp_path / "model_7.pt")
    draft, w = drafted(tmp_path / "model_7.pt"), network.w(z)
    assert draft.family == "stylegan2-lucidrains"
    assert draft.spec.interface.value_range == (0.0, 1.0)
    noise = torch.from_numpy(latents([0], 256, "uniform")).reshape(16, 16) / 2 + 0.5
    expected = network(w[:, None].expand(3, 3, 5), noise)
    torch.testing.assert_close(images(draft, z), expected, rtol=1e-4, atol=1e-4)
    silent = images(draft, z, noise=torch.zeros(1))
    torch.testing.assert_close(silent, network(w[:, None].expand(3, 3, 5), 0 * noise), rtol=1e-4, atol=1e-4)
