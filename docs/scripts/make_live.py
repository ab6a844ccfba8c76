"""Recompute the figures on alarms in ``explanation/many_images.md``: when does a live session ring?

    python docs/scripts/make_live.py [--sessions 32] [--workers 2] [--data ../shared/data/clusters]
                             [--text-only]

Sessions are simulated: conditions drawn once, images that scatter about them, and then images under
conditions that have changed. What the shipped model makes of each image is kept in
``build/live.json``; ``--text-only`` writes the page from it. The folder of data, if it is there,
holds another program's images under two conditions, ``mixed`` and ``shifted``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq

from napari_atomicity import __version__, load
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.models.inference import Classifier, load_classifier
from napari_atomicity.pipeline.analysis import analyse
from napari_atomicity.pipeline.live.control_chart import (
    FIRST,
    IMAGES_PER_FALSE_ALARM,
    LIMIT,
    WEIGHT,
    ControlChart,
    FeatureSummary,
    images_per_false_alarm,
)
from napari_atomicity.pipeline.live.live import conditions_of
from napari_atomicity.simulation.field_settings import FieldSettings
from napari_atomicity.simulation.fields import simulate_field
from napari_atomicity.simulation.imaging import Microscope, Scan
from napari_atomicity.simulation.sessions import random_image_settings
from napari_atomicity.simulation.structures import Isomer, library_of

HERE = Path(__file__).resolve().parents[1]
KEPT = HERE.parent / "build" / "live.json"
PAGE = HERE / "explanation" / "many_images.md"
BEGIN, END = "<!-- alarms: begin -->", "<!-- alarms: end -->"
SEED = 5500
CLASSES = ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70")
SAME, AFTER, GRADUAL = 60, 8, 30
"""Images of a session as it is, after a change, and while conditions change step by step."""
BEFORE = 10
"""Judged images before a change."""
ORDERS = 10
"""Random orders of the images of a session that are watched."""
ALTERNATIVES = ((FIRST, WEIGHT), (FIRST, 0.2), (FIRST, 0.4), (6, WEIGHT), (20, WEIGHT))


# ---- the images
def session(rng: np.random.Generator) -> FieldSettings:
    """Conditions of a session, within those of the training."""
    microscope = Microscope(
        source_nm=rng.uniform(0.06, 0.10),
        dose_e_per_a2=float(np.exp(rng.uniform(np.log(4000), np.log(12000)))),
        gain=float(np.exp(rng.uniform(np.log(2), np.log(20)))),
        black_level=rng.uniform(200, 2000),
        lag=rng.uniform(0, 0.2),
    )
    return FieldSettings(
        shape_px=(768, 768),
        pixel_size_nm=0.04,
        clusters_per_nm2=0.025,
        mixture=dict(zip(CLASSES, rng.dirichlet([2.0] * len(CLASSES)).tolist(), strict=True)),
        microscope=microscope,
        scan=Scan(row_jitter_px=rng.uniform(0, 0.3)),
        carbon_nm=rng.uniform(2.5, 4),
        roughness=rng.uniform(0.05, 0.15),
        order=rng.uniform(0.3, 0.8),
    )


def changed(settings: FieldSettings, by: float) -> FieldSettings:
    """The change from `mixed` to `shifted`, as far as ``by``: defocus, blur, less than half the
    dose, thicker carbon, gain and offset; only the whole change has other pixels too."""
    of = settings.microscope
    microscope = replace(
        of,
        defocus_nm=of.defocus_nm + 13 * by,
        source_nm=of.source_nm * (1 + 0.5 * by),
        dose_e_per_a2=of.dose_e_per_a2 * (1 - 0.6 * by),
        gain=of.gain * (1 + by),
        black_level=of.black_level + 500 * by,
    )
    shape, pixel = ((640, 640), 0.048) if by == 1 else (settings.shape_px, settings.pixel_size_nm)
    return replace(
        settings,
        shape_px=shape,
        pixel_size_nm=pixel,
        carbon_nm=settings.carbon_nm * (1 + 0.5 * by),
        microscope=microscope,
    )


@cache
def tools() -> tuple[Classifier, list[Isomer]]:
    """Of a process: the model and the clusters."""
    torch.set_num_threads(1)
    return load_classifier("default", "cpu"), library_of(CLASSES, 12, seed=SEED)


def seen(micrograph: Micrograph, classifier: Classifier) -> dict[str, Any]:
    """What a live session notes of an image."""
    analysis = analyse(micrograph, classifier, umap=False)
    found = conditions_of(analysis, classifier.card, classifier.ood_tensors)
    where = None if found.where is None else found.where.to_dict()
    return {"where": where, "confidence": found.mean_confidence, "alarm": found.conditions_differ}


def simulated(number: int) -> dict[str, list[dict[str, Any]]]:
    """All images of one session."""
    rng = np.random.default_rng([SEED, number])
    as_it_is = session(rng)
    return {
        **recorded(
            {
                "same": [as_it_is] * SAME,
                "shifted": [changed(as_it_is, 1)] * AFTER,
                "half": [changed(as_it_is, 0.5)] * AFTER,
                "gradual": [changed(as_it_is, 0.999 * (i + 1) / GRADUAL) for i in range(GRADUAL)],
            },
            rng,
        ),
        **other_samples(number),
    }


def other_samples(number: int) -> dict[str, list[dict[str, Any]]]:
    """Under the conditions of that session another mixture, and one class only."""
    as_it_is = session(np.random.default_rng([SEED, number]))
    rng = np.random.default_rng([SEED, number, 1])
    shares = rng.dirichlet([2.0] * len(CLASSES)).tolist()
    other = replace(as_it_is, mixture=dict(zip(CLASSES, shares, strict=True)))
    alone = replace(as_it_is, mixture={CLASSES[number % len(CLASSES)]: 1.0})
    return recorded({"mixture": [other] * AFTER, "alone": [alone] * AFTER}, rng)


def recorded(
    plan: dict[str, list[FieldSettings]], rng: np.random.Generator
) -> dict[str, list[dict[str, Any]]]:
    """Images under these conditions, as the session sees them."""
    classifier, library = tools()

    def one(settings: FieldSettings) -> dict[str, Any]:
        field = simulate_field(
            library, random_image_settings(settings, rng), int(rng.integers(1 << 31))
        )
        return seen(field.micrograph, classifier)

    return {kind: [one(settings) for settings in images] for kind, images in plan.items()}


def measure(sessions: int, workers: int, data: Path) -> dict[str, Any]:
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        found = list(pool.map(simulated, range(sessions)))
    other = None
    if (data / "shifted").is_dir():
        classifier, _ = tools()
        other = {
            kind: [seen(load(path), classifier) for path in sorted((data / folder).glob("*.tif"))]
            for kind, folder in (("same", "mixed"), ("shifted", "shifted"))
        }
    return {"version": __version__, "sessions": found, "other": other}


# ---- the alarms
@dataclass(frozen=True)
class Watched:
    """Of each session: false alarms and judged images until then; after a change the images until
    it rings, infinite if it doesn't."""

    alarms: np.ndarray
    images: np.ndarray
    delays: dict[str, np.ndarray]

    @property
    def images_per_alarm(self) -> float:
        return float(self.images.sum() / max(self.alarms.sum(), 0.5))

    def interval(self) -> tuple[float, float]:
        """95 % of `images_per_alarm`, by resampling sessions."""
        rng = np.random.default_rng(0)
        n = len(self.images)
        draws = rng.integers(n, size=(2000, n))
        rates = self.alarms[draws].sum(axis=1) / self.images[draws].sum(axis=1)
        low, high = np.quantile(rates, [0.025, 0.975])
        return 1 / high, 1 / low if low > 0 else np.inf


