"""Runs the user's code: imports a module by file or by name, and finds the generator in it.

What goes wrong in there is the user's: it is told as one line, with the place in their file. What the code prints
goes to stderr, since stdout is for data.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib
import importlib.util
import inspect
import logging
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from gan_core.errors import GanportError
from gan_core.files.model_file import sha256_of
from gan_export.live.scripts import is_script, run_definitions
from gan_export.reading.authors_code import SUFFIXES, pieces_of
from gan_export.source import check_file

log = logging.getLogger(__name__)

HINT_CUDA = "the export runs on the CPU: take .cuda() and device='cuda' out of the code, or let them follow z.device"
HINT_DEBUG = "run again with `debug` for the whole traceback"
LONG_S = 30.0


@dataclass(frozen=True)
class Code:
    """An object in the user's code: what `module` names.

    path       the file it is in, None when Python does not say
    name       the object's name; `label` is "file.py:Name" or "package.module:Name", without folders
    target     the object: a class, a factory or a module
    """

    path: Path | None
    name: str
    label: str
    target: Any

    def provenance(self) -> dict[str, Any]:
        """{"module": label, "sha256": of its file}."""
        known = self.path is not None and self.path.is_file()
        return {"module": self.label, "sha256": sha256_of(self.path) if known and self.path else None}

    @property
    def rebuildable(self) -> bool:
        """Whether calling it again makes another module: not so for an instance."""
        return not isinstance(self.target, nn.Module)


def load_code(reference: str) -> Code:
    """The object that `reference` names, "path/to/file.py:Name" or "package.module:Name"; its module is run.

    Raises `GanportError` for a file, module or name that is not there, and for whatever the code raises.
    """
    where, colon, name = reference.rpartition(":")
    if not colon or not where or not name.isidentifier():
        raise GanportError(
            f"`module` must be FILE.py:NAME or PACKAGE.MODULE:NAME, got {reference!r}",
            hint="such as `module` networks.py:Generator",
        )
    is_file = where.endswith(SUFFIXES) or "/" in where or "\\" in where
    path = check_file(where, "Python") if is_file else None
    if path is not None and path.suffix not in SUFFIXES:
        raise GanportError(
            f"`module` must name a .py file or a notebook, got {path}", hint="such as `module` networks.py:Generator"
        )
    log.info(f"`module`: running the code in {where}")
    with users_code(path, f"importing {where}"):
        try:
            module = _import_name(where) if path is None else _import_file(path, name)
        except AssertionError as error:
            if not asks_for_cuda(str(error)):
                raise
            log.info(f"{where} insists on a GPU: it is imported as if there were one")
            with _pretended_gpu():
                module = _import_name(where) if path is None else _import_file(path, name)
    if not hasattr(module, name):
        raise _no_such_name(module, name, where)
    file = getattr(module, "__file__", None)
    return Code(Path(file) if file else path, name, f"{path.name if path else where}:{name}", getattr(module, name))


@contextlib.contextmanager
def users_code(path: Path | None, doing: str) -> Iterator[None]:
    """Runs a block of the user's: its folder importable, its prints on stderr, its errors one `GanportError`."""
    before = list(sys.path)
    sys.path[:0] = [*([str(path.resolve().parent)] if path else []), str(Path.cwd())]
    try:
        with contextlib.redirect_stdout(sys.stderr), _nothing_compiled(), _said_if_long(doing):
            yield
    except GanportError:
        raise
    except (Exception, SystemExit) as error:
        raise _told(error, path, doing) from error
    finally:
        sys.path[:] = before


@contextlib.contextmanager
def _said_if_long(doing: str) -> Iterator[None]:
    """Says once what goes on where it takes long: code may never end. By a signal, so also while other notes are
    dropped; without signals (Windows, other threads) nothing is said."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    stderr = sys.stderr

    def say(*_: object) -> None:
        with contextlib.redirect_stderr(stderr):
            dropped = logging.root.manager.disable
            logging.disable(0)
            log.info(f"{doing} takes more than {LONG_S:g} seconds; Ctrl-C ends it")
            logging.disable(dropped)

    before = signal.signal(signal.SIGALRM, say)
    signal.setitimer(signal.ITIMER_REAL, LONG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _nothing_compiled() -> Iterator[None]:
    """Code that compiles extensions by torch.utils.cpp_extension gets `_NotCompiled` for what it takes from there.

    The real module is not imported: it needs a setuptools that suits, and warns where there is no GPU.
    """
    name = "torch.utils.cpp_extension"
    stand_in = ModuleType(name)
    vars(stand_in).update(CUDA_HOME=None, __getattr__=_not_compiled)
    places = ((sys.modules, name), (vars(torch.utils), "cpp_extension"))
    before = [place.get(key) for place, key in places]
    for place, key in places:
        place[key] = stand_in
    try:
        yield
    finally:
        for (place, key), real in zip(places, before, strict=True):
            if real is None:
                place.pop(key, None)
            else:
                place[key] = real


def _not_compiled(attribute: str) -> type[_NotCompiled]:
    if attribute.startswith("__"):
        raise AttributeError(attribute)
    return _NotCompiled


@contextlib.contextmanager
def _pretended_gpu() -> Iterator[None]:
    really = torch.cuda.is_available
    torch.cuda.is_available = lambda: True
    try:
        yield
    finally:
        torch.cuda.is_available = really


class _NotCompiled:
    """In the place of a compiled extension, whose operations no graph can hold; most code has others for the CPU."""

    def __init__(self, name: str = "extension", *_: Any, **__: Any) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise RuntimeError(f"{attribute} is compiled code of the extension {self._name}, which no graph can hold")


def _told(error: BaseException, path: Path | None, doing: str) -> GanportError:
    text = _first_line(error)
    if isinstance(error, SyntaxError):
        place = f"{Path(error.filename).name} line {error.lineno}: " if error.filename else ""
        return GanportError(
            f"{doing}: {place}{type(error).__name__}: {error.msg}", hint="it must be Python 3.11 or newer"
        )
    if isinstance(error, ValueError) and "null bytes" in text:  # a SyntaxError since Python 3.11.4
        return GanportError(f"{doing}: {text}", hint="it must be Python 3.11 or newer")
    place = _place(error, path)
    if isinstance(error, SystemExit):
        return GanportError(
            f"{doing} ended the program{place}: SystemExit: {text}",
            hint="keep what a script does on its own under: if __name__ == '__main__':",
        )
    hint = HINT_DEBUG
    if isinstance(error, ModuleNotFoundError) and error.name:
        hint = f"install {error.name.split('.')[0]!r}, or put its folder on PYTHONPATH"
    elif asks_for_cuda(text):
        hint = HINT_CUDA
    return GanportError(f"{doing} failed{place}: {type(error).__name__}: {text}", hint=hint)


def _place(error: BaseException, path: Path | None) -> str:
    """ " at file.py line N": the innermost frame in the user's file, else the innermost one outside of torch."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if path is not None and Path(frame.filename) == path.resolve()]
    torch_folder, here = str(Path(torch.__file__).parent), str(Path(__file__).parent)
    outside = [
        frame
        for frame in frames
        if not frame.filename.startswith((torch_folder, here, "<")) and "importlib" not in frame.filename
    ]
    chosen = (own or outside)[-1:]
    return "".join(f" at {Path(frame.filename).name} line {frame.lineno}" for frame in chosen)


