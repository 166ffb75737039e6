"""What one runs on Ray without ganport's jobs: Ray Data generates in actors, its own writer makes the shards.

    python write_with_ray.py g.onnx folder 100000 2

`lab.jobs` measures it as it stands, in a fresh interpreter. Its actors run the model as gan-gen's do, one thread each,
for 256 seeds at a time; Ray's writer encodes the PNG files, and names the shards.
"""

import logging
import sys
from typing import Any

import numpy as np
import ray
import ray.data

import gan_serve

AT_ONCE = 256


class Actor:
    """Images of seeds, as `write_webdataset` takes them."""

    def __init__(self, model: str) -> None:
        self.generator = gan_serve.load(model, "cpu", 1, many=True)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        seeds = batch["id"]
        pixels_NHWC = self.generator.generate(seeds)
        if pixels_NHWC.shape[-1] == 1:
            pixels_NHWC = pixels_NHWC[..., 0]
        about = np.empty(len(seeds), object)
        about[:] = [{"seed": int(seed)} for seed in seeds]
        return {"__key__": np.array([f"{seed:09d}" for seed in seeds]), "png": pixels_NHWC, "json": about}


def main(model: str, out: str, n: int, workers: int) -> None:
    """Writes seeds 0 … n - 1 into shards in the folder `out`, with so many actors."""
    ray.init(num_cpus=workers + 1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    seeds = ray.data.range(n, override_num_blocks=max(1, n // 10_000))
    images = seeds.map_batches(Actor, fn_constructor_args=(model,), batch_size=AT_ONCE, concurrency=workers, num_cpus=1)
    images.write_webdataset(out)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
