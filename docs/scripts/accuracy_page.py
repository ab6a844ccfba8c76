"""Text and tables that ``make_accuracy.py`` writes into ``accuracy.md``, from its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_atomicity.core.model_card import ModelCard
from page_sections import formatted_table, markdown_table, per_cent, span

PAGE = Path(__file__).resolve().parents[1] / "explanation" / "accuracy.md"
SECTION = "models"
CONDITIONS = {"mixed": "A", "shifted": "B"}
"""Folder → condition of its images."""
TITLES = {
    "mixed": "Condition A: six mixtures",
    "shifted": "Condition B: four mixtures with blur, less dose and thicker carbon",
}
MIXTURE, RAW, DUAL = "constrained mixture", "network, raw only", "network, dual"
COMBINATION = "combination (dual)"
NO_MODEL = "–"
"""Model of the thresholds."""
AIM = 0.95
"""Aim of prediction sets and intervals."""
ACCURACY = "{accuracy:.3f} ({low:.3f} to {high:.3f})"

Figures = Mapping[str, Any]
Row = Mapping[str, Any]


def page(figures: Figures, cards: Mapping[str, ModelCard]) -> list[str]:
    """Return the lines of the page."""
    lines = introduction(figures)
    for folder in CONDITIONS:
        lines += condition_section(figures, folder)
    return [
        *lines,
        *choice_section(figures),
        *confidence_section(figures),
        *set_section(figures),
        *interval_section(figures),
        *time_section(figures),
        *simulated_section(cards),
    ]


def rows_of(figures: Figures, **entries: str) -> list[Row]:
    """Rows of the estimators with these entries."""
    rows = figures["estimators"]
    return [row for row in rows if all(row[k] == v for k, v in entries.items())]


def introduction(figures: Figures) -> list[str]:
    """The result, and what the figures are of."""
    of_shipped = rows_of(figures, estimator=COMBINATION, model="shipped")
    (a, b), ratios = (
        [ACCURACY.format(**row) for row in of_shipped],
        " and ".join(f"{row['r2']:.2f}" for row in of_shipped),
    )
    errors = " and ".join(
        f"{row['calibration_error']:.3f}"
        for row in figures["confidence"]
        if row["model"] == "shipped"
    )
    models = ", ".join(f"`{name}`" for name in figures["models"])
    return [
        f"On simulated mixtures, the labels of the shipped model are right for {a} of the clusters "
        f"under condition A, and for {b} under condition B, with more blur, less dose and thicker "
        f"carbon. R² of the class ratios is {ratios}, the calibration error {errors}. Brackets are "
        "95 % intervals.",
        "",
        "The images of a folder are labelled as one session, with intensity scales that are found "
        "together. The scale provides most of the accuracy, and is not part of the published "
        "method. With each image alone, the figures can be lower: see [Sessions](#sessions). All "
        "images are simulated; [Limits](how-it-works.md#limits) describes what is not known of "
        "others. [Another page](accuracy_tables.md) contains the long tables.",
        "",
        "**Images.** They come from an independent simulation of size-selected Pt clusters, made "
        "by other code than that of this package. They were not used to train or calibrate the "
        "shipped models. The *trained* models come from `atomicity train` and the 40 size-selected "
        "images of the folder `train/`, starting from the shipped model. Settings were chosen on "
        "our own simulation and by cross-validation within `train/`. However, the figures were "
        "examined several times during development, errors that they showed were corrected, and "
        "the learning rate and the number of steps of the adaptation were chosen with them known. "
        "They are therefore not a test on unseen data.",
        "",
        "**Estimators.** All use the same detections. *diameter* and *intensity* are thresholds "
        "fitted on the training clusters of the shipped model; the intensity is in counts nm² as "
        "recorded. The [*constrained mixture*](how-it-works-scale.md#constrained-mixture) and the "
        "networks use the scale of the session. The *combination* of both is the estimator of "
        "`label`. *Adapted to B* means after `atomicity adapt` on the 16 images of B, without "
        "labels, if it was accepted. Accuracy is that of the most probable class. Intervals are "
        "Wilson's and include counting only.",
        "",
        "Made by `make accuracy` (`docs/scripts/make_accuracy.py`). Version "
        f"{figures['version']}; models "
        f"{models}.",
        "",
    ]


def condition_section(figures: Figures, folder: str) -> list[str]:
    """Estimators side by side in a folder."""
    rows = rows_of(figures, condition=CONDITIONS[folder])
    found = figures["folders"][folder]
    clusters, detected, matched = (found[key] for key in ("clusters", "detected", "matched"))
    return [
        f"## {TITLES[folder]}",
        "",
        f"Detection: {matched} of {clusters} clusters found, recall {matched / clusters:.3f}; "
        f"{detected - matched} false, precision {matched / max(1, detected):.3f} (without clusters "
        "cut by the border, with touching ones).",
        "",
        "The table shows how many of these clusters each estimator labels correctly, its mean "
        "error in atoms, and how well it gives the class ratios: R² and mean absolute error (MAE) "
        "over samples and classes.",
        "",
        *formatted_table(
            rows,
            {
                "estimator": "{estimator}",
                "model": "{model}",
                "accuracy (95 %)": ACCURACY,
                "error in atoms": "{error_in_atoms:.1f}",
                "ratio R²": "{r2:.2f}",
                "ratio MAE": "{mae:.3f}",
            },
        ),
        f"{estimators_in_words(rows)} [Recall of each class](accuracy_tables.md"
        "#recall-of-each-class).",
        "",
        f"Truth: `{folder}/truth.csv`, SHA-256 `{found['sha256'][:16]}`.",
        "",
    ]


def estimators_in_words(rows: Sequence[Row]) -> str:
    """What follows from the table of a condition."""
    thresholds = [row["accuracy"] for row in rows if row["model"] == NO_MODEL]
    others = [row for row in rows if row["model"] != NO_MODEL]
    text = (
        f"Thresholds reach {max(thresholds):.3f} at most, estimators with the scale of the session "
        f"{span((row['accuracy'] for row in others), 3)}."
    )
    if max(row["low"] for row in others) <= min(row["high"] for row in others):
        return f"{text} The intervals of the latter overlap, so the table does not rank them."
    best, worst = (
        "{estimator} ({model})".format(**choose(others, key=lambda row: row["accuracy"]))
        for choose in (max, min)
    )
    return (
        f"{text} Of the latter, {best} is best and {worst} worst; their intervals do not overlap."
    )


def choice_section(figures: Figures) -> list[str]:
    """Labels of the combination, of the mixture and of the network."""
    cases = []
    for combination in rows_of(figures, estimator=COMBINATION):
        about = {key: combination[key] for key in ("condition", "model")}
        mixtures = rows_of(figures, estimator=MIXTURE, **about)
        networks = rows_of(figures, estimator=DUAL, **about)
        cases += zip([combination], mixtures, networks, strict=False)
    return [
        "## Labels with and without the network",
        "",
        "`--labels combination|mixture|network` chooses where labels come from. The table shows "
        "the accuracy of each choice. The constrained mixture uses no network, only intensity and "
        "diameter.",
        "",
        *markdown_table(
            ["condition", "model", "combination", "mixture", "network (dual)"],
            [
                (case[0]["condition"], case[0]["model"], *(ACCURACY.format(**row) for row in case))
                for case in cases
            ],
        ),
        choice_in_words(cases),
        "",
        advice(cases),
        "",
    ]


def choice_in_words(cases: Sequence[tuple[Row, Row, Row]]) -> str:
    """In how many rows the mixture is as right as the combination."""
    n = len(cases)
    at_least = sum(m["accuracy"] >= c["accuracy"] for c, m, _ in cases)
    within = sum(m["accuracy"] >= c["low"] for c, m, _ in cases)
    lost = max(c["accuracy"] - m["accuracy"] for c, m, _ in cases)
    rest = "" if at_least == n else f", and lower by {lost:.3f} at most in the others"
    verdict = "as right as the label in most rows" if within > n / 2 else "less often right"
    return (
        f"The constrained mixture without a network is {verdict}. Its accuracy is at least that of "
        f"the combination in {at_least} of {n} rows{rest}; it is not below the interval of the "
        f"combination in {within} of {n}."
    )


def advice(cases: Sequence[tuple[Row, Row, Row]]) -> str:
    """Which labels to choose."""
    text = (
        "Keep `combination` where the conditions are those of the model: it is the only choice "
        "whose probabilities are calibrated, and "
        "[42 simulated sessions](how-it-works-classification.md#labels-from) compare the three."
    )
    others = [(c, m) for c, m, _ in cases if c["condition"] == "B"]
    if others and all(m["accuracy"] >= c["accuracy"] for c, m in others):
        overlap = all(m["low"] <= c["high"] for c, m in others)
        text += (
            " Consider `mixture` under other conditions: under condition B it reaches "
            f"{span((m['accuracy'] for _, m in others), 3)} instead of "
            f"{span((c['accuracy'] for c, _ in others), 3)}; the intervals "
            f"{'overlap' if overlap else 'do not all overlap'}."
        )
    return (
        f"{text} Use `network` for comparison. All three depend on the same scale, so none of them "
        "corrects a wrong one."
    )


def confidence_section(figures: Figures) -> list[str]:
    """Calibration of the combination."""
    rows = figures["confidence"]
    best = min(rows, key=lambda row: row["calibration_error"])
    worst = max(rows, key=lambda row: row["calibration_error"])
    return [
        "## Confidence",
        "",
        "The table shows how well the confidence of the combination (dual) agrees with its "
        "accuracy. The calibration error is their mean difference in bins of the confidence. "
        "*Accuracy as labelled* counts `unknown` and `aggregate` as errors.",
        "",
        *formatted_table(
            rows,
            {
                "model": "{model}",
                "condition": "{condition}",
                "calibration error": "{calibration_error:.3f}",
                "unknown or aggregate": "{no_class:.1%}",
                "accuracy as labelled": "{accuracy_as_labelled:.3f}",
            },
        ),
        f"The calibration error is between {best['calibration_error']:.3f} and "
        f"{worst['calibration_error']:.3f}; the {worst['model']} model under condition "
        f"{worst['condition']} has the largest one.",
        "",
        "![Accuracy against confidence](../images/reliability.png)",
        "",
    ]


def set_section(figures: Figures) -> list[str]:
    """Prediction sets and continuous counts of the combination."""
    rows = figures["confidence"]
    reached, held = (
        sum(round(row[key], 3) >= AIM for row in rows) for key in ("sets", "count_held")
    )
    return [
        "## Sets and counts",
        "",
        f"The table shows how often prediction sets contain the true class (aim {AIM}), the mean "
        "relative error of the continuous count of atoms, and how often its 95 % interval contains "
        "the true number.",
        "",
        *formatted_table(
            rows,
            {
                "model": "{model}",
                "condition": "{condition}",
                "sets contain the truth": "{sets:.3f}",
                "error of the count": "{count_error:.1%}",
                "its interval contains the truth": "{count_held:.3f}",
            },
        ),
        f"Sets reach their aim in {reached} of {len(rows)} rows; intervals of the count contain "
        f"the truth in {AIM} of the cases or more in {held} of {len(rows)}.",
        "",
    ]


def interval_section(figures: Figures) -> list[str]:
    """Intervals of the class ratios."""
    rows = figures["ratios"]
    held, n = (sum(row[key] for row in rows) for key in ("held", "intervals"))
    return [
        "## Intervals of the ratios",
        "",
        "The table shows how many 95 % intervals of the class ratios (pairs of class and sample) "
        "contain the true fraction of all clusters that are not cut by the border, and their mean "
        "width. Ratios are those of the combination (dual), by three "
        "[methods](how-it-works-ratios.md#correction-for-wrong-labels).",
        "",
        *formatted_table(
            rows,
            {
                "model": "{model}",
                "condition": "{condition}",
                "method": "{method}",
                "intervals": "{intervals}",
                "contain the truth": "{held}",
                "mean width": "{width:.3f}",
            },
        ),
        f"{held} of {n} intervals contain the truth ({per_cent(held / n)}); the mean widths are "
        f"{span((row['width'] for row in rows), 3)}. [R² and mean error of each method]"
        "(accuracy_tables.md#ratios-by-method).",
        "",
    ]


def time_section(figures: Figures) -> list[str]:
    """What the adaptations to condition B did, and times."""
    timed, seconds = figures["timed_adaptation"], figures["training_seconds"]
    ended = "took" if timed["accepted"] else "left the model unchanged after"
    accepted = sum(row["accepted"] for row in figures["adaptations"])
    return [
        "## Adaptation and training on these images",
        "",
        f"Each of the {len(figures['adaptations'])} models was adapted to the images of condition "
        f"B; {accepted} adaptations were accepted ([reasons](accuracy_tables.md"
        "#adaptation-to-condition-b)). [Adaptation to other conditions]"
        "(#adaptation-to-other-conditions) shows other sessions.",
        "",
        f"On {figures['cores']} CPU cores, without a GPU, an adaptation of the shipped dual model "
        f"to {timed['images']} images with {timed['clusters']} clusters {ended} "
        f"{timed['seconds']:.1f} s. Training on `train/` took {seconds['dual'] / 60:.1f} min "
        f"(dual) and {seconds['raw'] / 60:.1f} min (raw only).",
        "",
    ]


def simulated_section(cards: Mapping[str, ModelCard]) -> list[str]:
    """What the cards contain on held-out fields of the package's own simulation."""
    rows = [{"model": name} | card.scores["test"] for name, card in cards.items()]
    far = max(row["off_by_more_than_one"] for row in rows)
    return [
        "## Held-out fields of our own simulation",
        "",
        "Isomers and images differ from those of the training. The conditions vary far more than "
        "those of one microscope. The figures come from the cards of the shipped models. The first "
        "table shows the accuracy.",
        "",
        *formatted_table(
            rows,
            {
                "model": "{model}",
                "clusters": "{clusters}",
                "accuracy": "{accuracy:.3f}",
                "network alone": "{accuracy_of_network:.3f}",
                "off by more than one class": "{off_by_more_than_one:.3f}",
            },
        ),
        f"The accuracy is {span((row['accuracy'] for row in rows), 3)}; at most {far:.3f} of the "
        "labels are off by more than one class.",
        "",
        "The second table shows the confidence.",
        "",
        *formatted_table(
            rows,
            {
                "model": "{model}",
                "calibration error": "{expected_calibration_error:.3f}",
                "sets contain the truth": "{prediction_set_coverage:.3f}",
                "unknown or aggregate": "{unknown:.3f}",
            },
        ),
        f"Sets contain the truth for {span((r['prediction_set_coverage'] for r in rows), 3)} of "
        f"the clusters (aim {AIM}). The other page describes [objects that are not classes]"
        "(accuracy_tables.md#objects-that-are-not-classes) and [counts of such sizes]"
        "(accuracy_tables.md#counts-of-sizes-that-are-not-classes).",
        "",
    ]
