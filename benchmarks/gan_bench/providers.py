"""What can run a model here: each provider, tried with the generator that comes with ganport."""

from __future__ import annotations

import gan_serve
from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_serve.runtime import providers
from gan_serve.terminal.console import Column, table

COLUMNS = (Column("provider"), Column("", state=True), Column("", fit="wrap", least=30))


def try_providers() -> list[Json]:
    """Of every provider its `name`, whether it is `installed` and `works` (opens a model), and a `note`: what runs it,
    why it does not, or how to get it. Raises `MissingPackageError` without onnxruntime.
    """
    here, auto = providers.available(), gan_serve.load().provider
    version = providers.import_onnxruntime().__version__
    found = []
    for name in providers.PROVIDERS:
        works, note = False, providers.how_to_get(name)
        if name in here:
            try:
                gan_serve.load(provider=name)
                plugin = ", as a plug-in" if providers.is_plugin(name) else ""
                works, note = True, f"onnxruntime {version}{plugin}{'; auto takes it' if name == auto else ''}"
            except GanportError as error:
                note = str(error)
        found.append({"name": name, "installed": name in here, "works": works, "note": note})
    return found


def render_providers(found: list[Json]) -> str:
    """The table of `try_providers`."""
    states = {(True, True): "ok", (True, False): "FAIL", (False, False): "not installed"}
    return table(COLUMNS, [(each["name"], states[each["installed"], each["works"]], each["note"]) for each in found])
