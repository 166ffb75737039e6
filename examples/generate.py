"""Images of an exported generator, with onnxruntime, NumPy and Pillow alone: python generate.py g.onnx"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
interface = json.loads(session.get_modelmeta().custom_metadata_map["gan.interface"])
z, label = interface["z"], interface["label"]
rng = np.random.default_rng(0)  # docs/latents.md: the latents of gan-gen's seeds
latents = rng.uniform(-1, 1, (8, z["dim"])) if z["law"] == "uniform" else rng.standard_normal((8, z["dim"]))
feeds = {"z": latents.astype(np.float32)} | ({"label": np.arange(8) % label["classes"]} if label else {})
(pixels,) = session.run(["pixels"], feeds)  # uint8 (8, height, width, channels)
for number, image in enumerate(pixels):
    Image.fromarray(image.squeeze()).save(f"{number}.png")
