"""Samples of folders of results compared: tables, figures, sentences and record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.acquisition_session import Sample, SampleEntry, group_samples, match_images
from ..core.errors import AtomicityError, ReadError, TableError, attempt
from ..core.from_dict import dataclass_from_json
from ..core.model_card import ATOMS
from ..core.tables.cluster_table import classes_of, concatenate
from ..io.files import read_document, write_text
from ..io.provenance import Outcome, RecordedImage, folders_of, now
from ..io.result_folder import RECORD, ResultFolder
from ..io.tables import read_clusters, read_table, write_table
from ..reporting.plots.comparison import write_comparison_figures
from ..statistics.samples.comparison import (
    COMPARISON_SCHEMA,
    TREND_SCHEMA,
    SampleComparison,
    choose_reference,
)
from ..statistics.samples.run_evidence import (
    SampleEvidence,
    compare_evidence,
    evidence_of_atoms,
    evidence_of_clusters,
)
from ..statistics.samples.sentences import (
    comparison_notes,
    comparison_sentences,
    with_scatter_note,
)
from .acquisition_sessions import read_sample_table

COMPARE = "compare"
"""Kind of the record of a comparison."""
_NO_RESULTS = "Give folders that atomicity analyse, batch, watch or atoms has written"


# ---- folders of results
@dataclass(frozen=True)
class _RecordedImage(RecordedImage):
    session: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Record:
    images: tuple[_RecordedImage, ...]
    kind: str = ""
    samples: tuple[Sample, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class _Results:
    """Results of several folders, with names of images that are unique among them."""

    outcomes: list[Outcome] = field(default_factory=list)
    entries: dict[str, SampleEntry] = field(default_factory=dict)  # of samples that were stated
    clusters: list[pd.DataFrame] = field(default_factory=list)
    atoms: list[pd.DataFrame] = field(default_factory=list)
    keep_ratios: bool = False
    _names: dict[tuple[str, str], str] = field(default_factory=dict)
    _kinds: set[tuple[str, bool]] = field(default_factory=set)

    def add(self, folder: Path, label: str) -> None:
        """Read a folder of results; raises `ReadError` or `TableError` that names it."""
        record = _read_record(folder)
        is_atoms = record.kind == ATOMS
        name_of = {i.image: self._name(i, folder, label, is_atoms) for i in record.images}
        stated = {
            image: SampleEntry(sample.name, sample.numbers)
            for sample in record.samples
            if not sample.folder
            for image in sample.images
        }
        self.entries |= {name_of[i]: entry for i, entry in stated.items() if i in name_of}
        known = {outcome.image for outcome in self.outcomes}
        for image in record.images:
            outcome = Outcome(
                name_of[image.image],
                image.path,
                image.status,
                sha256=image.sha256,
                session=f"{label}/{image.session}" if label and image.session else image.session,
                parameters=image.parameters,
            )
            if outcome.image not in known:
                self.outcomes.append(outcome)
            elif not is_atoms:  # the scale of its session is that of its clusters
                self.outcomes = [outcome if o.image == outcome.image else o for o in self.outcomes]
        table = _read_results(folder, is_atoms)
        names = table["image"].astype(str)
        table = table.assign(image=names.map(lambda name: name_of.get(name, name)))
        (self.atoms if is_atoms else self.clusters).append(table)
        self.keep_ratios |= bool(record.parameters.get("keep_ratios"))

    def _name(self, image: _RecordedImage, folder: Path, label: str, is_atoms: bool) -> str:
        """Return the unique name of an image; clusters and atoms of one image have the same."""
        identity = image.image, image.sha256 or image.path
        if identity not in self._names:
            taken = image.image in self._names.values()
            self._names[identity] = f"{label or folder}/{image.image}" if taken else image.image
        name = self._names[identity]
        if (name, is_atoms) in self._kinds:
            raise TableError(
                f"the image {image.image} is also in other results that are compared",
                folder,
                "Give each image once",
            )
        self._kinds.add((name, is_atoms))
        return name

    def group(self, table: str | PathLike[str] | None) -> list[Sample]:
        """Group the images into samples: by the table, as stated in the runs, or by folder."""
        entries = self.entries
        if table is not None:
            stated = read_sample_table(Path(table))
            images = [outcome.image for outcome in self.outcomes]
            unknown = [pattern for pattern in stated if not match_images(pattern, images)]
            if unknown:
                raise TableError(
                    f"no image of the results has the name {', '.join(unknown[:5])}",
                    table,
                    "Correct or remove these rows. Names are those of the column image in "
                    "clusters.csv or atoms.csv, or patterns",
                )
            named = {image for pattern in stated for image in match_images(pattern, images)}
            entries = {**stated, **{i: e for i, e in entries.items() if i not in named}}
        return group_samples(folders_of(self.outcomes), entries)


def _read_record(folder: Path) -> _Record:
    """Read the record of a folder of results; raises `ReadError`."""
    try:
        record = dataclass_from_json(_Record, read_document(folder / RECORD))
    except FileNotFoundError:
        exists = folder.exists()
        problem = f"there is no {RECORD} in this folder" if exists else "there is no such folder"
        raise ReadError(problem, folder, _NO_RESULTS) from None
    except OSError as error:
        reason = f"{RECORD} could not be read ({error.strerror or error})"
        raise ReadError(reason, folder, _NO_RESULTS) from None
    except ValueError as error:
        raise ReadError(f"{RECORD} is damaged ({error})", folder, _NO_RESULTS) from None
    if record.kind == COMPARE:
        raise ReadError("these are results of a comparison", folder, _NO_RESULTS)
    return record


def _read_results(folder: Path, is_atoms: bool) -> pd.DataFrame:
    """Read the table of a folder of results; raises `ReadError` or `TableError` naming it."""
    name = "dispersion.csv" if is_atoms else "clusters.csv"
    try:
        if not is_atoms:
            return read_clusters(folder / name)
        table = read_table(folder / name)
    except AtomicityError as error:
        raise ReadError(f"{name}: {error.what}", folder, error.advice or _NO_RESULTS) from None
    if "image" not in table:
        raise TableError(f"{name} lacks the column image", folder, _NO_RESULTS)
    return table


@dataclass(frozen=True, eq=False)
class ComparisonRun:
    """Result of `compare_results`."""

    comparison: SampleComparison
    sentences: list[str]
    files: list[Path]
    failed_statistics: dict[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Summarise the comparison as plain values for JSON."""
        return {
            "out": str(self.files[-1].parent) if self.files else None,
            "reference": self.comparison.reference,
            "samples": [sample.name for sample in self.comparison.samples],
            "comparison": self.comparison.table.to_dict("records"),
            "trends": self.comparison.trends.to_dict("records"),
            "sentences": self.sentences,
        }


