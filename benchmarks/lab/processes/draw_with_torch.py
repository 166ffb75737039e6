"""What one runs without ganport's runtime: torch loads the checkpoint and draws n images into one grid.

    python draw_with_torch.py g.pt out.png 25

`lab.cold_start` measures it as it stands, in a fresh interpreter. It takes the latents of seeds 0 … n - 1 instead
of torch.randn's (some milliseconds of NumPy), so that its picture can be compared with gan-gen's.
"""

import math
import sys

import torch
from torchvision.utils import save_image

from gan_trainer.networks.generator import load_generator


def main(checkpoint_path: str, out: str, n: int) -> None:
    """Draws seeds 0 … n - 1 (class: seed mod number of classes) to `out`, as square a grid as there is."""
    checkpoint = load_generator(checkpoint_path)
    spec, generator = checkpoint.spec, checkpoint.module()
    z = torch.from_numpy(spec.interface.latents(range(n)))
    label = torch.arange(n) % spec.interface.n_classes if spec.interface.n_classes else None
    with torch.inference_mode():
        images = generator(z, label)
    save_image(images, out, nrow=math.isqrt(n - 1) + 1, normalize=True, value_range=spec.interface.value_range)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