def _import_file(path: Path, wanted: str) -> ModuleType:
    """A file as a module: under its dotted name when its folder is a package, else under a name of its own. Of a script
    or notebook, and where it fails, only the definitions, where that of `wanted` is among them."""
    path = path.resolve()
    trees = [piece.tree for piece in pieces_of(path)]
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").exists():
        parts.insert(0, root.name)
        root = root.parent
    name = f"_ganport_live_{path.stem}"  # a file may be called torch.py
    if path.suffix == ".ipynb" or (len(parts) == 1 and any(map(is_script, trees))):
        log.info(f"{path.name}: of a script, only imports, definitions and plain values are run")
        return _defined(name, trees, path, wanted)
    try:
        if len(parts) > 1:
            sys.path.insert(0, str(root))
            return importlib.import_module(".".join(parts))
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look themselves up there
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        if isinstance(error, AssertionError):
            raise
        module = _defined(name, trees, path, wanted)
        if not hasattr(module, wanted):
            raise
        log.info(f"{path.name}: {_first_line(error)}; only its imports, definitions and plain values are run")
    return module


def _defined(name: str, trees: list[ast.Module], path: Path, wanted: str) -> ModuleType:
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    run_definitions(module, trees, path, wanted)
    return module


def _import_name(dotted: str) -> ModuleType:
    if not all(part.isidentifier() for part in dotted.split(".")):
        raise GanportError(
            f"`module` names no module: {dotted!r}", hint="such as networks.py:Generator or package.module:Generator"
        )
    if dotted.split(".")[0] not in sys.modules and importlib.util.find_spec(dotted.split(".")[0]) is None:
        file = Path(f"{dotted}.py")
        hint = (
            f"did you mean {file}?"
            if file.exists()
            else "install it, put its folder on PYTHONPATH, or name a file: networks.py:Generator"
        )
        raise GanportError(f"there is no Python module {dotted.split('.')[0]!r}", hint=hint)
    return importlib.import_module(dotted)


def _no_such_name(module: ModuleType, name: str, where: str) -> GanportError:
    modules = [key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, nn.Module)]
    modules = [key for key in modules if vars(module)[key].__module__ == module.__name__] or modules
    others = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    near = difflib.get_close_matches(name, [*modules, *others], n=3, cutoff=0.5) or modules[:6]
    hint = f"it has {', '.join(near)}" if near else "it defines no torch module at all"
    return GanportError(f"{where} has no {name!r}", hint=hint)


def check_arguments(code: Code, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    """Raises `GanportError` where the target cannot be called with these, by its signature."""
    try:
        signature = inspect.signature(code.target)
    except (TypeError, ValueError):
        return  # written in C
    try:
        signature.bind(*arguments, **keywords)
    except TypeError as error:
        given = "with these `args`" if arguments or keywords else "without `args`"
        raise GanportError(
            f"{code.label} cannot be called {given}: {error}",
            hint=f"its signature: {code.name}{_short_signature(signature)}; `args` '{{\"NAME\": VALUE}}'",
        ) from error


def _short_signature(signature: inspect.Signature) -> str:
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    text = str(inspect.Signature(plain))
    return text if len(text) <= 300 else f"{text[:299]}…"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or ["no message"]
    return lines[0].removesuffix(", but expected one of:")[:200]  # torch lists signatures in the lines behind


def asks_for_cuda(text: str) -> bool:
    """Whether an error's text is that of code that wants a GPU."""
    return any(word in text for word in ("CUDA", "cuda", "NVIDIA"))


def forward_error(error: Exception, code: Code) -> str:
    """ "file.py line N: RuntimeError: …" for what a forward raised."""
    place = _place(error, code.path).removeprefix(" at ")
    return f"{place + ': ' if place else ''}{type(error).__name__}: {_first_line(error)}"
