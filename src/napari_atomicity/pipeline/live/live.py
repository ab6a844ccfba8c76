"""What a live session says: figures of each image, running ratios, and alarms."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...core.errors import AtomicityError
from ...core.model_card import ModelCard
from ...core.tables.cluster_table import (
    AGGREGATE,
    ALL,
    concatenate,
    empty,
    probability_columns,
)
from ...io.files import escape_formula, map_text
from ...io.provenance import Outcome, now
from ...models.analysis import Analysis
from ...models.domain_shift import MIN_CLUSTERS, FeatureSummary
from ...reporting.image_warnings import LOW_CONFIDENCE
from ...statistics.ratios.ratio_notes import ImageLimits
from ...statistics.ratios.ratios import class_ratios, counted
from ..runs.run_files import Run
from .arrivals import FileFingerprint
from .control_chart import SESSION_CHANGED, Reading

N_BOOTSTRAP = 200
"""Resamples of running ratios: their intervals move by less than from image to image."""
MANY_UNKNOWN = 0.5
"""Where so many clusters are like nothing that the model has learnt, it is out of its domain."""
LIVE = "live.csv"
_BUSY = 10.0
_RATIO_COLUMNS = {"fraction": "fraction", "low": "fraction_low", "high": "fraction_high"}
QUICK_S = 0.1
"""Ratios that take less time are computed with each image."""


@dataclass(frozen=True)
class Conditions:
    """How well the conditions of an image are those that the model knows."""

    # clusters, counted: how many were found, and how many count in ratios
    clusters: int
    counted: int
    # of whole clusters that were classified, but aggregates; 0 for unknown ones
    mean_confidence: float
    # share of whole clusters that are like nothing the model has learnt (``ood_score`` > 1)
    ood_share: float
    # drift, drift_limit: of the shift test (`models.domain_shift.domain_shift`), and the limit on
    # the model's card; NaN where there are too few clusters, or no limit
    drift: float
    drift_limit: float
    conditions_differ: bool  # whether the drift exceeds it
    alarms: tuple[str, ...] = ()  # what a person should act on
    # in the embedding; None where there are too few clusters, or the model tells nothing
    where: FeatureSummary | None = None
    # of the chart of the session (`pipeline.live.control_chart.ControlChart`), once it has seen the
    # image
    reading: Reading = field(default_factory=Reading)

    def read(self, reading: Reading) -> Conditions:
        """Add the reading of the session's chart and its alarm."""
        alarms = (*self.alarms, SESSION_CHANGED) if reading.rings else self.alarms
        return replace(self, reading=reading, alarms=alarms)


def conditions_of(
    analysis: Analysis, card: ModelCard, tensors: Mapping[str, np.ndarray]
) -> Conditions:
    """Determine the conditions of an analysed image."""
    table = analysis.table
    whole = ~table["touches_border"].to_numpy(bool)
    classified = table[whole & ~table["label_predicted"].isin(["", AGGREGATE]).to_numpy()]
    far = table["ood_score"].to_numpy(float) > 1
    where = _feature_summary(analysis, whole & ~far, card, tensors)
    drifted = np.nan if where is None else where.drift
    limit = np.nan if card.drift_limit is None else float(card.drift_limit)
    found = Conditions(
        clusters=len(table),
        counted=int(counted(table).sum()),
        mean_confidence=float(classified["confidence"].mean()) if len(classified) else np.nan,
        ood_share=float(far[whole].mean()) if whole.any() else np.nan,
        drift=drifted,
        drift_limit=limit,
        conditions_differ=bool(drifted > limit),
        where=where,
    )
    return replace(found, alarms=_alarms(found, int(whole.sum()), len(classified)))


def _feature_summary(
    analysis: Analysis, ours: np.ndarray, card: ModelCard, tensors: Mapping[str, np.ndarray]
) -> FeatureSummary | None:
    """Summarise whole and known clusters, as `models.scaled_predictions.assign_labels` does."""
    if "ood.mean" not in tensors or len(analysis.embedding) != len(analysis.table):
        return None
    p = analysis.table[probability_columns(card.classes)].to_numpy(float)
    best = np.nan_to_num(p, nan=-1).argmax(axis=1) if len(p) else np.empty(0, int)
    return FeatureSummary.of(analysis.embedding[ours], best[ours], tensors)


