"""Silence for libraries that chatter: torch's exporters print to stdout, which is for data, and warn of themselves."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

from gan_core.process import kept


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drops Python's stdout, stderr, warnings and log records below ERROR for as long as it lasts.

    What went wrong is told by the exception that ends the block, never by what was printed in it. Ctrl-C ends it as
    KeyboardInterrupt, also where the library makes another error of it or goes on.
    """
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    sink = io.StringIO()
    try:
        with kept(), warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
