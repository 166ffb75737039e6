"""A discriminator is read from its weights alone, found beside a generator, and says of images what its module says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm

from gan_core.errors import GanportError
from gan_export.answers import Answers
from gan_export.hypotheses.discriminator import label_beside, read_discriminators
from gan_export.identify import identify
from gan_export.reading.beside import file_beside
from gan_export.reading.weights import fold

Image = tuple[int, int, int]


def leaky() -> nn.Module:
    return nn.LeakyReLU(0.2)


def flat() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 32), leaky(), nn.Dropout(0.3), nn.Linear(32, 1), nn.Sigmoid())


def dcgan() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 2, 1, bias=False), leaky(),
        nn.Conv2d(8, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), leaky(),
        nn.Conv2d(16, 32, 4, 2, 1, bias=False), nn.BatchNorm2d(32), leaky(), nn.Conv2d(32, 1, 4, 1, 0, bias=False),
    )  # fmt: skip


def with_a_linear_end() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1), leaky(), nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), leaky(), nn.Flatten(),
        nn.Linear(16 * 49, 20), leaky(), nn.Linear(20, 1),
    )  # fmt: skip


def pooled() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, 1, 2), leaky(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 5, 1, 2), leaky(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * 49, 1),
    )  # fmt: skip


def settled(module: nn.Module) -> nn.Module:
    """In eval mode, its BatchNorms with statistics of their own."""
    torch.manual_seed(2)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean = torch.randn(part.num_features) * 0.1
            part.running_var = torch.rand(part.num_features) + 0.5
    return module.eval()


def before_sigmoid(module: nn.Sequential, image: Tensor) -> Tensor:
    parts = [part for part in module if not isinstance(part, nn.Sigmoid)]
    said: Tensor = nn.Sequential(*parts)(image)
    return said.flatten(1).mean(dim=1)


@pytest.mark.parametrize(
    ("make", "image"),
    [(flat, (1, 28, 28)), (dcgan, (3, 32, 32)), (with_a_linear_end, (1, 28, 28)), (pooled, (1, 28, 28))],
)
def test_it_says_what_its_module_says(make: object, image: Image) -> None:
    assert callable(make)
    module = settled(make())
    assert isinstance(module, nn.Sequential)
    found = read_discriminators(module.state_dict(), image, 0)
    assert found
    x = torch.rand(6, *image) * 2 - 1
    with torch.inference_mode():
        said = [one.logits(x) for one in found]
        right = [torch.allclose(logits, before_sigmoid(module, x), atol=1e-5) for logits, _ in said]
    assert right.index(True) <= (14 if make is pooled else 0)  # a pooling shows in no shape: a stride is likelier
    assert len(said[0][1]) == found[0].norms
    assert all(one >= 0.0 for one in said[0][1])
    assert [one.slope for one in found][:2] == [0.2, 0.0]


def chain(*acts: nn.Module, tidy: Callable[[nn.Module], nn.Module], norm: bool = False) -> nn.Sequential:
    """Two convolutions and a linear layer, with an activation behind each but the last."""
    return nn.Sequential(
        tidy(nn.Conv2d(1, 8, 4, 2, 1)), acts[0], tidy(nn.Conv2d(8, 16, 4, 2, 1)),
        *([nn.LayerNorm([16, 7, 7])] if norm else []), acts[-1], nn.Flatten(), tidy(nn.Linear(16 * 49, 1)),
    )  # fmt: skip


def kept(module: nn.Module) -> nn.Module:
    return module


@pytest.mark.parametrize(
    ("make", "slope"),
    [
        (lambda: chain(nn.SELU(), tidy=kept), "selu"),
        (lambda: chain(nn.GELU(), tidy=kept), "gelu"),
        (lambda: chain(nn.ELU(), tidy=kept), "elu"),
        (lambda: chain(nn.PReLU(8, init=0.4), nn.PReLU(16, init=0.1), tidy=kept), None),
        (lambda: chain(nn.PReLU(init=0.4), nn.PReLU(init=0.1), tidy=kept), None),
        (lambda: chain(leaky(), tidy=kept, norm=True), 0.2),
        (lambda: chain(leaky(), tidy=spectral_norm), 0.2),
        (lambda: chain(leaky(), tidy=parametrizations.spectral_norm), 0.2),
    ],
)
def test_other_activations_and_norms_are_read(make: Callable[[], nn.Sequential], slope: float | str | None) -> None:
    torch.manual_seed(4)
    module = make()
    x = torch.rand(6, 1, 28, 28) * 4 - 2
    with torch.no_grad():
        module(x)
        module.eval()
        found = read_discriminators(fold(module.state_dict())[0], (1, 28, 28), 0)
        one = next(one for one in found if slope is None or one.slope == slope)
        torch.testing.assert_close(one.logits(x)[0], module(x).flatten())
    assert one.given is (slope is None)


@pytest.mark.parametrize("first", [True, False])
def test_one_prelu_serves_all_layers(first: bool) -> None:
    torch.manual_seed(5)
    act, body = nn.PReLU(init=0.35), nn.Sequential(nn.Linear(784, 16), nn.Linear(16, 8), nn.Linear(8, 1))
    held = nn.ModuleDict({"act": act, "body": body} if first else {"body": body, "act": act}).state_dict()
    image = torch.rand(6, 1, 28, 28) * 4 - 2
    (one,) = read_discriminators(held, (1, 28, 28), 0)
    assert isinstance(one.slope, float)
    assert one.slope == pytest.approx(0.35)
    assert one.cost == pytest.approx(0.0)
    with torch.inference_mode():
        x = act(body[1](act(body[0](image.flatten(1)))))
        torch.testing.assert_close(one.logits(image)[0], body[2](x).flatten())


@pytest.mark.parametrize("kind", ["one-hot", "table", "plane"])
def test_a_label_is_told_as_the_module_is_told_it(kind: str) -> None:
    torch.manual_seed(3)
    image, label = torch.rand(8, 1, 28, 28), torch.arange(8) % 10
    table = nn.Embedding(10, 784 if kind == "plane" else 6)
    if kind == "plane":
        body: nn.Sequential = nn.Sequential(nn.Conv2d(2, 4, 4, 2, 1), leaky(), nn.Flatten(), nn.Linear(4 * 196, 1))
        x = torch.cat((image, table(label).reshape(8, 1, 28, 28)), dim=1)
    else:
        said = torch.eye(10)[label] if kind == "one-hot" else table(label)
        body = nn.Sequential(nn.Linear(784 + said.shape[1], 16), leaky(), nn.Linear(16, 1))
        x = torch.cat((image.flatten(1), said), dim=1)
    held = {f"body.{name}": tensor for name, tensor in body.state_dict().items()}
    if kind != "one-hot":
        held = {"label_embedding.weight": table.weight.detach()} | held
    found = read_discriminators(held, (1, 28, 28), 10)
    assert found
    with torch.inference_mode():
        torch.testing.assert_close(found[0].logits(image, label)[0], body(x).flatten())


def test_what_does_not_take_the_image_is_not_read() -> None:
    assert read_discriminators(flat().state_dict(), (1, 32, 32), 0) == []
    assert read_discriminators(dcgan().state_dict(), (1, 32, 32), 0) == []
    assert read_discriminators({"a.weight_bar": torch.ones(3, 3), "b.weight": torch.ones(1, 3)}, (1, 1, 3), 0) == []


def test_no_way_ends_at_an_instance_norm_of_one_place() -> None:
    """torch refuses to run one in training, so that nobody has trained with it."""
    net = nn.Sequential(
        nn.Conv2d(1, 8, 4, 2, 1), nn.Conv2d(8, 16, 4, 2, 1), nn.InstanceNorm2d(16, affine=True), nn.Conv2d(16, 1, 1)
    )
    found = read_discriminators(dict(net.state_dict()), (1, 4, 4), 0)
    assert found
    for one in found:
        assert one.logits(torch.zeros(2, 1, 4, 4))[0].shape == (2,)


def test_the_classes_of_a_one_hot_label_are_told() -> None:
    generator = nn.Sequential(nn.Linear(110, 16), nn.ReLU(), nn.Linear(16, 784)).state_dict()
    told = nn.Sequential(nn.Linear(784 + 12, 16), nn.Linear(16, 1)).state_dict()
    assert label_beside(told, generator) == 12
    assert label_beside(flat().state_dict(), generator) == 0
    assert label_beside({"label_emb.weight": torch.ones(10, 10)} | told, generator) == 0


@pytest.mark.parametrize(
    ("generator", "others", "found"),
    [
        ("netG_epoch_24.pth", ["netD_epoch_24.pth", "netD_epoch_23.pth", "netG_epoch_23.pth"], "netD_epoch_24.pth"),
        ("generator.pth", ["discriminator.pth", "discriminator_cgan.pth"], "discriminator.pth"),
        ("generator_cgan.pth", ["discriminator.pth", "discriminator_cgan.pth"], "discriminator_cgan.pth"),
        ("G.ckpt", ["D.ckpt", "D.txt"], "D.ckpt"),
        ("faces.pt", ["faces.discriminator.pt", "other.discriminator.pt"], "faces.discriminator.pt"),
        ("gen.pth", ["critic.pt"], "critic.pt"),
        ("gen.pth", ["critic.pt", "disc.pt"], None),
        ("gen.pth", ["gen2.pth", "optimizer_D.pth"], None),
    ],
)
def test_the_file_of_the_same_name_but_for_the_role_lies_beside(
    tmp_path: Path, generator: str, others: list[str], found: str | None
) -> None:
    for name in (generator, *others):
        (tmp_path / name).write_bytes(b"x")
    assert file_beside(tmp_path / generator) == (None if found is None else tmp_path / found)


def test_norms_that_are_registered_behind_all_layers_run_behind_theirs() -> None:
    module = settled(dcgan())
    assert isinstance(module, nn.Sequential)
    held = module.state_dict()
    convolutions = {key: tensor for key, tensor in held.items() if key[0] in "0257" or key.startswith("8")}
    norms = {key: tensor for key, tensor in held.items() if key not in convolutions}
    found = read_discriminators(convolutions | norms, (3, 32, 32), 0)
    image = torch.rand(6, 3, 32, 32) * 2 - 1
    with torch.inference_mode():
        assert torch.allclose(found[0].logits(image)[0], before_sigmoid(module, image), atol=1e-5)
    assert found[0].norms == 2


@pytest.mark.parametrize(
    ("name", "others", "found"),
    [
        ("netD_3.pth", ["netG_3.pth", "netG_2.pth"], "netG_3.pth"),
        ("faces.discriminator.pt", ["faces.pt"], "faces.pt"),
        ("D.ckpt", ["G.ckpt", "gen.ckpt"], None),
        ("D.ckpt", ["notes.ckpt"], None),
    ],
)
def test_who_names_a_discriminator_is_told_of_its_generator(
    tmp_path: Path, name: str, others: list[str], found: str | None
) -> None:
    torch.save(dcgan().state_dict(), tmp_path / name)
    for other in others:
        (tmp_path / other).write_bytes(b"x")
    with pytest.raises(GanportError, match="what looks like a discriminator") as told:
        identify(tmp_path / name, Answers())
    hint = f"the generator is probably {found}, beside it" if found else "name the generator's file"
    assert str(told.value.hint).startswith(hint)
