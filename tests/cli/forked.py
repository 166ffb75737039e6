"""What gan-train imports and draws with, made ready once, for scripts whose forks are to start at once."""

from __future__ import annotations

import io

import matplotlib.figure
import torch
import torch._dynamo  # what torch.optim imports at the first step
from PIL import Image

from gan_trainer import distributed, session

IMPORTED = (torch._dynamo, distributed, session)


def make_ready() -> None:
    """All but a step of training, which PyTorch does not allow before a fork."""
    torch.set_num_threads(1)
    Image.init()
    figure = matplotlib.figure.Figure(layout="constrained")
    figure.subplots().set_title("a picture")
    figure.savefig(io.BytesIO(), format="png")
