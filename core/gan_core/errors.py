"""Every failure a user can cause or meet, and the exit code it ends with.

    GanportError             exit 2   wrong input: a file, an option, an environment
    ├── ContractError        exit 2   a model file that is not a generator, or breaks the contract
    ├── MissingPackageError  exit 2   an optional package (an extra) that is not installed
    └── JobError             exit 1   the input was fine, the work failed
        └── ProofError       exit 1   an export that does not draw what PyTorch draws

Each carries one sentence (`what was expected, what was found`) and a `hint` (what to do next). The
commands print both, without a traceback (see `gan_serve.terminal.console`); a library user catches `GanportError`.

Libraries know no command line. A parameter is named in backticks as Python names it: "`batch_size` must be at least 1",
or with a value, "use `provider="cpu"`". A command shows its own option in that place: --batch-size, --provider cpu.
"""

from __future__ import annotations

from gan_core.installation import install
from gan_core.printable import printable


class GanportError(Exception):
    """Wrong input. `str(error)` is one line; `hint` is one line, or empty. Control characters are written out.

    `code` names the case for a program that does one thing or another by it ("" where none does): never the sentence.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "", code: str = "") -> None:
        super().__init__(printable(" ".join(message.split())))
        self.hint = printable(" ".join(hint.split()))
        self.code = code
        if self.hint:
            self.add_note(f"hint: {self.hint}")  # which a traceback shows below the message


class ContractError(GanportError):
    """A model file that is not a generator, or does not keep the artefact's contract."""


class MissingPackageError(GanportError):
    """An optional package is needed and absent.

    `package` is the import name, `extra` the ganport extra that brings it, `purpose` what needs it; `hint` replaces
    the usual one, where there is more than one way to install it.
    """

    def __init__(self, package: str, extra: str, purpose: str, hint: str = "") -> None:
        super().__init__(
            f"{purpose} needs {package}, which is not installed",
            hint=hint or install(extra),
        )
        self.package = package
        self.extra = extra


class JobError(GanportError):
    """The input was fine; the work itself failed."""

    exit_code = 1


class ProofError(JobError):
    """An export failed its proof. Nothing was left at the target path."""
