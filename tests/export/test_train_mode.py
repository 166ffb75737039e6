"""Running statistics that no network brings, and those that are computed again in their place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from export import forensics_nets as nets
from export import live_networks as networks
from gan_core.errors import GanportError
from gan_core.interface import Interface
from gan_core.latents import latents
from gan_core.spec.generator_spec import GeneratorSpec
from gan_export import asking
from gan_export.again import source_again
from gan_export.answers import Answers, LiveAnswers, OnnxOptions
from gan_export.draft import Draft, Evidence
from gan_export.exporting import export_onnx
from gan_export.forensics.train_mode import SCATTERED, forgotten, useless
from gan_export.identify import Identified, identify, module_of, source_of
from gan_export.inspection import advise, next_command
from gan_export.live.source import live_source
from gan_export.options import checkpoint_answers
from gan_export.reading import read_checkpoint
from gan_export.recompute import LEAST, MOST, RECOMPUTED, latents_for, recompute
from gan_export.understanding.understand import draft_candidates
from gan_trainer.networks.generator import build
from real_files import real_file

pytestmark = pytest.mark.slow

LEAKY = nets.leaky(0.2)


def scattered(weights: dict[str, Tensor], names: str = "running_var", seed: int = 0) -> dict[str, Tensor]:
    """`weights` with running variances that are off by up to hundreds, one factor for each channel."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: tensor * torch.randn(tensor.shape, generator=generator).mul(2).exp() if name.endswith(names) else tensor
        for name, tensor in weights.items()
    }


def batch_images(spec: GeneratorSpec, weights: dict[str, Tensor], n: int = 512) -> Tensor:
    """What `spec` draws in train mode: float32 (n, C, H, W) of the seeds 0 … n - 1."""
    module = build(spec)
    module.load_state_dict(weights, strict=False)
    z = torch.from_numpy(latents(range(n), spec.interface.z_dim))
    label = (torch.arange(n) % spec.interface.n_classes,) if spec.interface.n_classes else ()
    with torch.no_grad():
        images: Tensor = module.train()(z, *label)
    return images


def stranger(folder: Path, weights: dict[str, Tensor]) -> Path:
    """A checkpoint under names that tell nothing."""
    stems: dict[str, str] = {}
    renamed = {}
    for name, tensor in weights.items():
        stem, _, local = name.rpartition(".")
        renamed[f"{stems.setdefault(stem, f'part{len(stems)}')}.{local}"] = tensor
    torch.save(renamed, folder / "g.pth")
    return folder / "g.pth"


def found(path: Path, **answers: Any) -> Identified:
    return identify(path, Answers(**answers), lambda _: None)


def statistics_of(draft: Draft | None) -> tuple[str, Evidence]:
    assert draft is not None
    return next((choice.value, choice.evidence) for choice in draft.choices if choice.field == "statistics")


@pytest.mark.parametrize(
    "spec",
    [
        nets.dcgan(LEAKY, LEAKY),
        nets.dcgan(LEAKY, nets.RELU, n_classes=4),
        nets.mlp(LEAKY, LEAKY),
        nets.dcgan(LEAKY, LEAKY, eps=0.8),
    ],
)
@pytest.mark.parametrize("sampler", [nets.normal, nets.uniform, nets.half_uniform])
def test_only_variances_of_no_network_are_of_no_use(spec: GeneratorSpec, sampler: Callable[[int, int], Tensor]) -> None:
    right = nets.trained(spec, sampler)
    assert useless([nets.blank(spec, right)]) is None
    factor = useless([nets.blank(spec, scattered(right))])
    assert factor is not None
    assert factor > SCATTERED
    assert useless([nets.blank(spec, {k: v * 30 if k.endswith("var") else v for k, v in right.items()})]) is None


def test_statistics_that_are_no_numbers_are_of_no_use() -> None:
    spec = nets.dcgan(LEAKY, LEAKY)
    broken = {k: torch.full_like(v, torch.nan) if k.endswith("var") else v for k, v in nets.trained(spec).items()}
    assert useless([nets.blank(spec, broken)]) == float("inf")


