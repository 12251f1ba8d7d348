"""Progress of a call: a bar on the terminal, or a function of the caller's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Union

Progress = Union[bool, Callable[[int, int, str], object], None]
"""True: a bar on standard error, if that is a terminal. A function is called with what is done, all there is (elements or
texts) and what is being done now. It is called on the calling thread, and an exception of it ends the call."""

_WIDTH = 24


def _bar(done: int, all_: int, what: str) -> None:
    filled = _WIDTH * done // max(all_, 1)
    sys.stderr.write(f"\r\x1b[K[{'#' * filled}{'.' * (_WIDTH - filled)}] {done}/{all_} {what}")
    sys.stderr.flush()


@contextmanager
def reporting(progress: Progress) -> Iterator[Callable[[int, int, str], object] | None]:
    """What the extension is to call."""
    if callable(progress):
        yield progress
    elif progress and sys.stderr.isatty():
        try:
            yield _bar
        finally:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
    else:
        yield None
