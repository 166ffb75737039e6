"""All that is random in a step, drawn at once on the CPU: one stream, the same whatever device and however many train.

columns 0 … z_dim - 1     latents, N(0, 1)
then                      uniform numbers in [0, 1) for the augmentations, `SIGHTS` times `columns`, and the last
                          one for the gradient penalty's point between real and fake; only where the recipe has them
"""

from __future__ import annotations

import torch
from torch import Tensor

from gan_trainer.augmentations import columns
from gan_trainer.recipes import Recipe

SIGHTS = 4
"""How often D sees a batch in a step, each time through other augmentations: reals and fakes in its own step, fakes and
(for the relativistic loss) reals in G's."""


def n_uniforms(recipe: Recipe) -> int:
    """How many uniform numbers an image takes."""
    return SIGHTS * columns(recipe.augmentations) + (recipe.penalty == "gp")


def draw_noise(recipe: Recipe, n: int, rng: torch.Generator) -> Tensor:
    """float32 (n, z_dim + `n_uniforms(recipe)`) on the CPU."""
    z = torch.randn(n, recipe.z_dim, generator=rng)
    uniforms = n_uniforms(recipe)
    return torch.cat((z, torch.rand(n, uniforms, generator=rng)), 1) if uniforms else z
