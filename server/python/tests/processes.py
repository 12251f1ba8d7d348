"""Help for tests that signal the daemons of a local run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def daemon(name: str) -> int:
    """The process of a daemon of this process, called dealer, party0 or party1."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            parent = (folder / "stat").read_text().rsplit(")", 1)[1].split()[1]
        except OSError:
            continue  # It has ended.
        if parent == str(os.getpid()) and any(argument.endswith(f"/{name}.toml") for argument in command):
            return int(folder.name)
    raise AssertionError(f"no {name} is running")


@contextmanager
def standing_still(name: str) -> Iterator[None]:
    """Meanwhile a daemon does nothing: without the dealer's keys no run ends by itself."""
    process = daemon(name)
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)
