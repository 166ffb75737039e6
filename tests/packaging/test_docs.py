"""docs/cli.md says what --help says, and the documents name only files and commands that exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])


@pytest.mark.slow
def test_cli_page_is_what_help_prints() -> None:
    printed = subprocess.run(
        [sys.executable, ROOT / "docs" / "make_cli.py", "--print"], capture_output=True, text=True, check=True
    ).stdout
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == printed.removesuffix("\n"), "run `make docs`"


def test_every_command_says_what_it_does_and_shows_how() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    pages = re.findall(r"^#+ (gan-[^\n]+)\n\n```text\n(.*?)```", text, re.MULTILINE | re.DOTALL)
    assert len(pages) >= 10
    for name, page in pages:
        assert re.match(rf"Usage: {name} .*\n\n  [A-Z](?!ptions:)", page), name
        assert re.search(rf"\n  Examples:\n(    .*\n)*    {name}\b", page), name
        examples = page.partition("\n  Examples:\n")[2].partition("\n\n")[0]
        assert max(map(len, examples.splitlines())) <= 80, name


def test_training_in_several_processes_is_in_the_help() -> None:
    examples = (ROOT / "docs" / "cli.md").read_text("utf-8").split("Options:")[0]
    assert "    torchrun --nproc-per-node 4 --no-python gan-train photos/\n" in examples


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives to a document's headings."""
    prose = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {
        re.sub(r"[^\w -]", "", re.sub(r"\]\(.*?\)", "", heading)).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)", prose, re.MULTILINE)
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    targets = [t for found in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text) for t in found]
    broken = []
    for target in targets:
        name, _, anchor = target.partition("#")
        file = document.parent / name if name else document
        if "://" not in target and (not file.exists() or (anchor and anchor not in anchors(file))):
            broken.append(target)
    assert broken == []


def test_every_record_named_in_a_document_exists() -> None:
    named = {
        record
        for document in DOCUMENTS
        for record in re.findall(
            r"benchmarks/results/[\w.-]+\.(?:json|png|jsonl)", document.read_text(encoding="utf-8")
        )
    }
    assert sorted(record for record in named if not (ROOT / record).is_file()) == []


def test_the_speeds_of_known_generators_are_those_of_the_records() -> None:
    """docs/families.md has a row for each network of the records, and no other."""
    records = [json.loads(file.read_text("utf-8")) for file in (ROOT / "benchmarks" / "results").glob("families*.json")]
    networks = {name: found for record in records for name, found in record["networks"].items()}
    assert len(networks) == sum(len(record["networks"]) for record in records)
    text = (ROOT / "docs" / "families.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.* GB .*) \|$", text, re.MULTILINE))
    expected = {}
    for name, found in networks.items():
        ratios = [found["batches"][batch]["ratio"] for batch in ("1", "8")]
        cells = ["–" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        cells += [f"{found['export_s']:.0f} s", f"{found['export_peak_bytes'] / 1e9:.1f} GB"]
        expected[name] = " | ".join([*cells, f"{found['file_bytes'] / found['weight_bytes']:.3f}"])
    assert rows == expected
