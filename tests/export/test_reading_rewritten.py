"""A checkpoint that its training writes to while it is read."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from export.tiny import save_checkpoint
from gan_core.errors import GanportError
from gan_export.reading import container, read_checkpoint

pytestmark = pytest.mark.slow

NET = {"0.weight": torch.randn(8, 4, 4, 4), "1.weight": torch.randn(4, 3, 4, 4)}

# In a process of its own: of a mapped file that is cut short, the system ends the process.
READ = """
import json, shutil, sys
from pathlib import Path
from gan_export import reading
from gan_core.errors import GanportError
path, really = Path("g.pt"), reading.materialise
for change in json.loads(sys.argv[1]):
    shutil.copy("good.pt", path)
    shutil.copy("good.pt", "other.pt")
    def meanwhile(*arguments):
        exec(change)
        return really(*arguments)
    reading.materialise = meanwhile
    try:
        reading.read_checkpoint(path)
    except GanportError as error:
        print(error, "|", error.hint)
"""
CHANGES = {
    "cut short": "path.open('rb+').truncate(100)",
    "emptied": "path.write_bytes(b'')",
    "written again": "path.write_bytes(bytes(path.stat().st_size))",
    "replaced": "Path('other.pt').replace(path)",
    "grown": "path.open('ab').write(b'x')",
    "written again, its times put back": (
        "import os; about = path.stat(); path.write_bytes(bytes(about.st_size)); "
        "os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))"
    ),
}


def test_a_checkpoint_that_is_written_to_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "good.pt")
    done = subprocess.run(
        [sys.executable, "-c", READ, json.dumps(list(CHANGES.values()))],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    told = "g.pt was written to while it was read | wait until what writes it has ended, or export a copy"
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, [told] * len(CHANGES), "")


def test_a_torn_file_is_told_as_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the old bytes, half the new ones: what the reader says of them is beside the point."""
    path = tmp_path / "g.pt"
    torch.save(NET, path)
    really = container.bytes_of

    def torn(handle: object) -> memoryview:
        path.write_bytes(path.read_bytes()[:-200])
        return really(handle)  # type: ignore[arg-type]

    monkeypatch.setattr(container, "bytes_of", torn)
    with pytest.raises(GanportError, match=r"g\.pt was written to while it was read"):
        read_checkpoint(path)


@pytest.mark.parametrize("most", [0, 1 << 29])
def test_the_digest_is_of_the_bytes_that_were_read(most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "MAX_HELD_BYTES", most)
    path = save_checkpoint(tmp_path / "g.pt")
    os.utime(path, (1, 1))
    found = read_checkpoint(path)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    expected = torch.load(path, weights_only=True)["weights"]
    assert found.tensors.keys() == expected.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in expected.items())
