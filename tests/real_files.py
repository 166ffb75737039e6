"""Other people's files, in the folder that GANPORT_CHECKPOINTS names or beside the clone; else they are skipped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

FOLDER = Path(os.environ.get("GANPORT_CHECKPOINTS") or Path(__file__).parents[2] / "shared" / "checkpoints")


def real_file(name: str) -> Path:
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"{name} is not in {FOLDER}; GANPORT_CHECKPOINTS names its folder")
    return path


def state_dict(name: str) -> dict[str, Tensor]:
    return dict(torch.load(real_file(name), map_location="cpu", weights_only=True))
