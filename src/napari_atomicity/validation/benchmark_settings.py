"""Settings of the benchmark."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.settings import MAX_SEED, documented, setting

SEED = 8100
"""Seed of the isomers and of the first round of the published benchmark."""


@documented
@dataclass(frozen=True)
class BenchmarkSettings:
    """All settings that decide the content of a benchmark."""

    kinds: tuple[str, ...] = setting((), "", "Kinds of sessions; all if empty.")
    rounds: int = setting(
        10, "", "Number of sessions of each kind and form.", min=1, max=100, option="--rounds"
    )
    seed: int = setting(
        SEED,
        "",
        "Seed of the isomers and of the first round.",
        min=0,
        max=MAX_SEED,
        option="--seed",
    )