def first_ring(chart: ControlChart, images: Sequence[FeatureSummary | None]) -> float:
    """Number of the image that rings; infinite if none does."""
    return next((float(i) for i, image in enumerate(images) if chart.add(image).rings), np.inf)


def wheres(images: Sequence[dict[str, Any]]) -> list[FeatureSummary | None]:
    return [None if x["where"] is None else FeatureSummary.from_dict(x["where"]) for x in images]


def watched(sessions: Sequence[dict[str, Any]], first: int, weight: float) -> Watched:
    """What a chart says of these sessions, each in several orders."""
    limit = limit_of(weight)
    rng = np.random.default_rng(1)
    alarms, images = np.zeros(len(sessions)), np.zeros(len(sessions))
    delays: dict[str, list[float]] = {}
    for number, one in enumerate(sessions):
        known = {kind: wheres(of_kind) for kind, of_kind in one.items()}
        for _ in range(ORDERS):
            same = [known["same"][i] for i in rng.permutation(len(known["same"]))]
            rang = first_ring(ControlChart(first, weight, limit), same)
            alarms[number] += np.isfinite(rang)
            images[number] += min(rang + 1, len(same)) - first
            for kind, after in known.items():
                if kind == "same":
                    continue
                order = range(len(after)) if kind == "gradual" else rng.permutation(len(after))
                before = same[: first + BEFORE]
                chart = ControlChart(first, weight, limit)
                rang = first_ring(chart, [*before, *(after[i] for i in order)]) - len(before)
                if rang >= 0:  # else it was a false alarm, counted above
                    delays.setdefault(kind, []).append(rang + 1)
    return Watched(alarms, images, {kind: np.array(d) for kind, d in delays.items()})


@cache
def limit_of(weight: float) -> float:
    """For one false alarm in `IMAGES_PER_FALSE_ALARM` images, were their scores normal."""
    if weight == WEIGHT:
        return LIMIT
    return float(
        brentq(lambda limit: images_per_false_alarm(weight, limit) - IMAGES_PER_FALSE_ALARM, 2, 4)
    )


