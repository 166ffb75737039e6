"""Training batches: uint8 images in, float images in [-1, 1] on the device out, in an order that a step number fixes.

The data lie on the device as uint8 when they fit (no copy per step but the indices); otherwise each batch is read from
the memory-mapped cache. A DataLoader's shuffle=True, drop_last=False, without its workers: nothing is decoded here.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gan_core.arrays import I64, U8
from gan_core.errors import GanportError
from gan_trainer.devices import memory_for_images, send

WHOLE = slice(None)


class Batches:
    """The batches of a data set, in the order of `seed`. `labels` are the classes of the images, where G takes them;
    `left_out` are the indices of images that no batch has.

    Epoch e visits every image once, in the permutation that a generator seeded by (seed, e) gives; its last batch is
    smaller unless the batch size divides the data, and is left out when it would hold one image (BatchNorm).
    """

    def __init__(
        self,
        pixels_NHWC: U8,
        batch_size: int,
        seed: int,
        device: torch.device,
        *,
        labels: I64 | None = None,
        left_out: I64 | None = None,
        channels_last: bool = False,
        resident_limit_bytes: int | None = None,
    ) -> None:
        everything = np.arange(len(pixels_NHWC))
        self.kept = torch.from_numpy(everything if left_out is None else np.setdiff1d(everything, left_out))
        if len(self.kept) < 2:
            held = "" if left_out is None else f", of which {len(left_out)} are left out to measure it by"
            raise GanportError(
                f"training needs at least 2 images, the data hold {len(pixels_NHWC)}{held}",
                hint="add images to the data",
            )
        self.pixels_NHWC = pixels_NHWC
        self.seed = seed
        self.device = device
        self.batch_size = min(batch_size, len(self.kept))
        full, rest = divmod(len(self.kept), self.batch_size)
        self.per_epoch = full + (rest > 1)
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)
        self.all_labels = None if labels is None else torch.tensor(labels)
        self._resident: Tensor | None = None
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        if device.type == "cpu":
            return
        if resident_limit_bytes is None:
            resident_limit_bytes = memory_for_images(device)
        if pixels_NHWC.nbytes <= resident_limit_bytes:
            self._resident = torch.tensor(pixels_NHWC, device=device)

    def __call__(self, step: int, part: slice = WHOLE) -> Tensor:
        """The batch of step number `step` (from 0), or its `part`: float32 (n, C, H, W) in [-1, 1], on the device."""
        return self.take(self.indices(step)[part])

    def labels(self, step: int, part: slice = WHOLE) -> Tensor | None:
        """The classes of those images: int64 (n,), on the device; None without classes."""
        if self.all_labels is None:
            return None
        return send(self.all_labels[self.indices(step)[part]], self.device)

    def indices(self, step: int) -> Tensor:
        """Which images the batch of step number `step` holds: int64 (n,), on the CPU."""
        epoch, index = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self.order(epoch)
        return self._order[index * self.batch_size : (index + 1) * self.batch_size]

    def order(self, epoch: int) -> Tensor:
        """The permutation of the images in `epoch`: int64 (N,), on the CPU."""
        # One stream per epoch, whatever came before: SeedSequence mixes the pair into independent 64 bits.
        state = int(np.random.SeedSequence([self.seed, epoch]).generate_state(1, np.uint64)[0])
        rng = torch.Generator().manual_seed(state >> 1)
        return self.kept[torch.randperm(len(self.kept), generator=rng)]

    def take(self, indices: Tensor) -> Tensor:
        """The images of `indices` (int64 (n,), on the CPU), as `__call__` gives them."""
        if self._resident is not None:
            images_NHWC = self._resident[send(indices, self.device)]
        else:
            images_NHWC = send(torch.from_numpy(self.pixels_NHWC[indices.numpy()]), self.device)
        return normalise(images_NHWC, self.memory_format)


def normalise(pixels_NHWC: Tensor, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
    """uint8 (N, H, W, C) → float32 (N, C, H, W) in [-1, 1]: ToTensor, then Normalize(0.5, 0.5)."""
    images_NCHW = pixels_NHWC.permute(0, 3, 1, 2).to(torch.float32, memory_format=memory_format)
    return images_NCHW.div_(127.5).sub_(1.0)