def compare_results(
    folders: Iterable[str | PathLike[str]],
    out_dir: str | PathLike[str],
    reference: str | None = None,
    samples: str | PathLike[str] | None = None,
    command: Sequence[str] | None = None,
) -> ComparisonRun:
    """Compare the samples of folders of results, and write tables, figures, sentences and record.

    ``samples`` is a table of samples. Raises `ReadError` or `TableError` if results or the table
    can't be read, there is no such reference, or nothing can be compared; `AtomicityError` if the
    folder can't be written.
    """
    started = now()
    paths = [Path(folder) for folder in folders]
    results = _Results()
    short = [path.absolute().name for path in paths]
    for path, name in zip(paths, short, strict=True):
        label = "" if len(paths) == 1 else name if short.count(name) == 1 else str(path)
        results.add(path, label)
    found = results.group(samples)
    choose_reference(found, reference)
    outcomes = [o for o in results.outcomes if o.status == "done"]
    comparison = _compare_tables(results, outcomes, found, reference)
    sample_of = {image: sample.name for sample in found for image in sample.images}
    outcomes = [replace(o, sample=sample_of.get(o.image, ""), parameters={}) for o in outcomes]
    return write_comparison(
        comparison,
        out_dir,
        outcomes=outcomes,
        classes=list(dict.fromkeys(c for table in results.clusters for c in classes_of(table))),
        started=started,
        parameters={
            "results": [str(path) for path in paths],
            "reference": comparison.reference,
            "samples": None if samples is None else str(samples),
        },
        command=command,
    )


def _compare_tables(
    results: _Results, outcomes: Sequence[Outcome], samples: list[Sample], reference: str | None
) -> SampleComparison:
    """Compare clusters and atoms; raises `TableError` if nothing can be compared."""
    clusters = atoms = SampleEvidence()
    if results.clusters:
        table = concatenate(results.clusters)
        clusters = evidence_of_clusters(table, outcomes, samples, results.keep_ratios)
    if results.atoms:
        rows = pd.concat(results.atoms, ignore_index=True)
        atoms = evidence_of_atoms(rows, outcomes, samples)
    found = compare_evidence(samples, reference, clusters, atoms)
    if not (len(found.tested) or clusters.withheld):
        raise why_untested(found)
    return found


def why_untested(found: SampleComparison) -> TableError:
    """Return why no sample of a comparison could be compared with the reference."""
    counted = found.table.loc[found.table["value"].notna(), "sample"].unique()
    if len(counted) < 2 or found.reference not in counted:
        which = f"only {', '.join(counted)} has" if len(counted) else "no sample has"
        return TableError(
            f"{which} counted clusters (whose fractions are not withheld) or atoms, and a "
            f"comparison needs the reference ({found.reference}) and another one",
            advice="Look into the reports of the results",
        )
    return TableError(
        "each sample has one image with counted clusters or atoms, so that nothing tells how much "
        "images of a sample differ",
        advice="Add images of at least one sample",
    )


def write_comparison(
    comparison: SampleComparison,
    out_dir: str | PathLike[str],
    *,
    outcomes: Sequence[Outcome] = (),
    classes: Sequence[str] = (),  # in order, for the colours
    started: str = "",
    parameters: dict[str, Any] | None = None,
    command: Sequence[str] | None = None,
) -> ComparisonRun:
    """Write a comparison: tables, figures, sentences, and the record last.

    Raises `AtomicityError` if the folder or a file can't be written.
    """
    results = ResultFolder(Path(out_dir), COMPARE)
    sentences = comparison_sentences(comparison)
    results.add(
        write_table(with_scatter_note(comparison), results / "comparison.csv", COMPARISON_SCHEMA),
        write_table(comparison.trends, results / "trends.csv", TREND_SCHEMA),
        write_text(results / "sentences.txt", "".join(f"{line}\n" for line in sentences)),
    )
    figures = attempt(
        results.failed,
        "figures",
        lambda: write_comparison_figures(comparison, results / "figures", classes),
    )
    results.add(*(figures or ()))
    results.finish(
        outcomes,
        started=started or now(),
        finished=now(),
        parameters={
            **(parameters or {"reference": comparison.reference}),
            "notes": comparison_notes(comparison),
        },
        model=None,
        device=None,
        command=command,
        samples=comparison.samples,
    )
    return ComparisonRun(comparison, sentences, results.files, results.failed)
