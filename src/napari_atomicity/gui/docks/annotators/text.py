"""Results of the comparison of annotators as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ....core.text import pluralise
from ....state.annotator_packs import TakenIn
from ....state.annotators import Annotations, AnnotatorComparison
from ....statistics.annotators.agreement import AgreementFigure
from ....statistics.annotators.human_parity import MARGIN, MODEL

NOT_LOOKED = "–"
MODEL_NAME = "Model"
_MAX_LISTED = 8

WHY = {
    "": "all",
    "undecided": "undecided (posterior 0.25 to 0.75)",
    "people": "people disagree",
    "against": "model against people",
}
"""Column of the table of disputes → name of the filter."""


def with_interval(value: float, low: float, high: float, decimals: int = 2) -> str:
    """Format ``0.82 (0.74–0.90)``; a dash if the value is not finite."""
    if not math.isfinite(value):
        return "–"
    # What is rounded to zero has no sign.
    text, *ends = (f"{v:z.{decimals}f}".replace("-", "−") for v in (value, low, high))
    if not (math.isfinite(low) and math.isfinite(high)):
        return text
    return f"{text} ({(' to ' if low < 0 else '–').join(ends)})"


def _of(row: Mapping[str, Any], name: str) -> str:
    return with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"])


# ---- coverage
def coverage_lines(
    annotations: Annotations, images: Sequence[str], annotators: Sequence[str]
) -> list[tuple[str, ...]]:
    """Return a line per image: its name, then the marks of each annotator.

    ``12 (2 ?)`` means twelve marks, two of them uncertain.
    """
    cells = {
        (row.image, row.annotator): _marks(int(row.marks), int(row.uncertain))
        for row in annotations.counts.itertuples()
    }
    return [(i, *(cells.get((i, who), NOT_LOOKED) for who in annotators)) for i in images]


def _marks(n: int, n_uncertain: int) -> str:
    if not n:
        return "no atoms"
    return f"{n} ({n_uncertain} ?)" if n_uncertain else str(n)


def format_annotators(annotations: Annotations, annotators: Sequence[str]) -> str:
    """Format the numbers of marks and reviewed images of each annotator; "" without any."""
    if not annotators:
        return ""
    images = annotations.counts.groupby("annotator")["image"].size()
    marks = annotations.counts.groupby("annotator")["marks"].sum()
    text = "; ".join(
        f"{who}: {pluralise(int(marks[who]), 'mark')} in {pluralise(int(images[who]), 'image')}"
        for who in annotators
    )
    return f"{text}."


# ---- packs
def format_taken(taken: TakenIn) -> str:
    """Format the result of an import of packs: new, known and refused tables."""
    parts = []
    new = taken.came[taken.came["new"].astype(bool)]
    if len(new):
        who = ", ".join(dict.fromkeys(new["annotator"]))
        n_images = new["image"].nunique()
        parts.append(
            f"Imported: {pluralise(int(new['marks'].sum()), 'mark')} of {who} in "
            f"{pluralise(n_images, 'image')}."
        )
    labels = taken.labelled
    if len(labels) and labels["new"].any():
        who = ", ".join(dict.fromkeys(labels["annotator"]))
        parts.append(
            f"Imported: {pluralise(int(labels['new'].sum()), 'label')} of {who}; Second opinion in "
            "the dock Review compares them."
        )
    known = len(taken.came) - len(new)
    if len(labels):
        known += int((labels["new"] == 0).sum())
    if known:
        tables = "1 table was" if known == 1 else f"{known} tables were"
        parts.append(f"{tables} known already; nothing was added.")
    by_name = taken.came.loc[taken.came["by_name"].astype(bool), "image"]
    if len(by_name):
        parts.append(f"Matched by name only, because the files are missing: {', '.join(by_name)}.")
    lines = [f"• {what}: {why}" for what, why in taken.refused.itertuples(index=False)]
    lines += [f"• {path.name}: {why}" for path, why in taken.in_doubt.items()]
    parts += taken.notes
    if lines:
        more = len(lines) - _MAX_LISTED
        lines = lines[:_MAX_LISTED] + ([f"• and {more} more"] if more > 0 else [])
        parts.append("\n".join(["Not imported:", *lines]))
    return "\n".join(parts)


# ---- the comparison
def rater_lines(compared: AnnotatorComparison) -> list[tuple[str, ...]]:
    """Return annotator, images, marks, sensitivity and share of false marks."""
    return [
        (row["annotator"], str(row["images"]), _marks(row["marks"], row["uncertain"]),
         _of(row, "sensitivity"), _of(row, "false_share"))
        for row in compared.consensus.raters.to_dict("records")
    ]  # fmt: skip


def f1_table(compared: AnnotatorComparison) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return headers and lines of the pairwise F1, with the model if it has results.

    On the diagonal is the F1 of people with themselves, where they marked images twice.
    """
    cells = {(p["a"], p["b"]): _of(p, "f1") for p in compared.consensus.pairs.to_dict("records")}
    cells |= {(row["annotator"],) * 2: _of(row, "f1") for row in compared.with_themselves}
    names = list(compared.consensus.annotators)
    if compared.beside is not None:
        model = {p["b"]: _of(p, "f1") for p in compared.beside["pairs"] if p["a"] == MODEL}
        cells |= {(MODEL_NAME, who): f1 for who, f1 in model.items()}
        names = [MODEL_NAME, *names]

    def cell(a: str, b: str) -> str:
        return cells.get((a, b), cells.get((b, a), "·" if a == b else "–"))

    return ["F1", *names], [(a, *(cell(a, b) for b in names)) for a in names]


