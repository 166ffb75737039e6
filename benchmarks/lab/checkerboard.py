"""How strong the checkerboard is that transposed convolutions leave in flat areas of an image.

A layer of stride 2 treats even and odd positions by different weights: its pattern has a period of 2 pixels, that of
the layer before it 4. A 16x16 tile shows these periods as 15 peaks of its spectrum, three quarter-periods apart in each
axis. What the image itself has at a peak's frequency is estimated by the four frequencies around it, half way to the
next peaks; only what is above counts. Tiles are flat where their 4x4 blocks have nearly equal means, which the pattern
does not change.
"""

from __future__ import annotations

import numpy as np

from gan_core.arrays import U8

TILE, PERIOD = 16, 4
FLAT_SHARE = 0.25


def checkerboard(pixels_NHWC: U8) -> float:
    """Amplitude of the pattern in the flattest quarter of all tiles of uint8 images (N, H, W, C), in levels of 255.

    0 where there is no pattern; a pattern of ±3 levels that changes its sign at every pixel is at 3. H, W ≥ 16.
    """
    n, height, width, channels = pixels_NHWC.shape
    rows, cols = height // TILE, width // TILE
    cut = pixels_NHWC[:, : rows * TILE, : cols * TILE].reshape(n, rows, TILE, cols, TILE, channels)
    tiles = cut.transpose(0, 1, 3, 5, 2, 4).reshape(-1, channels, TILE, TILE)
    blocks = tiles.reshape(*tiles.shape[:2], TILE // PERIOD, PERIOD, TILE // PERIOD, PERIOD).mean((3, 5))
    slope = blocks.var((2, 3)).mean(1)
    flattest = np.argsort(slope, kind="stable")[: max(1, round(len(tiles) * FLAT_SHARE))]
    window = np.hanning(TILE + 1)[:TILE]
    taper = np.outer(window, window)
    power = np.zeros((TILE, TILE))
    for chunk in np.array_split(flattest, len(flattest) // 4096 + 1):
        flat = tiles[chunk].astype(np.float64)
        spectrum = np.fft.fft2((flat - flat.mean((2, 3), keepdims=True)) * taper) / taper.sum()
        power += (np.abs(spectrum) ** 2).sum((0, 1))
    power /= len(flattest) * channels
    half = PERIOD // 2
    around = [np.roll(power, shift, axis) for shift in (-half, half) for axis in (0, 1)]
    expected = np.exp(np.mean(np.log(np.maximum(around, 1e-12)), 0))
    above = np.maximum(power - expected, 0)[::PERIOD, ::PERIOD]
    return float(np.sqrt(above.sum() - above[0, 0]))
