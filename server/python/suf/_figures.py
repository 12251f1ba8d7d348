"""What a call cost, as the parties measured it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figures:
    """What the last call cost. Sums are over its runs: `evaluate` has one, `encode` one for each batch of texts."""

    runs: tuple[dict[str, Any], ...]
    """The figures of each run, with the names that `suf eval --json` has."""

    rounds: int
    """Messages between the parties that depend on each other."""

    sent_bytes: int
    """Bytes that the parties sent to each other, both directions together."""

    key_bytes: tuple[int, int]
    """Bytes of one-time keys from the dealer to party 0 and to party 1."""

    open_ms: float
    """Milliseconds in which the inputs were opened under their masks."""

    eval_ms: float
    """Milliseconds from masked inputs with keys in place to masked outputs, at the slower party."""

    comp_ms: float
    """Milliseconds of `eval_ms` in which that party computed."""

    comm_ms: float
    """Milliseconds of `eval_ms` in which messages were on the link, or the other party computed."""

    @classmethod
    def of(cls, runs: list[dict[str, Any]]) -> Figures:
        """The sums over `runs`."""

        def total(name: str) -> Any:
            return sum(run[name] for run in runs)

        return cls(
            runs=tuple(runs),
            rounds=total("eval_rounds"),
            sent_bytes=total("eval_bytes"),
            key_bytes=(total("key_bytes_p0"), total("key_bytes_p1")),
            open_ms=total("open_ms"),
            eval_ms=total("eval_ms"),
            comp_ms=total("comp_ms"),
            comm_ms=total("comm_ms"),
        )

    @classmethod
    def parse(cls, text: str) -> Figures:
        """From the JSON of a run or of a list of runs."""
        runs = json.loads(text)
        return cls.of(runs if isinstance(runs, list) else [runs])
