"""Tables that ``make_accuracy.py`` writes into ``accuracy_tables.md``, from its figures."""

from __future__ import annotations

from collections.abc import Mapping

from accuracy_page import AIM, CONDITIONS, NO_MODEL, PAGE, Figures, Row, rows_of
from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.statistics.scores import atoms_of
from page_sections import formatted_table, markdown_table, number, per_cent, span

TABLES = PAGE.with_name("accuracy_tables.md")
OUTSIDE = {"atoms": "single atoms and loose groups", "aggregates": "aggregates of two"}


def long_tables(figures: Figures, cards: Mapping[str, ModelCard]) -> list[str]:
    """Return the lines of the page of tables."""
    return [
        *recall_section(figures),
        *ratio_section(figures),
        *adaptation_section(figures),
        *outside_section(cards),
        *count_section(cards),
    ]


def recall_section(figures: Figures) -> list[str]:
    """Recall of each class."""
    columns = {"estimator": "{estimator}", "model": "{model}"}
    columns |= {c: f"{{recall[{i}]:.2f}}" for i, c in enumerate(figures["classes"])}
    lines = [
        "## Recall of each class",
        "",
        "The fraction of the clusters of each class that an estimator labels correctly. Images and "
        "estimators are those of the first tables of [Accuracy](accuracy.md).",
        "",
    ]
    for condition in CONDITIONS.values():
        rows = rows_of(figures, condition=condition)
        worst = min((row for row in rows if row["model"] != NO_MODEL), key=lowest_recall)
        label = figures["classes"][worst["recall"].index(lowest_recall(worst))]
        lines += [
            f"Condition {condition}:",
            "",
            *formatted_table(rows, columns),
            f"The lowest recall with the scale of the session is {lowest_recall(worst):.2f}, of "
            f"{label} by *{worst['estimator']}* ({worst['model']}).",
            "",
        ]
    return lines


def lowest_recall(row: Row) -> float:
    lowest: float = min(row["recall"])
    return lowest


def ratio_section(figures: Figures) -> list[str]:
    """R² and error of the ratios by method."""
    rows = figures["ratios"]
    return [
        "## Ratios by method",
        "",
        "How well each method gives the class ratios, for the combination (dual), compared with "
        "the true fractions of all clusters that are not cut by the border.",
        "",
        *formatted_table(
            rows,
            {
                "model": "{model}",
                "condition": "{condition}",
                "method": "{method}",
                "ratio R²": "{r2:.2f}",
                "ratio MAE": "{mae:.3f}",
            },
        ),
        f"Over all rows, R² is {span((row['r2'] for row in rows), 2)}, the mean "
        f"absolute error {span((row['mae'] for row in rows), 3)}.",
        "",
    ]


def adaptation_section(figures: Figures) -> list[str]:
    """The adaptations to all images of condition B."""
    classes, rows = figures["classes"], figures["adaptations"]
    names = [f"{row['model']}, {row['channels']}" for row in rows]
    columns = ["model", "shift found", "accepted"]
    columns += [
        f"{what}, {when}" for what in ("left out", "stored") for when in ("before", "after")
    ]
    checks, labels, reasons = [], [], []
    for name, row in zip(names, rows, strict=True):
        shift = "no" if row["p_value"] is None else f"p = {row['p_value']:.3f}"
        shares = [number(x, 3) for x in (*row["left_out"], *row["stored"])]
        checks.append([name, shift, "yes" if row["accepted"] else "no", *shares])
        labels.append([name, *(row["labels"].get(c, 0) for c in classes)])
        if not row["accepted"]:
            reasons.append(f"- {name}: {'; '.join(row['reasons'])}.")
    return [
        "## Adaptation to condition B",
        "",
        "Each model was adapted to the 16 images of condition B. The first table shows whether a "
        "shift was found. *Left out* and *stored* are the fractions of correct labels before and "
        "after, of pseudo-labels that were left out, and of stored patches of the old training.",
        "",
        *markdown_table(columns, checks),
        *(["Reasons of those that were not accepted:", "", *reasons, ""] if reasons else []),
        "The second table shows the number of pseudo-labels of each class.",
        "",
        *markdown_table(["model", *classes], labels),
    ]


def outside_section(cards: Mapping[str, ModelCard]) -> list[str]:
    """Detection of objects that are not classes, from the cards."""
    rows = []
    for key in cards["dual"].scores["outside"]:
        found = [card.scores["outside"][key] for card in cards.values()]
        auroc, flagged = (
            [number(s[k], d) for s in found] for k, d in (("auroc", 3), ("flagged", 2))
        )
        rows.append([OUTSIDE.get(key, key.replace("_", " ")), *auroc, *flagged])
    between = [
        card.scores["outside"][size]["flagged"]
        for card in cards.values()
        for size in card.scores["outside"]
        if is_between_classes(size, card)
    ]
    columns = ["object", *(f"AUROC, {n}" for n in cards), *(f"flagged, {n}" for n in cards)]
    return [
        "## Objects that are not classes",
        "",
        "Objects that are not classes are compared with clusters of the classes, in fields of our "
        "own simulation. The table shows the area under the ROC curve (AUROC) of `ood_score`, and "
        "the fraction *flagged*: labelled unknown or aggregate at its limit. *Other sizes* are "
        "mixed with clusters of the classes, at a fraction of 5 to 30 %.",
        "",
        *markdown_table(columns, rows),
        f"Of sizes between two classes, at most {per_cent(max(between))} are flagged: single "
        "clusters of such sizes are hardly distinguished from those of the classes.",
        "",
    ]


def is_between_classes(size: str, card: ModelCard) -> bool:
    """Whether an object of the card is a cluster size between the smallest and largest class."""
    sizes = [atoms_of(label) or 0 for label in card.classes]
    n = atoms_of(size)
    return n is not None and min(sizes) < n < max(sizes)


def count_section(cards: Mapping[str, ModelCard]) -> list[str]:
    """Continuous counts of sizes that are not classes, from the card."""
    rows = []
    for label, scores in cards["dual"].scores["count"].items():
        n = atoms_of(label) or 0
        errors = {
            "error": scores["mean"] / n - 1,
            "error_of_sure": scores["mean_of_sure"] / n - 1,
        }
        rows.append({"size": label} | scores | errors)
    return [
        "## Counts of sizes that are not classes",
        "",
        "The table shows the continuous count of sizes that are not classes (dual model, fields of "
        "our own simulation): its mean and median, the error of the mean, and how often its 95 % "
        "interval contains the truth. A few images with a scale that is one class off affect the "
        "mean. *Sure* are those with a certainty of the scale of 0.9.",
        "",
        *formatted_table(
            rows,
            {
                "size": "{size}",
                "clusters": "{clusters}",
                "mean": "{mean:.1f}",
                "median": "{median:.1f}",
                "error of the mean": "{error:+.1%}",
                "sure": "{sure}",
                "error of these": "{error_of_sure:+.1%}",
                "interval contains it": "{interval_coverage:.2f}",
            },
        ),
        f"The mean deviates by {per_cent(max(abs(row['error']) for row in rows))} at most. "
        f"Intervals contain the truth in {span((r['interval_coverage'] for r in rows), 2)} of the "
        f"cases; the aim of {AIM} is that for the classes.",
        "",
    ]
