"""Threads that wait give their core back, unless the user wants otherwise."""

from __future__ import annotations

import os

import pytest

from gan_serve.cores import rest_idle_threads, usable_cores


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "1000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, None),
    ],
)
def test_what_the_user_set_stays(given: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", dict(given))
    rest_idle_threads()
    assert os.environ.get("GOMP_SPINCOUNT") == expected


def test_at_least_one_core() -> None:
    assert usable_cores() >= 1