def test_only_what_is_of_no_use_is_forgotten() -> None:
    spec = nets.dcgan(LEAKY, LEAKY)
    weights = scattered(nets.trained(spec), "layers.2.running_var")
    draft = nets.blank(spec, weights)
    kept = forgotten(weights, draft)
    changed = {name for name, tensor in kept.items() if tensor is not weights[name]}
    assert changed == {"layers.2.running_mean", "layers.2.running_var"}
    every = forgotten(weights, draft, every=True)
    assert sum(tensor is not weights[name] for name, tensor in every.items()) == 4


@pytest.mark.parametrize("classes", [0, 4])
def test_recomputed_statistics_draw_what_batches_do(classes: int) -> None:
    spec = nets.dcgan(LEAKY, nets.RELU, n_classes=classes)
    weights = scattered(nets.trained(spec))
    wanted = batch_images(spec, weights)
    module = build(spec)
    module.load_state_dict(weights, strict=False)
    z = torch.from_numpy(latents(range(512), spec.interface.z_dim))
    label = (torch.arange(512) % classes,) if classes else ()
    with torch.no_grad():
        before = module.eval()(z, *label)
        recompute(module, spec.interface, 512)
        after = module(z, *label)
    assert float((after - wanted).abs().max()) < 1e-3
    assert float((before - wanted).abs().mean()) > 0.05


