"""Records read back: this version's, and the older ones turned into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gan_bench.records.record import SCHEMA
from gan_core.errors import GanportError
from gan_core.files.model_file import check_model_file

Json = dict[str, Any]

NEEDED = ("environment", "generator", "models", "settings", "limits", "rows")


def read_record(path: Path) -> Json:
    """The record of gan-bench in a file, as schema 2. Raises `GanportError` for anything else."""
    if path.suffix.lower() in (".onnx", ".ts", ".pt", ".pth"):
        raise GanportError(f"{path} is a model by its name, expected a record of gan-bench", hint=f"--model {path}")
    if path.is_dir():
        raise GanportError(f"{path} is a folder, expected a record", hint="name a .json file in it")
    if not path.exists():
        raise GanportError(f"no record at {path}", hint="check the path; gan-bench --json FILE writes a record")
    try:
        values: Json = json.loads(check_model_file(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise GanportError(f"{path} is not JSON: {error}", hint="gan-bench --json FILE writes a record") from None
    if not isinstance(values, dict) or values.get("tool") != "gan-bench":
        tool = values.get("tool") if isinstance(values, dict) else None
        found = f"a record of {tool}" if tool else "other JSON"
        raise GanportError(f"{path} is {found}, not a record of gan-bench", hint="gan-bench --json FILE writes one")
    schema = values.get("schema")
    if schema == 1:
        values = _from_1(values)
    elif schema != SCHEMA:
        raise GanportError(f"{path} has schema {schema!r}, this gan-bench reads 1 and {SCHEMA}", hint="upgrade ganport")
    missing = [key for key in NEEDED if key not in values]
    if missing:
        raise GanportError(f"{path} lacks {missing[0]!r}: it was cut short or edited", hint="measure it again")
    return values


def _from_1(old: Json) -> Json:
    """Schema 1 had one file, no peers and no limits."""
    try:
        model: Json = old["model"]
        generator = {key: model[key] for key in ("name", "z_dim", "n_classes", "image")}
        generator |= {"checkpoint": None, "checkpoint_sha256": None}
        generator |= dict.fromkeys(("flops_per_image", "parameters", "bytes_per_image", "counted_from"))
        settings = old["settings"] | {"roofline": False, "share_process": False}
        return {
            "schema": SCHEMA,
            "tool": old["tool"],
            "environment": old["environment"],
            "generator": generator,
            "models": [model],
            "reference": {"runtime": "ganport", "model": model["file"], "provider": "cpu"},
            "settings": settings,
            "limits": [],
            "rows": [_row_from_1(row, model) for row in old["rows"]],
        }
    except (KeyError, TypeError) as error:
        raise GanportError(f"the record is damaged: it lacks {error}", hint="measure it again") from None


def _row_from_1(row: Json, model: Json) -> Json:
    added = {
        "task": "pixels", "runtime": "ganport", "model": model["file"], "engine": model["runtime"]["name"],
        "engine_version": model["runtime"]["version"], "details": {}, "precision": model["precision"], "tf32": False,
        "cpu_nodes": None, "shared_process": False, "limit_images_per_s": None, "limit_fraction": None,
        "limited_by": None, "peak_device_bytes": None,
    }  # fmt: skip
    parity = None if row["parity"] is None else row["parity"] | {"image_max_abs": None}
    return added | row | {"parity": parity}
