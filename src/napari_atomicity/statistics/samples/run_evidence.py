"""What the results of a run, of several or of a window say of their samples, and its comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import pandas as pd

from ...core.acquisition_session import SAMPLE_SCOPE, Sample, is_group_scope
from ...core.tables.cluster_table import ALL
from ...core.text import listed, pluralise
from ...io.provenance import Outcome
from ..ratios.ratio_notes import SEPARATOR, ImageLimits, model_notes
from ..ratios.ratios import class_ratios
from .comparison import SampleComparison, choose_reference, compare_samples, notes_of_samples
from .image_values import ImageValues, atom_values, cluster_values

MAX_SAMPLES = 50
"""Number of samples up to which a report compares them."""
_BOUND = "lower bound"


def are_compared(samples: Sequence[Sample]) -> bool:
    """Return whether a report compares these samples."""
    return 1 < len(samples) <= MAX_SAMPLES


def compare_clusters(
    table: pd.DataFrame,
    outcomes: Sequence[Outcome],
    samples: Sequence[Sample],
    reference: str | None = None,
    keep_ratios: bool = False,
) -> SampleComparison:
    """Compare the samples of analysed images by their clusters; raises `TableError`."""
    choose_reference(samples, reference)
    clusters = evidence_of_clusters(table, outcomes, samples, keep_ratios)
    return compare_evidence(samples, reference, clusters)


def compare_atoms(
    dispersion: pd.DataFrame,  # rows of ``dispersion.csv``
    outcomes: Sequence[Outcome],
    samples: Sequence[Sample],
    reference: str | None = None,
) -> SampleComparison:
    """Compare the samples of images by their single atoms; raises `TableError`."""
    atoms = evidence_of_atoms(dispersion, outcomes, samples)
    return compare_evidence(samples, reference, SampleEvidence(), atoms)


@dataclass(frozen=True, eq=False)
class SampleEvidence:
    """Quantities by image, and what limits their use by sample."""

    quantities: list[ImageValues] = field(default_factory=list)
    session_of: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    withheld: Sequence[str] = ()


def evidence_of_clusters(
    table: pd.DataFrame,
    outcomes: Sequence[Outcome],
    samples: Sequence[Sample],
    keep_ratios: bool = False,
) -> SampleEvidence:
    """Return the quantities of the clusters of analysed images, with the errors of their scales.

    Of images with one content, each sample counts one.
    """
    by_hand = table.loc[table["label_corrected"].astype(str) != "", "image"].astype(str)
    samples, of_contents = _without_copies(outcomes, samples, Counter(by_hand))
    table = table[table["image"].astype(str).isin([i for s in samples for i in s.images])]
    limits = {o.image: ImageLimits.from_parameters(o.parameters, keep_ratios) for o in outcomes}
    session_of = {o.image: o.session for o in outcomes}
    errors = {o.image: o.parameters.get("session", {}).get("scale_error", 0.0) for o in outcomes}
    image = table["image"].astype(str)
    known = [
        class_ratios(
            table[image.isin(s.images)],
            scope=(scope := SAMPLE_SCOPE + s.name),
            n_bootstrap=1,  # only the notes are used
            images=s.images,
            limits=limits,
            groups={scope: s.images},
        )
        for s in samples
    ]
    values = cluster_values(table, session_of, limits, errors)
    notes, withheld = notes_of_samples(pd.concat(known))
    labelled = table[table["model_id"].astype(str) != ""].drop_duplicates("image")
    # samples that different models have labelled do not share the errors of one
    for of_all in model_notes(labelled["model_id"].astype(str).tolist()):
        new = {name: of_all for name, note in notes.items() if of_all not in note}
        notes = _join_notes(notes, new)
    return SampleEvidence(values, session_of, _join_notes(notes, of_contents), withheld)


def _without_copies(
    outcomes: Sequence[Outcome],
    samples: Sequence[Sample],
    n_by_hand: Mapping[str, int] | None = None,  # number of manual labels of each image
) -> tuple[list[Sample], dict[str, str]]:
    """Return the samples with one image of each content, and notes on copies by sample.

    Of copies, the one with most manual labels counts, or the first.
    """
    content, labels = {o.image: o.sha256 or o.image for o in outcomes}, n_by_hand or {}
    of_sample: dict[str, dict[str, str]] = {s.name: {} for s in samples}
    for sample in samples:
        for image in sorted(sample.images, key=lambda image: -labels.get(image, 0)):
            of_sample[sample.name].setdefault(content.get(image, image), image)
    number = Counter(chain.from_iterable(of_sample.values()))  # of samples with this content
    notes = {}
    for sample in samples:
        found = of_sample[sample.name]
        if copies := len(sample.images) - len(found):
            has = pluralise(copies, "file has", "files have")
            copied = Counter(content.get(i, i) for i in sample.images)
            names = listed([image for one, image in found.items() if copied[one] > 1][:3])
            text = f"each content counts once, with the labels of {names}"
            notes[sample.name] = f"{has} the content of others, and {text}"
        if shared := sum(number[one] > 1 for one in found):
            images = pluralise(shared, "image is", "images are")
            text = f"{images} in another sample too, so that the two are not independent"
            notes = _join_notes(notes, {sample.name: text})
    once = [
        replace(s, images=tuple(i for i in s.images if i in of_sample[s.name].values()))
        for s in samples
    ]
    return once, notes


def _join_notes(notes: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Return the notes of samples with other notes behind them."""
    return {
        name: SEPARATOR.join(filter(None, (notes.get(name), more.get(name))))
        for name in {**notes, **more}
    }


def evidence_of_atoms(
    dispersion: pd.DataFrame, outcomes: Sequence[Outcome], samples: Sequence[Sample]
) -> SampleEvidence:
    """Return the quantities of the single atoms of images, as `evidence_of_clusters` does."""
    samples, of_contents = _without_copies(outcomes, samples)
    names = dispersion["image"].astype(str)
    of_samples = names.isin([image for s in samples for image in s.images])
    rows = dispersion[of_samples & (names != ALL) & ~names.map(is_group_scope)]
    bounds = set(rows.loc[rows["density_is"] == _BOUND, "image"]) if "density_is" in rows else set()
    notes = {
        s.name: "many atoms are missed: the density is a lower bound"
        for s in samples
        if bounds & set(s.images)
    }
    session_of = {o.image: o.session for o in outcomes}
    return SampleEvidence(atom_values(rows), session_of, _join_notes(notes, of_contents))


def compare_evidence(
    samples: Sequence[Sample],
    reference: str | None,
    clusters: SampleEvidence,
    atoms: SampleEvidence | None = None,
) -> SampleComparison:
    """Compare samples by their clusters, by their atoms, or by both; raises `TableError`."""
    atoms = atoms or SampleEvidence()
    return compare_samples(
        [*clusters.quantities, *atoms.quantities],
        samples,
        reference,
        {**atoms.session_of, **clusters.session_of},
        clusters.notes,
        atoms.notes,
        clusters.withheld,
    )
