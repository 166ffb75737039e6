"""Images of an exported generator, with onnxruntime, NumPy and Pillow alone: python generate.py g.onnx"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items() if "gan." in key}
if "gan.interface" in about:
    z, label = about["gan.interface"]["z"], about["gan.interface"]["label"]
    dim, law, classes = z["dim"], z["law"], label["classes"] if label else 0
else:  # version 1 of the contract, such as the model that comes with ganport
    dim, law, classes = about["gan.latent"]["z_dim"], about["gan.latent"]["law"], about["gan.classes"]["n"]
rng = np.random.default_rng(0)  # docs/latents.md: the latents of gan-gen's seeds
least = {"uniform": -1, "uniform01": 0}.get(law)
latents = rng.standard_normal((8, dim)) if least is None else rng.uniform(least, 1, (8, dim))
feeds = {"z": latents.astype(np.float32)} | ({"label": np.arange(8) % classes} if classes else {})
(pixels,) = session.run(["pixels"], feeds)  # uint8 (8, height, width, channels)
for number, image in enumerate(pixels):
    Image.fromarray(image.squeeze()).save(f"{number}.png")
