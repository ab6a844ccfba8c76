"""The section of one image in the report.

Sections are drawn image by image, as results come, so that a run over many images does not hold
all of them in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from ..core.errors import AtomicityError, Cancelled
from ..core.tables.cluster_table import NON_CLASS_LABELS, classes_of, is_whole
from ..io.provenance import Outcome
from ..models.analysis import Analysis
from ..statistics.ratios.track_counts import (
    count_clusters,
    describe_clusters,
    merge_tracks,
    without_excluded,
)
from ..tracking.tracks import is_tracked
from .examples import has_patches
from .figures import PREVIEW_PX, glyph, overview, patch_strip, pixels_of
from .template_data import chart_entries, get_template, ratio_rows

if TYPE_CHECKING:
    from ..tracking.following import TrackedMovie


EXAMPLES_PER_CLASS = 3
IMAGE_CHARTS = ("diameter", "confidence")
"""Plots of each image, by their names in `plots.PLOTS`."""
SMALL_PX = 500
"""Longest edge of a micrograph in a small section."""
_RATIOS_PLACEHOLDER = Markup("<!-- ratios -->")


@dataclass(frozen=True)
class Section:
    """The section of one image as HTML."""

    image: str
    html: Markup
    problem: str = ""  # why the pixels are not shown; "" if they are


def image_section(
    analysis: Analysis,  # the result, classified or not; the pixels of its micrograph are read here
    outcome: Outcome,
    small: bool = False,
    ratios: pd.DataFrame | None = None,  # ratios of this image; those by counted labels if None
    ratios_later: bool = False,
    movie: TrackedMovie | None = None,  # tracks of a stack, if they are known already
) -> Section:
    """Draw the section of one analysed image.

    If pixels can not be read, the section shows the clusters on black.
    """
    table, name = analysis.table, outcome.image
    classes = classes_of(table)
    if ratios is None and not ratios_later:
        ratios = analysis.ratios(scope=name, images=[name])
    shown, more = without_excluded(table)
    merged = merge_tracks(shown)
    whole = merged[is_whole(merged)]
    if n_cut := len(merged) - len(whole):
        more += f"; {n_cut} of them cut by the border, not counted below"
    pixels, problem = _read_pixels(analysis)
    size, plain = (SMALL_PX, True) if small else (PREVIEW_PX, None)
    drawn = overview(analysis, classes, size, pixels, plain)
    html = get_template("image.html.j2").render(
        outcome=outcome,
        micrograph=analysis.micrograph,
        small=small,
        problem=problem,
        overview=drawn,
        titled="<title>" in drawn,
        ratios=[] if ratios is None else ratio_rows(ratios),
        ratios_placeholder=_RATIOS_PLACEHOLDER if ratios is None else "",
        legend=_legend(whole, classes),
        charts=[] if small else chart_entries(IMAGE_CHARTS, table, classes, (5.4, 2.7)),
        gallery=[] if small else _gallery(analysis, classes),
        found=describe_clusters(shown, analysis.micrograph.n_frames) + more,
        n_corrected=count_clusters(shown)[1],
        movie=_movie(analysis, movie, classes, small),
    )
    return Section(name, Markup(html), problem)


def insert_ratios(section: Section, ratios: pd.DataFrame) -> Section:
    """Return a section that was drawn with ``ratios_later``, with the ratios of its image."""
    drawn = get_template("parts.html.j2").module.ratio_table(ratio_rows(ratios))
    return replace(section, html=Markup(section.html.replace(_RATIOS_PLACEHOLDER, drawn, 1)))


def failed_section(image: str, reason: str) -> Section:
    """Return a section with the reason why an image could not be drawn."""
    html = Markup(
        '<section class="image small"><h2>{}</h2>'
        '<p class="warning">This image could not be drawn: {}</p></section>'
    )
    return Section(image, html.format(image, reason), reason)


def _movie(
    analysis: Analysis, movie: TrackedMovie | None, classes: Sequence[str], small: bool
) -> dict[str, Any] | None:
    """Return the part about tracks, None for an image without tracks."""
    if movie is None and not is_tracked(analysis):
        return None
    from ..tracking.following import evaluate_tracks
    from .movie_figures import movie_context

    return movie_context(movie or evaluate_tracks(analysis), classes, small)


def _read_pixels(analysis: Analysis) -> tuple[np.ndarray | None, str]:
    """Return the frame that is shown, or None and the reason why it can not be read."""
    try:
        return pixels_of(analysis), ""
    except Cancelled:
        raise
    except AtomicityError as error:  # readers of the report can not follow the advice
        return None, f"{error.what}."
    except Exception as error:  # libraries that read files raise any exception
        return None, str(error) or type(error).__name__


def _legend(table: pd.DataFrame, classes: Sequence[str]) -> list[dict[str, Any]]:
    counts = table["label"].value_counts()
    extra = [label for label in sorted(counts.index) if label not in classes]
    return [
        {
            "name": label or "not classified",
            "glyph": glyph(label, classes),
            "count": int(counts.get(label, 0)),
        }
        for label in [*classes, *extra]
    ]


def _gallery(analysis: Analysis, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return clusters of each label with high, medium and low confidence."""
    if not analysis.patches:
        return []
    table = analysis.table.reset_index(drop=True)[has_patches(analysis)]
    groups = []
    for label in [*classes, *NON_CLASS_LABELS]:
        # Where a person changed the label, the confidence is that of another class.
        own = table["label"] == label
        if label in classes:
            own &= table["label_predicted"] == label
        ranked = table[own & table["confidence"].notna()].sort_values(
            "confidence", ascending=False, kind="stable"
        )
        if not len(ranked):
            continue
        n = min(EXAMPLES_PER_CLASS, len(ranked))
        rows = ranked.iloc[np.linspace(0, len(ranked) - 1, n).round().astype(int)]
        examples = []
        for index, row in zip(rows.index, rows.to_dict("records"), strict=True):
            strip, names = patch_strip(analysis, int(index))
            examples.append({"strip": strip, "names": names, **row})
        groups.append({"label": label, "glyph": glyph(label, classes), "examples": examples})
    return groups


# ---- sections of a report in a temporary file, until the report is written

_ENCODING = "utf-8", "surrogatepass"


class StoredSection(Section):
    """A section whose HTML is read when it is used."""

    def __init__(self, section: Section, file: IO[bytes]) -> None:
        content = section.html.encode(*_ENCODING)
        start = file.seek(0, 2)
        file.write(content)
        known = {"image": section.image, "problem": section.problem}
        vars(self).update(known, _file=file, _place=(start, len(content)))

    @property
    def html(self) -> Markup:
        """The section."""
        file, (start, size) = vars(self)["_file"], vars(self)["_place"]
        file.seek(start)
        return Markup(file.read(size).decode(*_ENCODING))


class SectionFile:
    """Keeps the sections of many images, which have hundreds of megabytes, in a temporary file.

    The file is deleted with the last of its sections.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115

    def store(self, section: Section) -> StoredSection:
        """Return a section with its HTML in the file."""
        return StoredSection(section, self._file)