def format_effect(compared: AnnotatorComparison) -> str:
    """Format the title of the effect of disagreement: images that all annotators reviewed."""
    people = compared.annotations.looked.groupby("image")["annotator"].nunique()
    n = int((people == len(compared.consensus.annotators)).sum())
    if not n:
        return "Effect of disagreement on the result: no image was reviewed by all annotators"
    of = pluralise(len(people), "image")
    return f"Effect of disagreement on the result, in the {n} of {of} that all annotators reviewed"


def effect_lines(effect: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return annotator, atoms, density and distance of nearest neighbours."""
    return [
        (row["who"], f"{row['atoms']:.1f}".removesuffix(".0"),
         with_interval(row["density_per_nm2"], row["density_per_nm2_low"],
                       row["density_per_nm2_high"], 3),
         with_interval(row["nearest_neighbour_nm"], row["nearest_neighbour_nm_low"],
                       row["nearest_neighbour_nm_high"], 3))
        for row in effect.to_dict("records")
    ]  # fmt: skip


def format_agreement(compared: AnnotatorComparison) -> str:
    """Format sites, consensus and Krippendorff's alpha."""
    found = compared.consensus
    n = len(found.annotators)
    people = f"at least one of {n} people" if n > 1 else "1 person"
    parts = [
        f"{pluralise(len(found.sites), 'site')} marked by {people}, of which {len(found.believed)} "
        f"belong to the consensus; marks within {found.tolerance_nm:g} nm are one site."
    ]
    if len(found.annotators) > 1:
        parts.append(
            f"Krippendorff's α: {_figure(found.alpha_places)} of all places, "
            f"{_figure(found.alpha_sites)} of marked sites only."
        )
    if compared.beside is not None:
        against = compared.beside["against_consensus"]
        parts.append(
            f"Model against {'the consensus' if len(found.annotators) > 1 else 'the person'}: "
            f"F1 {_of(against, 'f1')}, precision {_of(against, 'precision')}, "
            f"recall {_of(against, 'recall')}."
        )
        reviewers = compared.annotations.looked.groupby("image")["annotator"].nunique()
        if len(found.annotators) > 1 and (lone := int((reviewers < 2).sum())):
            parts.append(
                f"In {lone} of {pluralise(len(reviewers), 'image')}, the consensus is that of one "
                "person."
            )
    return "\n".join(parts)


def _figure(figure: AgreementFigure) -> str:
    return with_interval(figure.value, figure.low, figure.high)


def format_expert(beside: Mapping[str, Any] | None) -> str:
    """Format whether the model is as good as one more expert: a sentence and the numbers."""
    if beside is None:
        return "The model has no results for these images yet: find their atoms first (dock Atoms)."
    expert = beside["one_more_expert"]
    if expert is None:
        return (
            "The comparison of the model with one more expert needs two people who have reviewed "
            "the same images."
        )
    difference, low, high = (expert[f"difference{end}"] for end in ("", "_low", "_high"))
    if not all(map(math.isfinite, (difference, low, high))):
        return "The comparison of the model with one more expert is not known: too few marks."
    if names := ", ".join(expert["in_doubt"]):
        verdict = f"Not known while the marks of {names} are in doubt: mend them or leave them out"
    elif high < 0:
        verdict = "No: the model is further from the others than one of these people"
    elif low > 0:
        verdict = "Yes, and more: the model is nearer to the others than one of these people"
    elif low < -MARGIN:
        verdict = "Undecided: there are too few marks"
    else:
        verdict = (
            "Yes, within the uncertainty: the model does not differ from one more of these people"
        )
    how = "higher" if difference > 0 else "lower"
    text = (
        f"{verdict}. Its F1 against the others is {abs(difference):.2f} {how} than a person's "
        f"(95 % interval of the difference {_signed(low)} to {_signed(high)})."
    )
    each = "; ".join(
        f"against all but {p['annotator']}: {p['annotator']} "
        f"{with_interval(p['f1'], math.nan, math.nan)}, model "
        f"{with_interval(p['f1_model'], math.nan, math.nan)}"
        for p in expert["persons"]
    )
    return f"{text}\nF1 {each}."


def _signed(value: float) -> str:
    digits = 2 if abs(value) >= 0.005 or not value else 3  # on which side of 0 it is
    return f"{value:+.{digits}f}".replace("-", "−")


# ---- disputes
def dispute_lines(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return image, posterior, number of annotators with a mark, and result of the model."""
    results = {None: "–", True: "atom", False: "none"}
    return [
        (
            f"{row.image}, frame {row.frame}" if row.frame else row.image,  # type: ignore[str-bytes-safe]
            f"{row.posterior:.2f}",
            f"{row.n_marked} of {row.n_looked}",
            results[None if row.model is None else bool(row.model)],
        )
        for row in table.itertuples()
    ]