# ---- the page
FIGURES = """{begin}

Made by `docs/scripts/make_live.py`; version {version}. {n} simulated sessions of {same} images of
31 × 31 nm with about 20 clusters each. Each session has different conditions; in a session, dose
and thickness vary by 10 % and the focus by 2 nm between images. Each session is watched in {orders}
random orders. Then follow {after} images under other conditions, after {before} images that were
judged. *Full change* is one as from `mixed` to `shifted` (see [Accuracy](accuracy.md)): 13 nm of
defocus, a source wider by half, 0.4 times the dose, more carbon by half, and other gain, offset and
pixel size. *Half change* is half of it. *Gradual change* takes {gradual} images. A delay of 1 is
the first image after the change. A change is missed if no image raised an alarm.

{table}

The limits give one false alarm in {nominal} images if scores are independent and normal. The
setting in use is in bold.

{beside}

{end}"""


def page(kept: dict[str, Any]) -> str:
    """The page with its figures."""
    sessions = kept["sessions"]
    rows = [
        "| reference (images) | weight | limit | false alarms: one in … images (95 %) "
        "| full change: delay, median (9 of 10) | half change | gradual change |",
        "|---|---|---|---|---|---|---|",
    ]
    for first, weight in ALTERNATIVES:
        found = watched(sessions, first, weight)
        low, high = found.interval()
        up = f"{high:.0f}" if np.isfinite(high) else "∞"
        cells = [
            str(first), f"{weight:g}", f"{limit_of(weight):.2f}",
            f"{found.images_per_alarm:.0f} ({low:.0f}–{up})",
            *(delay(found.delays[kind]) for kind in ("shifted", "half", "gradual")),
        ]  # fmt: skip
        bold = (first, weight) == (FIRST, WEIGHT)
        rows.append("| " + " | ".join(f"**{c}**" if bold else c for c in cells) + " |")
    figures = FIGURES.format(
        begin=BEGIN,
        end=END,
        version=kept["version"],
        n=len(sessions),
        same=SAME,
        orders=ORDERS,
        after=AFTER,
        before=BEFORE,
        gradual=GRADUAL,
        nominal=IMAGES_PER_FALSE_ALARM,
        table="\n".join(rows),
        beside=beside(kept),
    )
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    lines = "\n\n".join(
        part if part.startswith("|") else part.replace("\n", " ") for part in figures.split("\n\n")
    )
    return head + lines + tail


def delay(found: np.ndarray) -> str:
    """Median, 90th percentile, and how often it did not ring."""
    missed = float(np.isinf(found).mean())
    low, high = np.quantile(found, [0.5, 0.9], method="higher")
    late = f"{high:.0f}" if np.isfinite(high) else "–"
    return f"{low:.0f} ({late})" + (f", missed {100 * missed:.1f} %" if missed else "")


def beside(kept: dict[str, Any]) -> str:
    """What else could have told, and another program's images."""
    sessions = kept["sessions"]
    drifts = {
        kind: [[w.drift for w in wheres(one[kind]) if w is not None] for one in sessions]
        for kind in ("same", "shifted")
    }
    same, shifted = (np.array([np.mean(d) for d in drifts[kind]]) for kind in ("same", "shifted"))
    highest = np.array([np.quantile(d, 0.9) for d in drifts["same"]])
    confidence = [
        np.mean([x["confidence"] for one in sessions for x in one[kind]])
        for kind in ("same", "shifted")
    ]
    alarms = sum(x["alarm"] for one in sessions for x in one["shifted"])
    text = (
        f"The limit on the model card raises an alarm in {alarms} of {AFTER * len(sessions)} of "
        f"these images: their mean drift from the training is {shifted.mean():.1f}, and "
        f"{same.mean():.1f} before the change. In {int((shifted < highest).sum())} of "
        f"{len(sessions)} sessions, the images after the change are on average no further from the "
        "training than one in ten of those before, because they differ in another direction. "
        "Therefore the distance from the session's own images is used. The mean confidence falls "
        f"from {confidence[0]:.2f} to {confidence[1]:.2f}."
    )
    found = watched(sessions, FIRST, WEIGHT)
    rang = {kind: 100 * np.isfinite(found.delays[kind]).mean() for kind in ("mixture", "alone")}
    text += (
        f"\n\n*Another sample is a change too.* Under the same conditions, {AFTER} images of "
        f"another random mixture raise an alarm in {rang['mixture']:.0f} % of the sessions, and of "
        f"one class only in {rang['alone']:.0f} %. The mean of each class in the model is "
        "subtracted, and the classes of a session differ from it in different ways."
    )
    if kept["other"] is None:
        return text
    found = watched([kept["other"]], FIRST, WEIGHT)
    n = {kind: len(images) for kind, images in kept["other"].items()}
    return (
        f"{text}\n\nImages of another program, {n['same']} of `mixed` and then {n['shifted']} of "
        f"`shifted` in {ORDERS} orders: {int(found.alarms.sum())} false alarms in "
        f"{int(found.images.sum())} images, and a delay of {delay(found.delays['shifted'])}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared/data/clusters")
    parser.add_argument("--text-only", action="store_true", help="write the page from what is kept")
    arguments = parser.parse_args()
    if not arguments.text_only:
        KEPT.parent.mkdir(exist_ok=True)
        found = measure(arguments.sessions, arguments.workers, arguments.data)
        KEPT.write_text(json.dumps(found), encoding="utf-8")
    PAGE.write_text(page(json.loads(KEPT.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
