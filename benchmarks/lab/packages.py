"""Installed packages, by what pip calls them; nothing is imported."""

from __future__ import annotations

import importlib.metadata

from gan_core.errors import MissingPackageError


def version_of(package: str) -> str | None:
    """Its version, or None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def require_torch(purpose: str) -> None:
    """Raises `MissingPackageError` unless torch and torchvision are installed."""
    for package in ("torch", "torchvision"):
        if version_of(package) is None:
            raise MissingPackageError(package, "train", purpose)
