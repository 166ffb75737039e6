"""What one runs without ganport's runtime: torch loads the checkpoint, and save_image writes one PNG per image.

    python write_with_torch.py g.pt folder 10000

`lab.end_to_end` measures it as it stands, in a fresh interpreter. It takes the latents of seeds 0 … n - 1 instead
of torch.randn's, so that its files can be compared with gan-gen's, in batches of 16, which suits a processor's caches.
"""

import sys
from pathlib import Path

import torch
from torchvision.utils import save_image

from gan_trainer.networks.generator import load_generator

BATCH = 16


def main(checkpoint_path: str, out: str, n: int) -> None:
    """Writes seeds 0 … n - 1 (class: seed mod number of classes) to `out`/seed000000.png and so on."""
    folder = Path(out)
    folder.mkdir()
    checkpoint = load_generator(checkpoint_path)
    spec, generator = checkpoint.spec, checkpoint.module()
    with torch.inference_mode():
        for start in range(0, n, BATCH):
            seeds = range(start, min(start + BATCH, n))
            z = torch.from_numpy(spec.interface.latents(seeds))
            label = torch.tensor(seeds) % spec.interface.n_classes if spec.interface.n_classes else None
            for seed, image in zip(seeds, generator(z, label), strict=True):
                save_image(
                    image, folder / f"seed{seed:06d}.png", normalize=True, value_range=spec.interface.value_range
                )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
