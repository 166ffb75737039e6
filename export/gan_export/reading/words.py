"""Lists of words, written as text."""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """The words of `text`, which blanks and line ends separate."""
    return frozenset(text.split())
