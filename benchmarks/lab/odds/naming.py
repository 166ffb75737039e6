"""What strangers call modules and files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from gan_core.spec.generator_spec import GeneratorSpec
from gan_core.spec.layers import Activation, LabelEmbedding, Reshape, Upsample
from lab.odds.authors import Rng, one_of, pick

STYLES = {"numbered": 0.45, "attributes": 0.3, "grouped": 0.07, "blocks": 0.18}
"""One nn.Sequential; modules by name; the same, all of a kind side by side; blocks under any name."""
STEMS = ("main", "model", "net", "gen", "layers", "network", "seq", "fc", "body")
BLOCKS = ("block", "blk", "up", "stage", "gen", "dec", "step", "hidden", "upsample", "layer", "piece")
PARTS = (("conv", "bn"), ("layer", "norm"), ("deconv", "batchnorm"), ("op", "n"), ("l", "b"))
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "linear": ("fc", "linear", "lin", "dense", "l", "hidden"),
    "conv_transpose": ("deconv", "conv", "tconv", "ct", "convt", "up"),
    "conv": ("conv", "c", "conv2d_"),
    "batch_norm": ("bn", "norm", "batchnorm", "b", "batch_norm"),
}
LABELS = ("label_emb", "label_embedding", "embed", "emb", "class_embedding", "label_embed", "embedding")
PAIRS = (
    ("generator.pth", "discriminator.pth"), ("generator.pth", "discriminator.pth"), ("netG.pth", "netD.pth"),
    ("G.ckpt", "D.ckpt"), ("generator.pt", "critic.pt"), ("gen.pth", "disc.pth"), ("G_100.pth", "D_100.pth"),
)  # fmt: skip
DECODERS, WHOLE = ("decoder.pth", "vae_decoder.pt"), ("vae.pth", "model.pt", "vae_mnist.pth", "cvae.pth")
BOTTLENECKS = (
    ("fc21", "fc22"), ("fc_mu", "fc_logvar"), ("mu", "log_var"), ("mean_layer", "logvar_layer"),
    ("linear_means", "linear_log_var"), ("fc_mean", "fc_var"),
)  # fmt: skip


Part = Literal["generator", "decoder", "autoencoder"]


@dataclass(frozen=True)
class Named:
    """A generator's state_dict, and the word that tells how its modules are called, one of `STYLES`."""

    style: str
    tensors: dict[str, Tensor]


def name_modules(spec: GeneratorSpec, module: nn.Module, rng: Rng, *, stem: str = "", first: int = 1) -> Named:
    """The state_dict of `module`, made of `spec`, as an author names it.

    stem   of an nn.Sequential, where that is given
    first  number of the first module by name
    """
    style = pick(rng, STYLES)
    names = {
        "numbered": lambda: _numbered(spec, rng, stem or one_of(rng, STEMS)),
        "attributes": lambda: _attributes(spec, rng, first),
        "grouped": lambda: _attributes(spec, rng, first),
        "blocks": lambda: _blocks(spec, rng),
    }[style]()
    held: dict[int, dict[str, Tensor]] = {}
    for key, tensor in module.state_dict().items():
        _, index, own = key.rsplit(".", 2)
        held.setdefault(int(index), {})[own] = tensor.detach().clone()
    order = list(held)
    if style == "grouped":
        kinds = [spec.layers[index].kind for index in held]
        order.sort(key=lambda index: kinds.index(spec.layers[index].kind))
    return Named(style, {f"{names[i]}.{own}": tensor for i in order for own, tensor in held[i].items()})


def _label_name(rng: Rng) -> str:
    return one_of(rng, LABELS)


def _split(spec: GeneratorSpec, rng: Rng) -> int:
    """Where the layers behind a first linear one and a reshape begin, if they stand apart; else 0."""
    kinds = [layer.kind for layer in spec.layers]
    at = kinds.index("reshape")
    return at if "linear" in kinds[:at] and at < len(kinds) - 1 and rng.random() < 0.7 else 0


def _numbered(spec: GeneratorSpec, rng: Rng, stem: str) -> dict[int, str]:
    names: dict[int, str] = {}
    split, dropout = _split(spec, rng), rng.random() < 0.08
    front = one_of(rng, ("fc", "l1", "linear", "project", "input"))
    number = 0
    for index, layer in enumerate(spec.layers):
        if isinstance(layer, LabelEmbedding):
            names[index] = _label_name(rng)
        if layer.classes or (isinstance(layer, Reshape) and (split or not number)):
            number = 0
            continue
        names[index] = f"{front if index < split else stem}.{number}"
        number += 2 if dropout and isinstance(layer, Activation) else 1
    if split and rng.random() < 0.5:
        names |= {i: front for i, name in names.items() if name == f"{front}.0"}
    return names


def _attributes(spec: GeneratorSpec, rng: Rng, first: int) -> dict[int, str]:
    words = {kind: one_of(rng, stems) for kind, stems in ATTRIBUTES.items()}
    count = Counter(dict.fromkeys(words.values(), first - 1))
    names = {}
    for index, layer in enumerate(spec.layers):
        if isinstance(layer, LabelEmbedding):
            names[index] = _label_name(rng)
        elif layer.kind in words:
            count[words[layer.kind]] += 1
            names[index] = f"{words[layer.kind]}{count[words[layer.kind]]}"
    return names


def _blocks(spec: GeneratorSpec, rng: Rng) -> dict[int, str]:
    stem, dot = one_of(rng, BLOCKS), one_of(rng, ("", "."))
    parts = one_of(rng, (None, *PARTS))
    names, block, inside, before = {}, 0, 0, False
    for index, layer in enumerate(spec.layers):
        if isinstance(layer, LabelEmbedding):
            names[index] = _label_name(rng)
        elif isinstance(layer, Upsample) or (layer.tensors() and layer.kind != "batch_norm"):
            if not before:
                block, inside = block + 1, 0
            names[index] = f"{stem}{dot}{block}.{inside if parts is None else parts[0]}"
            before, inside = isinstance(layer, Upsample), inside + 1
        elif not isinstance(layer, Reshape) and not layer.classes:
            names[index] = f"{stem}{dot}{block}.{inside if parts is None else parts[1]}"
            inside += 1
    return names


@dataclass(frozen=True)
class Files:
    """How a pair is saved: `holds` is what the file called `name` holds, `beside` the name of the discriminator's file,
    None where there is none beside it."""

    name: str
    holds: dict[str, Any]
    beside: str | None


def name_files(
    generator: dict[str, Tensor], discriminator: dict[str, Tensor] | None, rng: Rng, part: Part = "generator"
) -> Files:
    """What an author saves: mostly a state_dict alone, the discriminator's often beside it. `part` says what
    `generator` is."""
    if part != "generator":
        return Files(one_of(rng, WHOLE if part == "autoencoder" else DECODERS), generator, None)
    name, other = one_of(rng, PAIRS)
    if rng.random() < 0.04:
        generator = {f"module.{key}": tensor for key, tensor in generator.items()}
    saved = pick(rng, {"alone": 0.35, "beside": 0.5, "one file": 0.1, "wrapped": 0.05})
    if saved == "one file":
        return Files("checkpoint.pth", {"generator": generator, "discriminator": discriminator, "epoch": 20}, None)
    holds = {"epoch": 20, "model_state_dict": generator, "loss": 0.7} if saved == "wrapped" else generator
    return Files(name, holds, None if saved == "alone" else other)
