"""The text that names classes: `3`, `cat`, `0,cat,7`, `all`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from gan_core.contract import Contract
from gan_core.errors import GanportError
from gan_core.printable import shorten

_SHOWN = 12


def parse_classes(values: Iterable[str], contract: Contract) -> tuple[int, ...]:
    """The classes that `values` name, in order: indices, names (case does not matter), commas between, or
    `all`. Empty for no values.

    A name that holds a comma is taken whole. Its first words will do where no other class begins with them, whatever
    stands between them: `t-shirt` and `ankle_boot` for "T-shirt/top" and "Ankle boot".
    Raises `GanportError` for a generator without classes and for a class it does not have.
    """
    values = list(values)
    if values and not contract.interface.conditional:
        raise GanportError("this generator has no classes", hint="leave `classes` out")
    found: list[int] = []
    for value in values:
        whole = _find(value, contract)
        pieces = [value] if whole is not None else value.split(",")
        for piece in pieces:
            if piece.strip().lower() == "all" and _find(piece, contract) is None:
                found += range(contract.interface.n_classes)
                continue
            label = _find(piece, contract)
            if label is None:
                label = _find_by_words(piece, contract)
            if label is None:
                raise GanportError(
                    f"class {shorten(piece.strip(), 40)!r} does not exist",
                    hint=f"classes are {describe_classes(contract)}",
                )
            found.append(label)
    return tuple(found)


def describe_classes(contract: Contract) -> str:
    """ "0 … 9", or "0 cat, 1 dog, …" with names."""
    if not contract.interface.class_names:
        return f"0 … {contract.interface.n_classes - 1}"
    return number_classes(contract.interface.class_names)


def class_label(contract: Contract, label: int) -> str:
    """ "3 cat", or "3" where classes have no names."""
    return f"{label} {contract.interface.class_names[label]}" if contract.interface.class_names else str(label)


def number_classes(names: Sequence[str]) -> str:
    """ "0 cat, 1 dog, …": the names of classes with their numbers, the first dozen of them."""
    shown = [f"{label} {name}" for label, name in enumerate(names[:_SHOWN])]
    return ", ".join(shown) + (" …" if len(names) > _SHOWN else "")


def _find(text: str, contract: Contract) -> int | None:
    """A name first, so that classes named by numbers can be named; then an index."""
    wanted = text.strip().casefold()
    for label, name in enumerate(contract.interface.class_names):
        if name.casefold() == wanted:
            return label
    if wanted.isascii() and wanted.isdigit() and len(wanted) < 10 and int(wanted) < contract.interface.n_classes:
        return int(wanted)
    return None


def _find_by_words(text: str, contract: Contract) -> int | None:
    """The one class whose name begins with the words of `text`."""
    wanted = _words(text)
    found = [
        label for label, name in enumerate(contract.interface.class_names) if _words(name)[: len(wanted)] == wanted
    ]
    return found[0] if wanted and len(found) == 1 else None


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())
