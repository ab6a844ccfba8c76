"""Claims on clusters, from ``validation.json``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from scipy.stats import t as student_t

from paper_claims import (
    AGREES,
    DIFFERS,
    MAX_WIDTH,
    OPEN,
    PARTLY,
    UNTESTED,
    Claim,
    Finding,
    Interval,
    MissingFigureError,
    Results,
    all_needed,
    all_of,
    is_above,
    is_positive,
    reaches,
)

PUBLISHED_R2 = 0.94
CHANCE = 0.5
"""Share of the answers above which a network calls mainly one class."""
SECONDS = 60.0
"""Longest adaptation to an image that takes seconds."""
TOLERANCE = 0.05
"""Error of a fraction up to which it is right, also outside of its interval."""


def class_ratios(method: str, group: str = "mixtures") -> Callable[[Results], Finding]:
    """Test whether the ratios of a method are as right as the published ones."""

    def _test(of: Results) -> Finding:
        r2 = of.score(method, group, "ratio_r2")
        mae = of.score(method, group, "ratio_mean_absolute_error")
        rule = (
            f"agrees if the interval of R² contains or exceeds {PUBLISHED_R2:g} and is not wider "
            f"than {MAX_WIDTH:g}"
        )
        figure = f"R² {r2.text()}; mean absolute error {mae.text(3)}"
        return Finding(figure, reaches(r2, PUBLISHED_R2), rule)

    return _test


def diameters_overlap(of: Results) -> Finding:
    ranges = of.get("groups", "mixtures", "diameter_nm")
    known = [(c, ranges[c]) for c in of.classes if c in ranges]
    if len(known) < 2:
        raise MissingFigureError("diameters of two classes", "validation.json")
    verdicts = [AGREES if a["high"] > b["low"] else DIFFERS for (_, a), (_, b) in pairwise(known)]
    texts = [f"{c} {r['median']:.2f} ({r['low']:.2f} to {r['high']:.2f})" for c, r in known]
    n = verdicts.count(AGREES)
    return Finding(
        f"nm, median and 5 to 95 % range: {'<br>'.join(texts)}",
        all_of(verdicts),
        f"the ranges of {n} of {len(verdicts)} neighbouring pairs overlap",
    )


def better(
    pairs: Sequence[tuple[str, str]],
    group: str,
    scores: Sequence[str] = ("accuracy", "ratio_r2"),
    rule: Callable[[Sequence[str]], str] = all_of,
) -> Callable[[Results], Finding]:
    """Test whether methods are better than others."""
    names = {"accuracy": "accuracy", "ratio_r2": "R²"}

    def _test(of: Results) -> Finding:
        texts, verdicts = [], []
        for method, reference in pairs:
            own = []
            for score in scores:
                found = of.difference(method, reference, group, score)
                both = [of.get("methods", m, "groups", group, score, "mean") for m in
                        (method, reference)]  # fmt: skip
                own.append(
                    f"{names[score]} {both[0]:.2f} against {both[1]:.2f}, difference "
                    f"{found.text(sign='+')}"
                )
                verdicts.append(is_positive(found))
            texts.append(f"`{method}` − `{reference}`: {'; '.join(own)}")
        n = verdicts.count(AGREES)
        why = f"{n} of {len(verdicts)} differences are positive with their whole interval"
        if DIFFERS in verdicts:
            why += f", {verdicts.count(DIFFERS)} negative"
        return Finding("<br>".join(texts), rule(verdicts), why)

    return _test


def far_above(method: str, reference: str, group: str) -> Callable[[Results], Finding]:
    """Test whether a method is better than one that was fitted in other runs."""

    def _test(of: Results) -> Finding:
        own, other = (of.score(m, group, "accuracy") for m in (method, reference))
        figure = f"accuracy {own.text()} against {other.text()}"
        return Finding(figure, is_above(own, other), "agrees if the intervals do not overlap")

    return _test


def maps_taken_literally(of: Results) -> Finding:
    label = of.classes[0]
    found = of.balances("dual-patch", label)
    if not found:
        return Finding("–", UNTESTED, f"the network called no cluster {label}")
    raw, lcn = found
    verdicts = [is_positive(raw), is_positive(Interval(-lcn.mean, -lcn.high, -lcn.low))]
    return Finding(
        f"centre against outline, {label}: raw {raw.text(sign='+')}, LCN {lcn.text(sign='+')}",
        all_of(verdicts),
        "agrees if raw is positive (centre) and LCN negative (outline)",
    )


def maps_as_a_tendency(of: Results) -> Finding:
    small, large = of.classes[0], of.classes[-1]
    found = {label: of.balances("dual-patch", label) for label in (small, large)}
    missing = [label for label, of_label in found.items() if not of_label]
    if missing:
        return Finding("–", UNTESTED, f"the network called no cluster {missing[0]}")
    verdicts = [is_above(*found[small]), is_above(*reversed(found[large]))]
    texts = [
        f"{label}: raw {raw.text(sign='+')}, LCN {lcn.text(sign='+')}"
        for label, (raw, lcn) in found.items()
    ]
    return Finding(
        "<br>".join(texts),
        all_needed(verdicts),
        f"agrees if raw is more central than LCN for {small} and less for {large}, each with "
        "intervals that do not overlap",
    )


def accuracy_falls(of: Results) -> Finding:
    before, after = (of.score("dual-patch", g, "accuracy") for g in ("mixtures", "shifted"))
    return Finding(
        f"accuracy {before.text()} before and {after.text()} after the change of conditions",
        is_above(before, after),
        "agrees if the intervals do not overlap",
    )


def collapses(of: Results) -> Finding:
    rows = of.runs("dual-patch", "shifted")
    shares = [row["most_called_share"] for row in rows]
    if len(shares) < 2:
        raise MissingFigureError("second run of dual-patch", "validation.json")
    half = student_t.ppf(0.975, len(shares) - 1) * np.std(shares, ddof=1) / len(shares) ** 0.5
    mean = float(np.mean(shares))
    share = Interval(mean, mean - half, mean + half)
    called = {c: sum(row["most_called"] == c for row in rows) for c in of.classes}
    names = [f"{c} in {n}" for c, n in called.items() if n]
    largest = max(of.get("groups", "shifted", "true").values())
    verdict = is_positive(Interval(mean - CHANCE, share.low - CHANCE, share.high - CHANCE))
    earlier = of.get("methods", "dual-patch", "groups", "mixtures", "most_called_share", "mean")
    if earlier > CHANCE:
        verdict = OPEN
    return Finding(
        f"most called: {', '.join(names)} of {len(rows)} runs; its share of the answers "
        f"{share.text()}, {earlier:.2f} before the change; largest true share {largest:.2f}",
        verdict,
        "agrees if one class has more than half of the answers, with the whole interval (Student's "
        "t over the runs), and not before",
    )


def heals_completely(of: Results) -> Finding:
    before = of.score("dual-patch", "mixtures", "accuracy")
    after = of.score("dual-patch-adapted", "shifted", "accuracy")
    session = of.get("adaptation", "dual-patch", "session")
    verdict = AGREES if after.high >= before.low else DIFFERS
    helps = better(ADAPTED, "shifted")(of).verdict in (AGREES, PARTLY)
    return Finding(
        f"accuracy {after.text()} after adaptation, {before.text()} before the change; "
        f"{session['accepted']} of {session['runs']} adaptations accepted",
        verdict if helps and accuracy_falls(of).verdict == AGREES else UNTESTED,
        "agrees if the interval reaches that of the mixtures under the conditions of the training; "
        "only tested if the accuracy falls, and adaptation raises it",
    )


def heals_each_image(of: Results) -> Finding:
    change = of.interval("adaptation", "dual-patch", "images_change", "accuracy")
    rows = of.get("adaptation", "dual-patch", "images")
    accepted = sum(row["accepted"] for row in rows)
    return Finding(
        f"accuracy {change.text(sign='+')}; {accepted} of {len(rows)} accepted",
        is_positive(change),
        "agrees if the mean change is positive with its whole interval (Student's t over images)",
    )


def takes_seconds(of: Results) -> Finding:
    seconds = [row["seconds"] for row in of.get("adaptation", "dual-patch", "images")]
    session = of.get("adaptation", "dual-patch", "session", "seconds_max")
    machine = of.record.get("environment", {})
    return Finding(
        f"an image: {np.median(seconds):.0f} s ({min(seconds):.0f} to {max(seconds):.0f}, all "
        f"images); all images together: up to {session:.0f} s",
        AGREES if max(seconds) < SECONDS else DIFFERS,
        f"agrees if no image takes {SECONDS:.0f} s; {machine.get('cpu_count', '?')} cores "
        f"({machine.get('machine', '?')}), device `{of.record['parameters']['device']}`",
    )


def mixed_sample(method: str, group: str = "shifted") -> Callable[[Results], Finding]:
    """Test whether the fractions of the mixture of three sizes are right."""

    def _test(of: Results) -> Finding:
        ratios = of.get("methods", method, "groups", group, "ratios", "three")
        texts, verdicts = [], []
        for c in of.classes:
            true, found, low, high = (
                ratios[k][c] for k in ("true", "predicted", "predicted_low", "predicted_high")
            )
            right = low <= true <= high or abs(found - true) <= TOLERANCE
            verdicts.append(AGREES if right else DIFFERS)
            texts.append(f"{c} {Interval(found, low, high).text()}, true {true:.2f}")
        return Finding(
            "<br>".join(texts),
            all_of(verdicts),
            f"{verdicts.count(AGREES)} of {len(verdicts)} fractions are right: the interval "
            f"contains the true one, or the error is at most {TOLERANCE:g}",
        )

    return _test


def islands(of: Results) -> Finding:
    change = of.interval("adaptation", "dual-patch", "separation", "change")
    before, after = (
        of.get("adaptation", "dual-patch", "separation", side, "mean")
        for side in ("before", "after")
    )
    return Finding(
        f"silhouette {before:.2f} → {after:.2f}, change {change.text(sign='+')}",
        is_positive(change),
        "agrees if the change is positive with its whole interval (Student's t over the runs)",
    )


VALIDATE = "`validate`"
RAW_DIAMETER, DUAL_DIAMETER = [("raw-patch", "diameter")], [("dual-patch", "diameter")]
ONE_CHANNEL = [("dual-patch", "raw-patch"), ("dual-patch", "lcn-patch")]
ADAPTED = [("dual-patch-adapted", "dual-patch")]
SHIPPED = "dual-shipped-combination"
POSSIBLE_CLAIMS = (
    Claim("Ratios of the classes agree with the deposited ones: R² = 0.94 ± 0.03", "[1]",
          f"{VALIDATE}, `{SHIPPED}`, mixtures", class_ratios(SHIPPED)),
    Claim("… in another session too", "[1]", f"{VALIDATE}, `{SHIPPED}`, shifted",
          class_ratios(SHIPPED, "shifted")),
    Claim("The network is far better than the diameter", "[1]",
          f"{VALIDATE}, mixtures", far_above(SHIPPED, "diameter", "mixtures")),
    Claim("The mixture of Pt19, Pt41 and Pt70 comes out right", "[1]",
          f"{VALIDATE}, `{SHIPPED}`, mixtures", mixed_sample(SHIPPED, "mixtures")),
    Claim("… in another session", "[1]", f"{VALIDATE}, `{SHIPPED}`, shifted",
          mixed_sample(SHIPPED)),
)  # fmt: skip
"""What one can do, with the shipped model; it uses the scale of the session."""
CLUSTER_CLAIMS = (
    Claim("Ratios of the classes agree with the deposited ones: R² = 0.94 ± 0.03 (raw and LCN)",
          "[1]", f"{VALIDATE}, `dual-patch`, mixtures", class_ratios("dual-patch")),
    Claim("The diameters of the classes overlap", "[1]", f"{VALIDATE}, mixtures",
          diameters_overlap),
    Claim("A network (raw) is far better than the diameter", "[1]", f"{VALIDATE}, mixtures",
          better(RAW_DIAMETER, "mixtures")),
    Claim("A network (raw and LCN) is far better than the diameter", "[1]",
          f"{VALIDATE}, mixtures", better(DUAL_DIAMETER, "mixtures")),
    Claim("Two channels are better than one", "[1]", f"{VALIDATE}, mixtures",
          better(ONE_CHANNEL, "mixtures", rule=all_needed)),
    Claim("For small clusters, raw looks at the centre and LCN at the outline", "[1]",
          f"{VALIDATE}, class maps of `dual-patch`", maps_taken_literally),
    Claim("The balance of the channels is reversed for the largest clusters", "[1]",
          f"{VALIDATE}, class maps of `dual-patch`", maps_as_a_tendency),
    Claim("In another session the network is less accurate", "[1]",
          f"{VALIDATE}, `dual-patch`, shifted", accuracy_falls),
    Claim("There, the network favours a wrong class", "[1]",
          f"{VALIDATE}, `dual-patch`, shifted", collapses),
    Claim("Fine-tuning with pseudo-labels by diameter corrects it", "[1]",
          f"{VALIDATE}, shifted", better(ADAPTED, "shifted")),
    Claim("… completely", "[1]", f"{VALIDATE}, `dual-patch-adapted`, shifted", heals_completely),
    Claim("… for each image alone", "[1]", f"{VALIDATE}, shifted, image by image",
          heals_each_image),
    Claim("… in seconds", "[1]", f"{VALIDATE}, shifted, image by image", takes_seconds),
    Claim("Then the mixture of Pt19, Pt41 and Pt70 comes out right", "[1]",
          f"{VALIDATE}, `dual-patch-adapted`, shifted", mixed_sample("dual-patch-adapted")),
    Claim("The islands of the classes in the UMAP become cleaner", "[1]",
          f"{VALIDATE}, `dual-patch`, shifted", islands),
)  # fmt: skip
OWN_QUESTIONS = (
    Claim("A scale of the session instead of one of each patch, same conditions", "",
          f"{VALIDATE}, mixtures", better([("dual-session", "dual-patch")], "mixtures")),
    Claim("The same under new conditions", "", f"{VALIDATE}, shifted",
          better([("dual-session", "dual-patch")], "shifted")),
    Claim("The same with one channel (raw), new conditions", "", f"{VALIDATE}, shifted",
          better([("raw-session", "raw-patch")], "shifted")),
    Claim("Network and constrained mixture combined, instead of the mixture alone", "",
          f"{VALIDATE}, mixtures",
          better([("dual-session-combination", "mixture")], "mixtures")),
    Claim("The same under new conditions", "", f"{VALIDATE}, shifted",
          better([("dual-session-combination", "mixture")], "shifted")),
    Claim("Adaptation of the combination to new conditions", "", f"{VALIDATE}, shifted",
          better([("dual-session-combination-adapted", "dual-session-combination")], "shifted")),
)  # fmt: skip
