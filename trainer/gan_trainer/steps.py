"""One training step: the whole algorithm.

Both networks stay in training mode. Nothing here waits for the device: the step's numbers come back as a tensor. All
that is random in a step comes in drawn (`draw_noise`): one stream, the same on every device and in every process.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_trainer.losses import LOSSES, gradient_penalty, score, squared_norms
from gan_trainer.recipes import AUGMENTATIONS, Recipe, columns
from gan_trainer.upscaling import reduced

SIGHTS = 4
"""How often D sees a batch in a step, each time through other augmentations: reals and fakes in its own step, fakes and
(for the relativistic loss) reals in G's."""


def n_uniforms(recipe: Recipe) -> int:
    """How many uniform numbers an image takes."""
    return SIGHTS * columns(recipe.augmentations) + (recipe.penalty == "gp")


def draw_noise(recipe: Recipe, n: int, rng: torch.Generator) -> Tensor:
    """float32 (n, z_dim + `n_uniforms(recipe)`) on the CPU.

    Latents, N(0, 1); then uniform numbers in [0, 1) for the augmentations of each sight, and the last one for the
    gradient penalty's point between real and fake; only where the recipe has them.
    """
    z = torch.randn(n, recipe.z_dim, generator=rng)
    uniforms = n_uniforms(recipe)
    return torch.cat((z, torch.rand(n, uniforms, generator=rng)), 1) if uniforms else z


STATS = ("loss_d", "loss_g", "d_x", "d_g_z1", "d_g_z2")
"""What a step reports: the two losses (D's without its penalty), D(x) on reals, D(G(z)) in D's step and in G's. With D
first, the second D(G(z)) sees D's update; with G first, both are the same number. A step that does not train G takes
its loss and D(G(z)) from D's step. What D(x) is, see `gan_trainer.losses.score`."""


def train_step(
    G: nn.Module,
    D: nn.Module,
    opt_G: Optimizer,
    opt_D: Optimizer,
    real_NCHW: Tensor,
    noise: Tensor,
    label: Tensor | None = None,
    *,
    recipe: Recipe,
    train_g: bool = True,
    penalise: bool = True,
) -> Tensor:
    """One step of D and one of G on the same fakes G(z), drawn once. Returns `STATS`, float32 (5,), on the device.

    `noise` is what `draw_noise` draws. `label` int64 (N,) are the classes of the reals; fakes are drawn of the
    same ones, so that classes are as frequent among them as in the data. Without `train_g` G stays as it is; `penalise`
    says whether the recipe's penalty is due (`Recipe.trains_g`, `Recipe.penalises`). An upscaler makes its fakes of the
    reduced reals, and its loss has their L1 distance in it.
    """
    z, u = noise.tensor_split((recipe.z_dim,), 1)
    given = z if recipe.task == "generate" else reduced(real_NCHW, recipe.scale)
    with torch.set_grad_enabled(train_g):
        fake_NCHW = G(given, label)
    if not recipe.adversarial:
        return _pixel_step(opt_G, fake_NCHW, real_NCHW)
    if recipe.order == "d_first":
        d_stats = d_step(D, opt_D, real_NCHW, fake_NCHW.detach(), recipe, label, u, penalise=penalise)
        g_stats = g_step(D, opt_G, fake_NCHW, real_NCHW, recipe, label, u) if train_g else None
    else:
        g_stats = g_step(D, opt_G, fake_NCHW, real_NCHW, recipe, label, u)
        d_stats = d_step(D, opt_D, real_NCHW, fake_NCHW.detach(), recipe, label, u, penalise=penalise)
    loss_d, loss_g, d_x, d_g_z1 = d_stats
    if g_stats is not None:
        loss_g, d_g_z2 = g_stats
    else:
        d_g_z2 = d_g_z1
    return torch.stack((loss_d, loss_g, d_x, d_g_z1, d_g_z2))


def _pixel_step(opt_G: Optimizer, fake_NCHW: Tensor, real_NCHW: Tensor) -> Tensor:
    """A step of G alone, on the L1 loss. Returns `STATS`, those of D 0."""
    opt_G.zero_grad()
    loss = (fake_NCHW - real_NCHW).abs().mean()
    loss.backward()
    opt_G.step()
    return nn.functional.pad(loss.detach().reshape(1), (1, 3))


