"""Options of a pack for a browser, of the window and the command line."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.errors import SettingError
from ..core.settings import MAX_SEED, check_settings, documented, setting


@documented
@dataclass(frozen=True)
class PackOptions:
    """Options of a pack for a browser."""

    title: str = setting("", "Title", "Title of the page.", default_text="the question")
    bits: str = setting(
        "8",
        "Grey levels",
        "Bits of a pixel: with 16, all of the image can be reached by the contrast, and files are "
        "twice as large.",
        choices={"8": "8 bits", "16": "16 bits"},
        key="annotators/bits",
    )
    black: float = setting(
        0.2, "Black below", "Percentile of the pixels that is shown black.", unit="%", min=0,
        max=100, decimals=1,
    )  # fmt: skip
    white: float = setting(
        99.8, "White above", "Percentile of the pixels that is shown white.", unit="%", min=0,
        max=100, decimals=1,
    )  # fmt: skip
    repeats: float = setting(
        0.1,
        "Asked twice",
        "Share of the images or clusters that are shown a second time, for the agreement of each "
        "person with themselves.",
        unit="%",
        factor=100,
        min=0,
        max=1,
        form_range=(0, 100),
        key="annotators/repeats",
    )
    examples: bool = setting(
        True,
        "Begin with worked examples",
        "Begin with two simulated images whose answers are known, which also tell the skill of "
        "each person.",
        key="annotators/examples",
    )
    max_mb: float = setting(
        25.0,
        "Largest file",
        "Largest size of a file in MB; with more images there are several files.",
        unit="MB",
        min=1,
        max=2000,
        key="annotators/max_mb",
    )
    seed: int = setting(
        0,
        "",
        "Seed of the choice of the images that come twice.",
        min=0,
        max=MAX_SEED,
        option="--seed",
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.black >= self.white:
            raise SettingError("must be below the percentile of white", ["black"])
