"""Text and tables that ``make_sessions.py`` writes into the pages on accuracy, from its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from napari_atomicity.simulation.sessions import KINDS
from napari_atomicity.validation.benchmark import (
    CLIPPED_PERCENT,
    CROP_PX,
    CROPS_PER_IMAGE,
    ISOMERS_PER_CLASS,
    LONE_ATOMS_PER_NM2,
    N_IMAGES,
    WHOLE,
)
from napari_atomicity.validation.request import BENCHMARK_SEED
from page_sections import markdown_table, number, per_cent, write_section

EXPLANATION = Path(__file__).resolve().parents[1] / "explanation"
PAGE, TABLES = EXPLANATION / "accuracy.md", EXPLANATION / "accuracy_tables.md"
SECTION = "sessions"
CONFIDENT = 0.9
METHODS = {"0.1": "version 0.1, alone", "alone": "alone", "session": "as a session"}
"""Methods that are compared, and how tables call them."""
ALONE, SESSION = "alone", "session"
SCORES = {
    "accuracy": ("accuracy", 3),
    "r2": ("R² of the ratios", 2),
    "calibration": ("calibration error", 3),
    "wrong": ("sure but wrong", 3),
    "labelled": ("labelled", 2),
    "of_images": ("intervals of images", 2),
    "of_sessions": ("intervals of sessions", 2),
}
"""Scores, their titles and decimals."""
ERRORS = ("calibration", "wrong")
"""Scores of which a small value is good."""


def write_pages(
    scores: pd.DataFrame, other_sizes: pd.DataFrame, version: str, model: str, n_sessions: int
) -> None:
    """Write the sections of both pages."""
    made = (
        f"Made by `docs/scripts/make_sessions.py`, also in `make accuracy`; version {version}, "
        "model "
        f"`{model}`."
    )
    write_section(PAGE, SECTION, page(scores, made, n_sessions))
    write_section(TABLES, SECTION, long_tables(scores, other_sizes, made))


def page(scores: pd.DataFrame, made: str, n_sessions: int) -> list[str]:
    """Return the section of the short page: whole images, alone and as a session."""
    whole = scores[scores["form"] == WHOLE]
    kinds = "; ".join(f"*{kind}*: {samples}" for kind, samples in KINDS.items())
    return [
        "## Sessions",
        "",
        f"{result_in_words(whole)} [Tables of all forms of sessions](accuracy_tables.md#sessions).",
        "",
        made,
        "",
        f"**Images.** There are {n_sessions} simulated sessions of {N_IMAGES} images each (seeds "
        f"from {BENCHMARK_SEED}), which `atomicity benchmark` writes for others "
        f"([files and SHA-256](../reference/benchmark.md)), with {ISOMERS_PER_CLASS} isomers of "
        "each size that were not used for training or tuning. Conditions are drawn once for each "
        "session. Between its "
        "images, the gain scatters by 9 to 14 %, dose and support by 10 % and the focus by 2 nm. "
        "A and B are the images of another program, where their folder is available. A is "
        "`train/`, as a session without its labels, and `mixed/`. B is `shifted/` with "
        "`shifted_single/` as one session.",
        "",
        f"**Kinds.** {kinds}.",
        "",
        "### Accuracy alone and as a session",
        "",
        "The table shows how many clusters have the right most probable class, if each image is "
        "labelled alone and if its session is labelled together. Clusters that are cut by the "
        "border and aggregates are left out; *images* counts those with clusters to score.",
        "",
        *side_by_side(whole, ["accuracy"], with_numbers=True),
        accuracy_in_words(whole),
        "",
        *choice_of_labels(whole),
        "### Ratios alone and as a session",
        "",
        "The table shows R² of the counted fractions over samples and classes, and the fraction of "
        "95 % intervals that contain the true fraction of an image and a class.",
        "",
        *side_by_side(whole, ["r2", "of_images"]),
        intervals_in_words(whole),
        "",
        "### Confidence alone and as a session",
        "",
        "The table shows the calibration error, and the fraction of wrong labels among those with "
        f"a confidence above {CONFIDENT} (*sure but wrong*).",
        "",
        *side_by_side(whole, ["calibration", "wrong"]),
        confidence_in_words(whole),
        "",
    ]


def paired(scores: pd.DataFrame, score: str) -> pd.DataFrame:
    """A row of each kind, in order, with the score of each method."""
    order = list(dict.fromkeys(scores["group"]))
    return scores.pivot_table(score, "group", "method", "first", dropna=False).loc[order]


def side_by_side(
    whole: pd.DataFrame, names: Sequence[str], with_numbers: bool = False
) -> list[str]:
    """A table of scores of each image alone and as a session."""
    first = whole[whole["method"] == SESSION].set_index("group")
    columns = ["sessions", *(["images", "clusters"] if with_numbers else [])]
    cells = {
        group: [group, *([row["images"], row["clusters"]] if with_numbers else [])]
        for group, row in first.iterrows()
    }
    for name in names:
        title, decimals = SCORES[name]
        columns += [f"{title}, alone", f"{title}, session"]
        for group, row in paired(whole, name).iterrows():
            cells[group] += [number(row[method], decimals) for method in (ALONE, SESSION)]
    return markdown_table(columns, cells.values())


def result_in_words(whole: pd.DataFrame) -> str:
    """What the joint scale of a session gains."""
    found = paired(whole, "accuracy")
    gain = (found[SESSION] - found[ALONE]).round(3)
    best = gain.idxmax()
    return (
        f"Labels of a session are at least as accurate as those of each image alone in "
        f"{(gain >= 0).sum()} of {len(gain)} kinds of sessions; the largest gain is that of "
        f"*{best}*, from {found.loc[best, ALONE]:.3f} to {found.loc[best, SESSION]:.3f}."
    )


def accuracy_in_words(whole: pd.DataFrame) -> str:
    """Kinds that are least accurate as a session."""
    worst = paired(whole, "accuracy")[SESSION].sort_values().head(3)
    named = ", ".join(f"*{kind}* ({value:.3f})" for kind, value in worst.items())
    return f"Least accurate as a session are {named}."


def choice_of_labels(whole: pd.DataFrame) -> list[str]:
    """Labels of the mixture and of the network, where the kept answers contain them."""
    sessions = whole[whole["method"] == SESSION]
    if "mixture" not in sessions or sessions["mixture"].isna().any():
        return []
    rows = [
        (row.group, *(number(x, 3) for x in (row.accuracy, row.mixture, row.network)))
        for row in sessions.itertuples()
    ]
    at_least = {
        name: int((sessions[name].round(3) >= sessions["accuracy"].round(3)).sum())
        for name in ("mixture", "network")
    }
    return [
        "The next table shows the accuracy of the labels of the combination, of the constrained "
        "mixture and of the network, as a session.",
        "",
        *markdown_table(["sessions", "combination", "mixture", "network"], rows),
        f"The mixture is at least as accurate as the combination in {at_least['mixture']} of "
        f"{len(rows)} rows, the network in {at_least['network']}.",
        "",
    ]


def intervals_in_words(whole: pd.DataFrame) -> str:
    """How often intervals of images contain the truth, at least."""
    found = paired(whole, "of_images")
    worst = {method: found[method].min() for method in (ALONE, SESSION)}
    r2 = paired(whole, "r2")
    rises = int((r2[SESSION].round(2) >= r2[ALONE].round(2)).sum())
    return (
        f"R² of the session is at least that of the images alone in {rises} of {len(r2)} kinds. "
        f"Intervals contain the truth in at least {worst[ALONE]:.2f} alone and "
        f"{worst[SESSION]:.2f} as a session."
    )


def confidence_in_words(whole: pd.DataFrame) -> str:
    """Where the confidence is least right."""
    error, wrong = (paired(whole, name)[SESSION] for name in ("calibration", "wrong"))
    return (
        f"As a session, the calibration error is {error.max():.3f} at most (*{error.idxmax()}*), "
        f"and {per_cent(wrong.max())} of the sure labels are wrong at most (*{wrong.idxmax()}*)."
    )


# ---- the page of tables
def long_tables(scores: pd.DataFrame, other_sizes: pd.DataFrame, made: str) -> list[str]:
    """Return the section of the long tables."""
    return [
        "## Sessions",
        "",
        made,
        "",
        "Kinds of sessions and their images are described in [Accuracy](accuracy.md#sessions). "
        "Each table compares version 0.1 with each image alone, this version with each image "
        "alone, and as a session.",
        "",
        "**Forms.** *whole*: complete fields; *one size only*: the images of each size as a "
        "separate session; *known sample*: the composition of one image is known, and that image "
        f"is not scored; *crops*: {CROP_PX} pixels around {CROPS_PER_IMAGE} clusters of each "
        f"image; *8 bits*: clipped by {CLIPPED_PERCENT} % at both ends; *lone atoms*: "
        f"{LONE_ATOMS_PER_NM2} per nm² between the clusters.",
        "",
        *accuracy_table(scores),
        *score_table(scores, "r2", "R² of the counted fractions over samples and classes."),
        *score_table(scores, "calibration", "Mean difference between confidence and accuracy."),
        *score_table(
            scores,
            "wrong",
            f"Fraction of wrong labels among those with a confidence above {CONFIDENT}.",
        ),
        *score_table(scores, "labelled", "Fraction of clusters whose label is a class."),
        *score_table(
            scores,
            "of_images",
            "Fraction of 95 % intervals that contain the true fraction of an image and a class.",
        ),
        *score_table(
            scores,
            "of_sessions",
            "Fraction of 95 % intervals that contain the true fraction of a session and a class. "
            "A and B are one session each, so they have five intervals.",
        ),
        *other_sizes_table(other_sizes),
    ]


def all_forms(scores: pd.DataFrame, name: str) -> pd.DataFrame:
    """A row of each kind and form, in order, with the score of each method."""
    keys = ["group", "form"]
    order = list(dict.fromkeys(zip(*(scores[key] for key in keys), strict=True)))
    return scores.pivot_table(name, keys, "method", "first", dropna=False).loc[order]


def accuracy_table(scores: pd.DataFrame) -> list[str]:
    """Accuracy, with the numbers of images and clusters."""
    numbers = scores[scores["method"] == SESSION].set_index(["group", "form"])
    decimals = SCORES["accuracy"][1]
    rows = [
        (
            *key,
            numbers.loc[key, "images"],
            numbers.loc[key, "clusters"],
            *(number(row[method], decimals) for method in METHODS),
        )
        for key, row in all_forms(scores, "accuracy").iterrows()
    ]
    columns = ["sessions", "form", "images", "clusters", *METHODS.values()]
    return [
        "### Accuracy of sessions",
        "",
        "Fraction of the clusters whose most probable class is right, without those that are cut "
        "by the border and aggregates; *images* counts those with clusters to score.",
        "",
        *markdown_table(columns, rows),
        worst_in_words(scores, "accuracy"),
        "",
    ]


def score_table(scores: pd.DataFrame, name: str, text: str) -> list[str]:
    """One score of all kinds and forms."""
    title, decimals = SCORES[name]
    rows = [
        (*key, *(number(row[method], decimals) for method in METHODS))
        for key, row in all_forms(scores, name).iterrows()
    ]
    columns = ["sessions", "form", *METHODS.values()]
    return [
        f"### {title[0].upper()}{title[1:]}",
        "",
        text,
        "",
        *markdown_table(columns, rows),
        worst_in_words(scores, name),
        "",
    ]


def worst_in_words(scores: pd.DataFrame, name: str) -> str:
    """The worst value of a score as a session."""
    found = all_forms(scores, name)[SESSION]
    is_error = name in ERRORS
    group, form = found.idxmax() if is_error else found.idxmin()
    word = "highest" if is_error else "lowest"
    value = number(found[group, form], SCORES[name][1])
    return f"As a session, the {word} value is {value} (*{group}*, {form})."


def other_sizes_table(rows: pd.DataFrame) -> list[str]:
    """Labels and counts of clusters of sizes that are not classes."""
    names: Mapping[str, tuple[str, int]] = {
        "neighbour": ("neighbouring class", 2),
        "unknown": ("unknown", 2),
        "confident": ("confident class", 2),
        "count": ("mean count", 1),
        "held": ("interval contains the truth", 2),
    }
    cells = [
        (
            row["size"],
            METHODS[row["method"]],
            row["clusters"],
            *(number(row[name], decimals) for name, (_, decimals) in names.items()),
        )
        for _, row in rows.iterrows()
    ]
    columns = ["size", "labelled", "clusters", *(title for title, _ in names.values())]
    return [
        "### Sizes that are not classes",
        "",
        "Sessions without clusters of the classes: the fractions of clusters with the label of a "
        "neighbouring class, with the label unknown, and with a class and a confidence above "
        f"{CONFIDENT}; the mean continuous count, and how often its 95 % interval contains the "
        "truth.",
        "",
        *markdown_table(columns, cells),
        f"Up to {per_cent(rows['confident'].max())} of such clusters have the confident label of a "
        f"class, and at most {per_cent(rows['unknown'].max())} are unknown: use the count, and the "
        "[test of the sizes](how-it-works-scale.md#sizes-that-are-not-classes).",
        "",
    ]
