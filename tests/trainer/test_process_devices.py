"""Which device each process of a distributed job takes."""

from __future__ import annotations

import pytest
import torch

from gan_core.errors import GanportError
from gan_trainer import devices
from trainer.conftest import fake_cuda


@pytest.mark.parametrize(
    ("name", "present", "device"),
    [("auto", 0, "cpu"), ("cpu", 4, "cpu"), ("auto", 4, "cuda:3"), ("cuda", 4, "cuda:3")],
)
def test_process_3(name: str, present: int, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cuda(monkeypatch, present)
    assert devices.resolve(name, 1, process=3) == torch.device(device)


@pytest.mark.parametrize(
    ("name", "ngpu", "message", "hint"),
    [
        ("auto", 1, "process 3 of this host has no device of its own, there are 2 CUDA devices", "--nproc-per-node 2"),
        ("cuda:1", 1, '`device="cuda:1"` names one device', '`device="cuda"`'),
        ("auto", 2, "`ngpu=2` shares a batch inside one process, torchrun among several", "leave `ngpu` out"),
        ("cpu", 2, "`ngpu=2` shares a batch inside one process, torchrun among several", "--nproc-per-node 2"),
        ("tpu", 1, "unknown device 'tpu'", "devices: auto"),
    ],
)
def test_refused(name: str, ngpu: int, message: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cuda(monkeypatch, 2)
    with pytest.raises(GanportError, match=message) as caught:
        devices.resolve(name, ngpu, process=3)
    assert hint in caught.value.hint
