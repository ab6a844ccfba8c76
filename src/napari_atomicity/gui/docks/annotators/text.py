"""What several people's marks come to, as a person reads it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ....state.annotator_packs import TakenIn
from ....state.annotators import Annotations, AnnotatorComparison
from ....statistics.agreement_coefficients import AgreementFigure
from ....statistics.human_parity import MODEL

NOT_LOOKED = "–"
MODEL_NAME = "Model"
_MAX_TOLD = 8

WHY = {
    "": "all",
    "undecided": "undecided (posterior 0.25 to 0.75)",
    "people": "people disagree",
    "against": "model against people",
}
"""Column of the table of disputes → what is chosen by it."""


def number(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


def with_interval(value: float, low: float, high: float, decimals: int = 2) -> str:
    """``0.82 (0.74–0.90)``; a dash where it is not known."""
    if not math.isfinite(value):
        return "–"
    said, *ends = (f"{v:.{decimals}f}".replace("-", "−") for v in (value, low, high))
    if not (math.isfinite(low) and math.isfinite(high)):
        return said
    return f"{said} ({(' to ' if low < 0 else '–').join(ends)})"


def _of(row: Mapping[str, Any], name: str, decimals: int = 2) -> str:
    return with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"], decimals)


# ---- who has looked
def coverage_lines(
    said: Annotations, images: Sequence[str], annotators: Sequence[str]
) -> list[tuple[str, ...]]:
    """A line per image: its name, then for each annotator what he has marked there.

    ``12 (2 ?)`` are twelve marks, of two of which he is not sure.
    """
    cells = {
        (row.image, row.annotator): _marks(int(row.marks), int(row.uncertain))
        for row in said.counts.itertuples()
    }
    return [(i, *(cells.get((i, who), NOT_LOOKED) for who in annotators)) for i in images]


def _marks(n: int, n_uncertain: int) -> str:
    if not n:
        return "no atoms"
    return f"{n} ({n_uncertain} ?)" if n_uncertain else str(n)


def format_annotators(said: Annotations, annotators: Sequence[str]) -> str:
    """Who has gone through how many images."""
    if not annotators:
        return "Nobody has gone through an image yet."
    images = said.counts.groupby("annotator")["image"].size()
    marks = said.counts.groupby("annotator")["marks"].sum()
    told = "; ".join(
        f"{who}: {number(int(marks[who]), 'mark')} in {number(int(images[who]), 'image')}"
        for who in annotators
    )
    return f"{told}."


# ---- packs
def format_taken(taken: TakenIn) -> str:
    """What came in, what was known, and what was left out and why."""
    said = []
    new = taken.came[taken.came["new"].astype(bool)]
    if len(new):
        who = ", ".join(dict.fromkeys(new["annotator"]))
        n_images = new["image"].nunique()
        said.append(
            f"Came in: {number(int(new['marks'].sum()), 'mark')} of {who} in "
            f"{number(n_images, 'image')}."
        )
    known = len(taken.came) - len(new)
    if known:
        tables = "1 table was" if known == 1 else f"{known} tables were"
        said.append(f"{tables} known already; nothing was added.")
    by_name = taken.came.loc[taken.came["by_name"].astype(bool), "image"]
    if len(by_name):
        said.append(f"Told by the name only, since the files are not there: {', '.join(by_name)}.")
    if len(taken.refused):
        lines = [f"• {what}: {why}" for what, why in taken.refused.itertuples(index=False)]
        more = len(lines) - _MAX_TOLD
        lines = lines[:_MAX_TOLD] + ([f"• and {more} more"] if more > 0 else [])
        said.append("\n".join(["Not taken in:", *lines]))
    return "\n".join(said)


# ---- the comparison
def rater_lines(compared: AnnotatorComparison) -> list[tuple[str, ...]]:
    """Annotator, images, marks, share of the atoms that he finds, share of his marks that err."""
    return [
        (row["annotator"], str(row["images"]), _marks(row["marks"], row["uncertain"]),
         _of(row, "sensitivity"), _of(row, "false_share"))
        for row in compared.consensus.raters.to_dict("records")
    ]  # fmt: skip


def f1_table(compared: AnnotatorComparison) -> tuple[list[str], list[tuple[str, ...]]]:
    """Headers and lines of F1 of each two, the model among them if it has looked."""
    cells = {(p["a"], p["b"]): _of(p, "f1") for p in compared.consensus.pairs.to_dict("records")}
    names = list(compared.consensus.annotators)
    if compared.beside is not None:
        told = {p["b"]: _of(p, "f1") for p in compared.beside["pairs"] if p["a"] == MODEL}
        cells |= {(MODEL_NAME, who): f1 for who, f1 in told.items()}
        names = [MODEL_NAME, *names]

    def cell(a: str, b: str) -> str:
        return "·" if a == b else cells.get((a, b), cells.get((b, a), "–"))

    return ["F1", *names], [(a, *(cell(a, b) for b in names)) for a in names]


def effect_lines(effect: pd.DataFrame) -> list[tuple[str, ...]]:
    """Who, atoms, density, distance of nearest neighbours."""
    return [
        (row["who"], f"{row['atoms']:.0f}",
         with_interval(row["density_per_nm2"], row["density_per_nm2_low"],
                       row["density_per_nm2_high"], 3),
         with_interval(row["nearest_neighbour_nm"], row["nearest_neighbour_nm_low"],
                       row["nearest_neighbour_nm_high"], 3))
        for row in effect.to_dict("records")
    ]  # fmt: skip


def format_agreement(compared: AnnotatorComparison) -> str:
    """Sites, consensus and alpha in a few lines."""
    found = compared.consensus
    people = number(len(found.annotators), "person").replace("persons", "people")
    said = [
        f"{number(len(found.sites), 'site')} marked by {people}, of which {len(found.believed)} "
        f"belong to the consensus; marks within {found.tolerance_nm:g} nm are one."
    ]
    if len(found.annotators) > 1:
        said.append(
            f"Krippendorff's α: {_figure(found.alpha_places)} of all places, "
            f"{_figure(found.alpha_sites)} of marked sites only."
        )
    if compared.beside is not None:
        against = compared.beside["against_consensus"]
        said.append(
            f"Model against {'the consensus' if len(found.annotators) > 1 else 'the person'}: "
            f"F1 {_of(against, 'f1')}, precision {_of(against, 'precision')}, "
            f"recall {_of(against, 'recall')}."
        )
    return "\n".join(said)


def _figure(figure: AgreementFigure) -> str:
    return with_interval(figure.value, figure.low, figure.high)


def format_expert(beside: Mapping[str, Any] | None) -> str:
    """Is the model as good as one more expert? One sentence, then the numbers."""
    if beside is None:
        return "The model has not looked at these images yet: find atoms in them first (Atoms)."
    expert = beside["one_more_expert"]
    if expert is None:
        return (
            "Whether the model is as good as one more expert takes two people who have gone "
            "through the same images."
        )
    difference, low, high = (expert[f"difference{end}"] for end in ("", "_low", "_high"))
    if not all(map(math.isfinite, (difference, low, high))):
        return "Whether the model is as good as one more expert is not known: too few marks."
    if high < 0:
        verdict = "No: the model is further from the others than one of these people"
    elif low > 0:
        verdict = "Yes, and more: the model is nearer to the others than one of these people"
    else:
        verdict = (
            "Yes, as far as can be told: the model can't be told from one more of these people"
        )
    how = "higher" if difference > 0 else "lower"
    said = (
        f"{verdict}. Its F1 against the others is {abs(difference):.2f} {how} than a person's "
        f"(95 % interval of the difference {_signed(low)} to {_signed(high)})."
    )
    each = "; ".join(
        f"against all but {p['annotator']}: {p['annotator']} "
        f"{with_interval(p['f1'], math.nan, math.nan)}, model "
        f"{with_interval(p['f1_model'], math.nan, math.nan)}"
        for p in expert["persons"]
    )
    return f"{said}\nF1 {each}."


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


# ---- disputes
def dispute_lines(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """Image, posterior, who marked it, what the model says."""
    says = {None: "–", True: "atom", False: "none"}
    return [
        (
            row.image if not row.frame else f"{row.image}, frame {row.frame + 1}",
            f"{row.posterior:.2f}",
            f"{row.n_marked} of {row.n_looked}",
            says[None if row.model is None else bool(row.model)],
        )
        for row in table.itertuples()
    ]
