"""`gan-train cache`: what lies in the cache, its limit, and how to empty it."""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import Annotated

import typer

from gan_core.errors import GanportError
from gan_serve.terminal import console
from gan_trainer.data import store
from gan_trainer.data.cache import CACHE_VARIABLE, default_cache_dir


def cache_command(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME...", help="With --clear: only these, by name or its beginning.", show_default=False
        ),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Delete the content of the cache.")] = False,
    limit: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Set the size limit of the cache: 20GB, 500MB, none. Beyond it, the least recently "
            "used entries are deleted first. "
            f"[default: {store.size_text(store.DEFAULT_LIMIT)}]",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the content as JSON.")] = False,
) -> int:
    """List what the cache keeps, clear it, or set its limit.

    It keeps decoded data sets, downloads, and the classifiers of gan-train eval; all of it is made
    again when it is needed.

    \b
    Examples:
      gan-train cache
      gan-train cache --clear digits
      gan-train cache --limit 20GB
    """
    folder = default_cache_dir()
    if folder is None:
        raise GanportError("there is no cache: no home folder", hint=f"{CACHE_VARIABLE} names another folder")
    if names and not clear:
        raise GanportError("names say what to clear", hint=f"gan-train cache --clear {names[0]}")
    wanted = None if limit is None else store.parse_size(limit)
    kept = store.kept_in(folder)
    if clear:
        cleared = kept if not names else [each for name in names for each in _named(name, kept)]
        for each in cleared:
            each.delete()
        freed = sum(each.size for each in set(cleared))
        console.note(f"note: cleared {len(set(cleared))} of {len(kept)}, {store.size_text(freed)}")
    if wanted is not None:
        store.write_limit(folder, wanted)
        store.keep_within(folder, but=folder)
    _show(folder, as_json)
    return 0


def _named(name: str, kept: list[store.Kept]) -> list[store.Kept]:
    found = [each for each in kept if each.name == name or each.name.startswith(f"{name}-")]
    if not found:
        near = difflib.get_close_matches(name, [each.name for each in kept], n=1, cutoff=0.3)
        raise GanportError(
            f"nothing in the cache is called {name}",
            hint=f"did you mean {near[0]}?" if near else "gan-train cache lists what there is",
        )
    return found


def _show(folder: Path, as_json: bool) -> None:
    kept, limit = store.kept_in(folder), store.read_limit(folder)
    total = sum(each.size for each in kept)
    if as_json:
        things = [{"kind": each.kind, "name": each.name, "bytes": each.size, "used": each.used} for each in kept]
        found = {"folder": str(folder), "bytes": total, "limit": None if math.isinf(limit) else limit, "kept": things}
        console.show_json(found)
        return
    if kept:
        rows = [
            (store.KINDS[each.kind], each.name, store.size_text(each.size), store.age_text(each.used)) for each in kept
        ]
        console.show(console.table(("what", "name", "size", "used"), rows, right=(2,)))
    console.show(f"{store.size_text(total)} in {folder}, limit {store.size_text(limit)}")