def _alarms(found: Conditions, whole: int, classified: int) -> tuple[str, ...]:
    """When the conditions leave the domain of the model, in words.

    Each figure needs enough of the clusters that it is of: whole ones, or those of the confidence.
    """
    said = []
    if found.conditions_differ:
        said.append("the conditions are not those of the model's training")
    if whole >= MIN_CLUSTERS and found.ood_share > MANY_UNKNOWN:
        said.append("most clusters are like nothing that the model has learnt")
    if classified >= MIN_CLUSTERS and found.mean_confidence < LOW_CONFIDENCE:
        said.append("the model is unsure of most clusters")
    return tuple(said)


@dataclass(eq=False)
class Running:
    """The ratios of all images so far; of files with the same content, one counts."""

    card: ModelCard
    method: str = (
        "counted"  # how ratios are found, a name in `statistics.ratios.prevalence.METHODS`
    )
    keep_ratios: bool = False  # whether fractions are given even if a session does not fit
    _tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    _limits: dict[str, ImageLimits] = field(default_factory=dict)
    _together: pd.DataFrame | None = None
    _took_s: float = 0.0
    _found_at: float = -np.inf

    @property
    def images(self) -> int:
        """Number of images that count."""
        return len(self._counted())

    def set(
        self,
        image: str,
        table: pd.DataFrame,
        parameters: Mapping[str, Any] | None = None,  # of its analysis
        sha256: str | None = None,  # of its file
    ) -> None:
        """Add or replace the table of an image."""
        again = image in self._tables
        self._limits[image] = ImageLimits.from_parameters(
            parameters or {}, self.keep_ratios, sha256=sha256
        )
        self._tables[image] = table
        if again:
            self._together = None
        elif self._together is not None and len(table) and image in self._counted():
            self._together = concatenate([self._together, self._tables[image]])

    def remove(self, image: str) -> None:
        """Remove an image."""
        if self._tables.pop(image, None) is not None:
            self._together = None

    def ratios(self, hurry: bool = False) -> pd.DataFrame | None:
        """Those of all images (`statistics.ratios.ratios.class_ratios`, scope "all").

        None if they were found not long since, so that they take a tenth of the time at most,
        however many images there are. Unless in a hurry, those that nobody has to wait for are
        always found.
        """
        start = time.monotonic()
        slow = hurry or self._took_s > QUICK_S
        if slow and start - self._found_at < _BUSY * self._took_s:
            return None
        found = class_ratios(
            self._all(),
            self.card.classes,
            n_bootstrap=N_BOOTSTRAP,
            scope=ALL,
            images=list(self._counted()),
            method=self.method,
            card=self.card,
            limits=self._limits,
        )
        self._found_at = time.monotonic()
        self._took_s = self._found_at - start
        return found

    def _counted(self) -> dict[str, pd.DataFrame]:
        """Return the tables without those of copies, which the project does not take in either."""
        first: dict[str, str] = {}
        for image in self._tables:
            first.setdefault(self._limits[image].sha256 or image, image)
        return {image: self._tables[image] for image in first.values()}

    def _all(self) -> pd.DataFrame:
        if self._together is None:
            self._together = concatenate([empty(self.card.classes), *self._counted().values()])
        return self._together


def row_of(
    image: str,
    sha256: str | None,
    found: Conditions,
    classes: tuple[str, ...],
    ratios: pd.DataFrame | None,
    *,
    images: int,  # how many there are so far
    waiting: int,  # files that are there and were not taken yet
    analysis_s: float,
    latency_s: float,
) -> dict[str, Any]:
    """Create a row of ``live.csv``."""
    row: dict[str, Any] = {
        "time": now(),
        "image": image,
        "sha256": sha256,
        "clusters": found.clusters,
        "counted": found.counted,
        "mean_confidence": found.mean_confidence,
        "ood_share": found.ood_share,
        "drift": found.drift,
        "drift_limit": found.drift_limit,
        "conditions_differ": found.conditions_differ,
        "session_drift": found.reading.drift,
        "session_change": found.reading.change,
        "reference_images": found.reading.reference,
        "alarm": "|".join(found.alarms),
        "images": images,
        "waiting": waiting,
        "analysis_s": round(analysis_s, 4),
        "latency_s": round(latency_s, 4),
    }
    return {**row, **ratio_columns(ratios, classes)}