def d_step(
    D: nn.Module,
    opt_D: Optimizer,
    real_NCHW: Tensor,
    fake_NCHW: Tensor,
    recipe: Recipe,
    label: Tensor | None = None,
    u: Tensor | None = None,
    *,
    penalise: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """D learns to tell real from fake. Returns (loss, what G's loss would be, D(x), D(G(z))) before the update.

    Reals and fakes pass in batches of their own where "sum" or "mean" says so: BatchNorm sees each alone, as the
    tutorials have it. "joined" passes both at once, for a D without BatchNorm: the same loss as "sum", one pass.
    """
    of = LOSSES[recipe.loss]
    opt_D.zero_grad()
    if recipe.d_loss == "joined":
        loss, real_logits, fake_logits = _joined(D, real_NCHW, fake_NCHW, recipe, label, u, penalise=penalise)
    else:
        real_logits = D(_seen(real_NCHW, recipe, u, 0), label)
        loss_real = of.d_real(real_logits)
        if recipe.d_loss == "sum":
            loss_real.backward()
        fake_logits = D(_seen(fake_NCHW, recipe, u, 1), label)
        loss_fake = of.d_fake(fake_logits)
        if recipe.d_loss == "sum":
            loss_fake.backward()  # the gradients add up
            loss = loss_real + loss_fake
        else:
            loss = (loss_real + loss_fake) / 2
            loss.backward()
    opt_D.step()
    real_logits, fake_logits = real_logits.detach(), fake_logits.detach()
    return (
        loss.detach(),
        of.g_of(fake_logits, real_logits if of.paired else None),
        score(real_logits, recipe.loss),
        score(fake_logits, recipe.loss),
    )


def _joined(
    D: nn.Module,
    real_NCHW: Tensor,
    fake_NCHW: Tensor,
    recipe: Recipe,
    label: Tensor | None,
    u: Tensor | None,
    *,
    penalise: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """One pass of reals and fakes, and the penalty where it is due. Returns (loss without penalty, logits of each)."""
    n = len(real_NCHW)
    penalty = recipe.penalty if penalise else "none"
    both_NCHW = torch.cat((real_NCHW, fake_NCHW))
    both_NCHW.requires_grad_(penalty in ("r1", "r1r2"))
    seen_NCHW = both_NCHW
    if recipe.augmentations:
        halves = both_NCHW.split(n)
        seen_NCHW = torch.cat([_seen(half, recipe, u, sight) for sight, half in enumerate(halves)])
    logits = D(seen_NCHW, None if label is None else torch.cat((label, label)))
    real_logits, fake_logits = logits.split(n)
    loss = total = LOSSES[recipe.loss].d_of(real_logits, fake_logits)
    weight = recipe.penalty_weight * recipe.penalty_every
    if penalty == "gp":
        assert u is not None
        real_seen, fake_seen = seen_NCHW.split(n)
        total = loss + weight * gradient_penalty(D, real_seen, fake_seen, u[:, -1], label)
    elif penalty != "none":
        r1, r2 = (norms.mean() for norms in squared_norms(logits, both_NCHW).split(n))
        total = loss + weight / 2 * (r1 + r2 if penalty == "r1r2" else r1)
    total.backward()
    return loss, real_logits, fake_logits


def g_step(
    D: nn.Module,
    opt_G: Optimizer,
    fake_NCHW: Tensor,
    real_NCHW: Tensor,
    recipe: Recipe,
    label: Tensor | None = None,
    u: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """G learns to be taken for real. Returns (loss, D(G(z))) before the update."""
    of = LOSSES[recipe.loss]
    opt_G.zero_grad()
    D.requires_grad_(False)  # D only passes the gradient on: its own would be thrown away
    try:
        logits = D(_seen(fake_NCHW, recipe, u, 2), label)
        real_logits = None
        if of.paired:
            with torch.no_grad():
                real_logits = D(_seen(real_NCHW, recipe, u, 3), label)
        loss = of.g_of(logits, real_logits)
        if recipe.task == "upscale":
            loss = recipe.adversarial * loss + (fake_NCHW - real_NCHW).abs().mean()
        loss.backward()
    finally:
        D.requires_grad_(True)
    opt_G.step()
    return loss.detach(), score(logits, recipe.loss)


def _seen(images_NCHW: Tensor, recipe: Recipe, u: Tensor | None, sight: int) -> Tensor:
    """The images as D sees them: through the recipe's augmentations, by the random numbers of this sight."""
    names = recipe.augmentations
    if not names:
        return images_NCHW
    assert u is not None
    return augment(images_NCHW, u[:, : SIGHTS * columns(names)].chunk(SIGHTS, 1)[sight], names)


TRANSLATION = 1 / 8
CUTOUT = 1 / 2


def augment(images_NCHW: Tensor, u: Tensor, names: tuple[str, ...]) -> Tensor:
    """T of images (N, C, H, W) in [-1, 1], each by its own row of `u`, uniform in [0, 1), (N, `columns(names)`).

    D sees reals and fakes through the same random transformations T, and the gradient flows through T to G:

        L_D = f(D(T(x)), D(T(G(z)))),   L_G = g(D(T(G(z))))

    so D cannot learn the few images of a small data set by heart, and what T does is not learnt as part of the images
    (DiffAugment, Zhao et al. 2020, arXiv:2006.10738). The numbers are the paper's:

        flip         mirrored left to right, every other image (ours, as the paper's data loader does it)
        colour       brightness x + (u - 1/2), saturation and contrast scaled by 2u and u + 1/2; RGB only
        translation  shifted by up to an eighth of the side each way, zeros (mid grey) come in
        cutout       a square of half the side, anywhere, set to zero
    """
    start = 0
    for name in names:
        stop = start + AUGMENTATIONS[name]
        images_NCHW = _TRANSFORMS[name](images_NCHW, u[:, start:stop])
        start = stop
    return images_NCHW


def flip(x: Tensor, u: Tensor) -> Tensor:
    return torch.where(u[:, 0, None, None, None] < 0.5, x.flip(3), x)


def colour(x: Tensor, u: Tensor) -> Tensor:
    brightness, saturation, contrast = u[:, :, None, None, None].unbind(1)
    x = x + (brightness - 0.5)
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (2 * saturation) + grey
    level = x.mean((1, 2, 3), keepdim=True)
    return (x - level) * (contrast + 0.5) + level


def translation(x: Tensor, u: Tensor) -> Tensor:
    height, width = x.shape[2:]
    rows, row_inside = _shifted(u[:, 0], height)
    cols, col_inside = _shifted(u[:, 1], width)
    x = x.gather(2, rows[:, None, :, None].expand_as(x)).gather(3, cols[:, None, None, :].expand_as(x))
    return x * (row_inside[:, None, :, None] & col_inside[:, None, None, :])


def _shifted(u: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Where each of `side` pixels is taken from, int64 (N, side), and whether that lies inside the image."""
    reach = int(side * TRANSLATION + 0.5)
    shift = (u * (2 * reach + 1)).long() - reach
    source = torch.arange(side, device=u.device) + shift[:, None]
    return source.clamp(0, side - 1), (source >= 0) & (source < side)


def cutout(x: Tensor, u: Tensor) -> Tensor:
    height, width = x.shape[2:]
    rows, cols = _cut(u[:, 0], height), _cut(u[:, 1], width)
    return x * ~(rows[:, None, :, None] & cols[:, None, None, :])


def _cut(u: Tensor, side: int) -> Tensor:
    """Which of `side` pixels lie under the square, bool (N, side): its centre is anywhere in the image."""
    length = int(side * CUTOUT + 0.5)
    first = (u * (side + 1 - length % 2)).long() - length // 2
    pixel = torch.arange(side, device=u.device)
    return (pixel >= first[:, None]) & (pixel < first[:, None] + length)


_TRANSFORMS = {"flip": flip, "colour": colour, "translation": translation, "cutout": cutout}