class Twice(nn.Module):
    """One BatchNorm, run twice; another never; and an `except` that is as wide as strangers write them."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm, self.never = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.BatchNorm1d(9)

    def forward(self, z: Tensor) -> Tensor:
        try:
            x = self.norm(self.fc(z))
            return torch.tanh(self.norm(3 * x)).reshape(-1, 1, 2, 3)
        except Exception:
            return torch.zeros(len(z), 1, 2, 3)


def test_a_batch_norm_that_runs_twice_remembers_both_and_one_that_never_runs_stays() -> None:
    torch.manual_seed(0)
    module = Twice().eval()
    recompute(module, Interface(4, (1, 2, 3)), 300)
    state = module.state_dict()
    first = module.fc(torch.from_numpy(latents(range(300), 4)))
    both = torch.cat((first, 3 * first))  # the second time what comes is normalised with mean 0 and variance 1
    assert torch.allclose(state["norm.running_mean"], both.mean(dim=0), atol=1e-4)
    assert torch.allclose(state["norm.running_var"], both.var(dim=0), rtol=1e-4)
    assert torch.equal(state["never.running_var"], torch.ones(9))


def test_without_batch_norms_there_is_nothing_to_recompute(tmp_path: Path) -> None:
    with pytest.raises(GanportError, match="no BatchNorm with running statistics"):
        recompute(nn.Linear(4, 6), Interface(4, (1, 2, 3)), 16)
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 784), nn.Tanh())
    torch.save(net.state_dict(), tmp_path / "g.pth")
    with pytest.raises(GanportError, match="no BatchNorm with running statistics") as error:
        found(tmp_path / "g.pth", recompute_stats=True)
    assert error.value.hint == "leave out `recompute_stats`"


def test_large_images_need_fewer_latents() -> None:
    assert [latents_for(Interface(4, (1, side, side))) for side in (8, 32, 64, 1024)] == [MOST, MOST, MOST // 4, LEAST]


def test_a_file_of_no_use_is_asked_about_and_shown_both_ways(tmp_path: Path) -> None:
    spec = nets.dcgan(LEAKY, LEAKY)
    weights = scattered(nets.trained(spec))
    said: list[str] = []
    one = identify(stranger(tmp_path, weights), Answers(), said.append)
    value, evidence = statistics_of(one.draft)
    assert value == f"recomputed from {MOST} latents"
    assert evidence is Evidence.WEAK
    assert any(line.startswith("the running statistics are of no use: the author used train mode") for line in said)
    assert any(choice.field == "statistics" for choice in one.unanswered)
    assert "--recompute-stats" in next_command(one, advise(one))
    assert one.draft is not None
    asking.ask(one, tmp_path / "g.onnx")
    *rows, as_it_stands = asking.candidates_of(one)
    assert all(row.words.endswith(", statistics recomputed") for row in rows)
    assert as_it_stands.label.endswith("--no-recompute-stats")
    assert (as_it_stands.pixels != rows[0].pixels).any()


def test_what_other_batch_norms_remember_still_tells(tmp_path: Path) -> None:
    spec = nets.dcgan(LEAKY, LEAKY)
    path = stranger(tmp_path, scattered(nets.trained(spec), "layers.2.running_var"))
    draft = found(path, image=spec.interface.image).draft
    assert draft is not None
    assert len(draft.fits) == 1
    first = next(choice for choice in draft.choices if choice.field == "activation")
    assert (first.value, first.evidence) == (LEAKY, Evidence.STRONG)


def test_the_users_word_settles_it_and_the_file_says_so(tmp_path: Path) -> None:
    spec = nets.dcgan(LEAKY, LEAKY)
    weights = scattered(nets.trained(spec))
    path = stranger(tmp_path, weights)
    (tmp_path / "spec.json").write_text(spec.dumps())
    open_one = found(path, spec=tmp_path / "spec.json")
    assert [choice.field for choice in open_one.unanswered] == ["statistics"]
    assert "--no-recompute-stats" in asking.ask(open_one, tmp_path / "g.onnx").hint
    said = found(path, spec=tmp_path / "spec.json", recompute_stats=True, stats_latents=512)
    assert not said.unanswered
    source = source_of(said)
    assert source.provenance[RECOMPUTED] == 512
    with torch.inference_mode():
        drawn = source.module(torch.from_numpy(latents(range(512), spec.interface.z_dim)))
    assert float((drawn - batch_images(spec, weights)).abs().max()) < 1e-3
    assert export_onnx(source, tmp_path / "g.onnx", OnnxOptions(optimize="none")).ok
    again = source_again(tmp_path / "g.onnx", path, None)
    ours, theirs = again.module.state_dict(), source.module.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    kept = found(path, spec=tmp_path / "spec.json", recompute_stats=False)
    assert not kept.unanswered
    assert kept.draft is not None
    state = module_of(kept.draft).state_dict()
    assert torch.equal(state["layers.2.running_var"], weights["layers.2.running_var"])


def test_a_live_module_can_have_new_statistics(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = networks.lively(networks.Plain())
    torch.save(module.state_dict(), tmp_path / "g.pth")
    live = LiveAnswers(f"{networks.__file__}:Plain")
    source = live_source(tmp_path / "g.pth", Answers(live=live, recompute_stats=True, stats_latents=256))
    assert source.provenance[RECOMPUTED] == 256
    assert "running statistics recomputed from 256 latents" in source.answers
    z = torch.from_numpy(latents(range(256), source.interface.z_dim))
    with torch.no_grad():
        wanted = module.train()(z[..., None, None])
        assert float((source.module(z) - wanted).abs().max()) < 1e-3
    torch.save(networks.lively(networks.Flat()).state_dict(), tmp_path / "flat.pth")
    flat = LiveAnswers(f"{networks.__file__}:Flat")
    with pytest.raises(GanportError, match="no BatchNorm with running statistics"):
        live_source(tmp_path / "flat.pth", Answers(live=flat, recompute_stats=True))


@pytest.mark.long
def test_a_decoder_of_other_latents_is_no_train_mode(tmp_path: Path) -> None:
    spec = nets.dcgan(LEAKY, LEAKY)
    path = stranger(tmp_path, scattered(nets.trained(spec)))
    path = path.rename(tmp_path / "decoder.pth")
    draft = found(path).draft
    assert draft is not None
    assert not draft.recomputed


def test_of_strangers_files_one_is_of_no_use() -> None:
    factors = {}
    for path in sorted(real_file("second").glob("*.pt*")):
        if "discriminator" not in path.name:
            reading = read_checkpoint(path)
            with contextlib.suppress(GanportError):
                factors[path.name] = useless(draft_candidates(reading.tensors, modules=reading.modules))
    assert len(factors) > 5
    assert [name for name, factor in factors.items() if factor is not None] == ["train_mode_dcgan64.pth"]
    assert (factors["train_mode_dcgan64.pth"] or 0) > 100


def test_options_that_have_no_place() -> None:
    with pytest.raises(GanportError, match="--stats-latents has no place without --recompute-stats"):
        checkpoint_answers(stats_latents=512)
    with pytest.raises(GanportError, match="--stats-latents has no place without --recompute-stats"):
        checkpoint_answers(recompute_stats=False, stats_latents=512)
    assert checkpoint_answers(recompute_stats=True) == Answers(recompute_stats=True)