def ratio_columns(ratios: pd.DataFrame | None, classes: Iterable[str]) -> dict[str, float]:
    """Return the running ratios as columns of ``live.csv``; NaN if they were not computed."""
    known = {} if ratios is None else ratios.set_index("class").to_dict("index")
    return {
        f"{column}_{name}": known.get(name, {}).get(value, np.nan)
        for name in classes
        for column, value in _RATIO_COLUMNS.items()
    }


class Log:
    """``live.csv``: a row for each image as it is analysed, there as soon as `add` returns.

    A row that a crash has cut short is taken away; a log with other columns is put aside.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LIVE
        self._columns: list[str] | None = None

    def add(self, row: dict[str, Any]) -> None:
        """Add a row; raise `AtomicityError` if it cannot be written."""
        line = map_text(pd.DataFrame([row]), escape_formula)
        try:
            if self._columns is None:
                self._begin(list(row))
            text = io.StringIO()
            line.to_csv(text, index=False, header=False, lineterminator="\n")
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(text.getvalue())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise AtomicityError(
                f"could not be written ({error.strerror or error})",
                self.path,
                f"Check the folder {self.path.parent}: that it may be written to and has space",
            ) from error

    def _begin(self, columns: list[str]) -> None:
        self._columns = columns
        head = ",".join(columns) + "\n"
        if self.path.is_file():
            data = self.path.read_bytes()
            if data.startswith(head.encode()):
                if not data.endswith(b"\n"):
                    with self.path.open("r+b") as file:
                        file.truncate(data.rfind(b"\n") + 1)
                return
            number = 1
            while (aside := self.path.with_name(f"live-{number}.csv")).exists():
                number += 1
            self.path.rename(aside)
        self.path.write_text(head, encoding="utf-8")


def read_log(path: Path) -> pd.DataFrame:
    """Read the rows of ``live.csv``.

    Raises `ReadError` if it is missing or no such file.
    """
    from ...io.tables import read_table

    return read_table(path)


# ---- results of a watched folder: per image, and at the end
@dataclass(frozen=True, eq=False)
class LiveUpdate:
    """What there is to show once a file was taken."""

    outcome: Outcome
    # its analysis; None if it failed, or was analysed before under another name
    analysis: Analysis | None = None
    conditions: Conditions | None = None  # confidence, drift and alarms; None if it failed
    # running ones of all images, or None where they were found just before (`live.Running`)
    ratios: pd.DataFrame | None = None
    row: dict[str, Any] | None = None  # of ``live.csv``; None if the image was not analysed now
    waiting: int = 0  # files that are there and were not taken yet
    latency_s: float = float("nan")  # from the last change of the file to now
    # what has begun to be wrong with this image; "" if nothing, or if it was before
    alarm: str = ""
    calm: bool = False  # whether an alarm has ended with it
    copy_of: str = ""  # another image, which has the same content

    @property
    def copy_note(self) -> str:
        """What is to be said of a copy; "" if it is none."""
        if not self.copy_of:
            return ""
        return (
            f"{self.outcome.image} has the content of {self.copy_of}: the ratios so far count one "
            "of them, the files of results both"
        )


@dataclass(frozen=True, eq=False)
class LiveRun(Run):
    """What came of it; ``analysed`` images in this session, and how many wait."""

    analysed: int = 0
    waiting: int = 0

    def summary(self) -> dict[str, Any]:
        """In a few words, ready for JSON."""
        return {**super().summary(), "analysed": self.analysed, "waiting": self.waiting}


def compute_latency_s(signature: FileFingerprint) -> float:
    """Seconds since the last change of a file, by its own time; 0 if that is in the future."""
    return max(0.0, time.time() - signature.mtime_ns / 1e9)
