"""Runs the examples of docs/python.md, one after another, in one namespace."""

from __future__ import annotations

import os
import unittest
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "python.md"

# What stands for a machine of the reader's.
PLACES = {"10.0.0.1:7101": "SUF_PARTY0", "10.0.0.2:7201": "SUF_PARTY1"}


def examples(page: str, kind: str) -> list[tuple[int, str]]:
    """The blocks of code of this kind, with the lines they begin at."""
    found: list[tuple[int, str]] = []
    block: list[str] | None = None
    for number, line in enumerate(page.splitlines(), 1):
        if block is not None and line == "```":
            found.append((number - len(block), "\n".join(block)))
            block = None
        elif block is not None:
            block.append(line)
        elif line == f"```{kind}":
            block = []
    return found


def run(kind: str, namespace: dict[str, object]) -> int:
    """Runs the blocks of this kind."""
    found = examples(PAGE.read_text(), kind)
    for number, block in found:
        for place, variable in PLACES.items():
            block = block.replace(place, os.environ[variable])
        # The line numbers of the page stand in a traceback.
        exec(compile("\n" * (number - 1) + block, str(PAGE), "exec"), namespace)
    return len(found)


class Examples(unittest.TestCase):
    def test_all_examples_run(self) -> None:
        os.chdir(os.environ["SUF_EXAMPLES"])
        self.assertGreater(run("python", {"__name__": "examples"}), 7)


if __name__ == "__main__":
    unittest.main()
