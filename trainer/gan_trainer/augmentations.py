"""The names of augmentations, as `--augment` takes them. `gan_trainer.augment` has the arithmetic; no torch here."""

from __future__ import annotations

from gan_core.errors import GanportError

COLUMNS = {"flip": 1, "colour": 3, "translation": 2, "cutout": 2}
"""Every augmentation, in the order in which they are applied, and how many random numbers an image of it takes."""

NONE, AUTO = "none", "auto"


def parse_augment(text: str, channels: int | None) -> tuple[str, ...]:
    """The augmentations that `text` names, in the order of `COLUMNS`; () for "none".

    "auto" is translation and cutout, and colour for RGB. Flips are never automatic (a mirrored 7 is no digit), but
    "auto,flip" asks for them. Raises `GanportError` for a name that does not exist, and for colour on grey images
    (`channels` 1).
    """
    known = f"none, or of auto, {', '.join(COLUMNS)} with commas between"
    names = [name.strip() for name in text.split(",")]
    if names == [NONE]:
        return ()
    if NONE in names:
        raise GanportError(f"--augment none stands alone, got {text}", hint=known)
    if AUTO in names:
        names.remove(AUTO)
        names += [name for name in COLUMNS if name != "flip" and (name != "colour" or channels == 3)]
    for name in names:
        if name not in COLUMNS:
            raise GanportError(f"no augmentation is called {name!r}", hint=known)
    if len(set(names)) < len(names):
        raise GanportError(f"--augment names one twice: {text}", hint=known)
    if "colour" in names and channels == 1:
        raise GanportError("the augmentation colour is for RGB, the images are grey", hint="leave colour out")
    return tuple(name for name in COLUMNS if name in names)


def columns(names: tuple[str, ...]) -> int:
    """How many random numbers an image takes."""
    return sum(COLUMNS[name] for name in names)
