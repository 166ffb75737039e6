"""The proof: does the file draw what PyTorch draws, and is it what it says? (docs/proof.md)

`prove(path, source)` returns a `Report`: a list of `Check`s, each with what was measured and what it had to be.
"""

from gan_export.proof.prove import prove
from gan_export.proof.reference import Reference
from gan_export.proof.report import Check, Report

__all__ = ["Check", "Reference", "Report", "prove"]
