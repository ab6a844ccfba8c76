"""Recompute ``explanation/comparison.md``: are differences between samples right?

    python docs/scripts/make_comparison.py [--pairs 400] [--power 50] [--power-only]

Pairs of samples are simulated as tables: images whose compositions scatter, clusters whose numbers
of atoms scatter as the card of the shipped model says, and sessions whose scale has an error. The
seeds and compositions are not those with which the method was settled.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import norm

from napari_atomicity.core.acquisition_session import Sample
from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.core.tables.cluster_table import conform
from napari_atomicity.models.estimators import class_sizes
from napari_atomicity.models.files import find_model, read_card
from napari_atomicity.statistics.intervals import wilson_interval
from napari_atomicity.statistics.samples.comparison import compare_samples, holm
from napari_atomicity.statistics.samples.image_values import (
    MEAN_ATOMS,
    atom_values,
    cluster_values,
)
from napari_atomicity.statistics.samples.planning import more_images
from napari_atomicity.statistics.samples.sample_estimates import (
    SampleEstimate,
    difference,
    estimate_samples,
)
from page_sections import formatted_table, markdown_table, write_section

PAGE = Path(__file__).resolve().parents[1] / "explanation" / "comparison.md"
SEED = 37
MAX_FALSE, UPPER_LIMIT, MIN_COVERAGE = 0.05, 0.075, 0.93
IMAGES = (2, 3, 4, 6, 10)
CLUSTERS = 60
SCATTER = 0.25
"""Standard deviation of the logarithms of the class frequencies between images."""
IMAGE_SD = 0.03
"""Standard deviation of ln scale between images, after their scales were found."""
POWER_IMAGES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)
POWER = 0.8
DENSITIES_PER_PAIR = 10
"""Pairs of densities for each pair of compositions: one test without a correction is wrong in 5 %,
and 400 pairs would show that to ± 2 % only."""


@dataclass(frozen=True)
class Scenario:
    """How two samples are recorded, and how well the scale of a session is known."""

    name: str
    common_session: bool
    scale_sd: float  # true standard deviation of the error of ln scale of a session
    recorded_sd: float  # what the record of the run says of it


SCENARIOS = (
    Scenario("one session", True, 0.02, 0.0),
    Scenario("two sessions, scale by the classes", False, 0.02, 0.0),
    Scenario("two sessions, scale by apparent sizes", False, 0.05, 0.05),
)


@dataclass(frozen=True, eq=False)
class Card:
    """Classes of a model, and the scatter of ln atoms that confuses them as its card says."""

    classes: tuple[str, ...]
    log_sizes: np.ndarray
    sd: np.ndarray

    @classmethod
    def read(cls, name: str = "default") -> Card:
        card = read_card(find_model(name), ModelCard)
        log_sizes = np.log(class_sizes(card.classes))
        ends = np.concatenate([[-np.inf], (log_sizes[1:] + log_sizes[:-1]) / 2, [np.inf]])
        confusion = np.asarray(card.confusion, float)
        right = np.diag(confusion) / confusion.sum(axis=1)

        def excess(sd: float, k: int) -> float:
            return float(np.diff(norm.cdf(ends[k : k + 2], log_sizes[k], sd))[0] - right[k])

        sd = [brentq(excess, 1e-3, 1.0, args=(k,)) for k in range(len(right))]
        return cls(card.classes, log_sizes, np.array(sd))

    def clusters(self, image: str, truth: np.ndarray, log_error: float, rng) -> pd.DataFrame:
        """Return the cluster table of an image whose scale has an error."""
        n = len(truth)
        log_atoms = self.log_sizes[truth] + self.sd[truth] * rng.standard_normal(n) + log_error
        density = norm.pdf(log_atoms[:, None], self.log_sizes, self.sd) + 1e-9
        p = density / density.sum(axis=1, keepdims=True)
        label = np.array(self.classes, object)[
            np.searchsorted((self.log_sizes[1:] + self.log_sizes[:-1]) / 2, log_atoms)
        ]
        return pd.DataFrame(
            {
                "image": image, "label": label, "label_predicted": label, "label_corrected": "",
                "n_atoms": np.exp(log_atoms), "cluster_id": np.arange(n), "y_px": 0.0, "x_px": 0.0,
                **{f"p_{name}": p[:, c] for c, name in enumerate(self.classes)},
            }
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Pair:
    """Two simulated samples and their true differences."""

    table: pd.DataFrame
    samples: tuple[Sample, Sample]
    session_of: dict[str, str]
    scale_sd: dict[str, float]
    true: dict[str, float]  # class, or "" for the mean number of atoms → difference


def image_shares(composition: np.ndarray, n: int, rng) -> np.ndarray:
    log_share = np.log(composition) + SCATTER * rng.standard_normal((n, len(composition)))
    share = np.exp(log_share)
    return share / share.sum(axis=1, keepdims=True)


def simulate_pair(
    card: Card, compositions: Sequence[np.ndarray], images: Sequence[int], of: Scenario, rng
) -> Pair:
    """Simulate the first and the second sample."""
    tables, samples, session_of = [], [], {}
    errors = of.scale_sd * rng.standard_normal(2)
    for which, (name, composition, n) in enumerate(
        zip(("fresh", "spent"), compositions, images, strict=True)
    ):
        session = 0 if of.common_session else which
        names = tuple(f"{name}_{i}" for i in range(n))
        for image, share in zip(names, image_shares(composition, n, rng), strict=True):
            truth = rng.choice(len(share), max(rng.poisson(CLUSTERS), 5), p=share)
            log_error = errors[session] + IMAGE_SD * rng.standard_normal()
            tables.append(card.clusters(image, truth, log_error, rng))
            session_of[image] = f"session {session}"
        samples.append(Sample(name, names))
    true = np.subtract(*(image_shares(c, 20_000, rng).mean(axis=0) for c in compositions[::-1]))
    if compositions[0] is compositions[1]:
        true = np.zeros_like(true)
    named = dict(zip(card.classes, true, strict=True))
    named[""] = float(true @ np.exp(card.log_sizes))
    table = conform(pd.concat(tables, ignore_index=True))
    sds = dict.fromkeys(session_of, of.recorded_sd)
    return Pair(table, (samples[0], samples[1]), session_of, sds, named)


def compare(pair: Pair) -> tuple[np.ndarray, np.ndarray, list[dict[str, SampleEstimate]]]:
    """Return corrected p values, whether intervals contain the truth, and the estimates."""
    values = cluster_values(pair.table, pair.session_of, scale_sd=pair.scale_sd)
    estimates = estimate_samples(values, {s.name: s.images for s in pair.samples})
    found = [difference(one["spent"], one["fresh"]) for one in estimates]
    true = [
        pair.true["" if one.quantity.name == MEAN_ATOMS else one.quantity.label] for one in values
    ]
    covered = [d.low <= t <= d.high for d, t in zip(found, true, strict=True)]
    return holm(np.array([d.p for d in found])), np.array(covered), estimates


def moved(composition: np.ndarray, points: float) -> np.ndarray:
    """Move a part of the clusters from the last but one class to the third."""
    changed = composition.copy()
    changed[[3, 2]] += [-points, points]
    return changed


def run_pairs(card: Card, n: int, differ: bool) -> pd.DataFrame:
    """Compare pairs of equal or of different composition; a row for each pair."""
    rows = []
    for number in range(n):
        rng = np.random.default_rng([SEED, int(differ), number])
        of = SCENARIOS[number % len(SCENARIOS)]
        one = rng.dirichlet([3.0] * len(card.classes)) * 0.9 + 0.02
        other = rng.dirichlet([3.0] * len(card.classes)) * 0.9 + 0.02 if differ else one
        images = rng.choice(IMAGES, 2)
        p, covered, _ = compare(simulate_pair(card, (one, other), images, of, rng))
        rows.append(
            {
                "scenario": of.name, "images": int(images.min()), "significant": (p < 0.05).any(),
                "covered": covered[:-1].mean(), "covered_atoms": covered[-1],
            }
        )  # fmt: skip
        if number % 50 == 0:
            print("pair", number, flush=True)
    return pd.DataFrame(rows)


def run_densities(n: int) -> pd.DataFrame:
    """Compare pairs of samples of single atoms of equal density."""
    rows = []
    for number in range(n):
        rng = np.random.default_rng([SEED, 2, number])
        samples, of_images = [], []
        for name in ("fresh", "spent"):
            names = tuple(f"{name}_{i}" for i in range(rng.choice(IMAGES)))
            samples.append(Sample(name, names))
            for image in names:
                atoms = rng.poisson(100 * np.exp(0.2 * rng.standard_normal()))
                of_images.append(density_row(image, atoms, 200.0))
        values = atom_values(pd.DataFrame(of_images))
        found = compare_samples(values, samples).tested.iloc[0]
        rows.append(
            {
                "significant": found["p"] < 0.05,
                "covered": found["difference_low"] <= 0 <= found["difference_high"],
            }
        )
    return pd.DataFrame(rows)


def density_row(image: str, atoms: int, area: float) -> dict[str, object]:
    """Return a row of ``dispersion.csv`` that has a density only."""
    width = 1.96 * np.sqrt(max(atoms, 1)) / area
    blank = [
        f"nearest_neighbour_{s}{e}_nm" for s in ("mean", "median") for e in ("", "_low", "_high")
    ]
    blank += [f"share_{kind}" for kind in ("isolated", "dimer", "multimer", "cluster")]
    return {
        "image": image, "n_atoms_expected": float(atoms), "support_nm2": area, "level": 0.95,
        "density_per_nm2": atoms / area, "density_low_per_nm2": atoms / area - width,
        "density_high_per_nm2": atoms / area + width, **dict.fromkeys(blank, np.nan),
    }  # fmt: skip


def power_rows(card: Card, n: int) -> list[dict[str, object]]:
    """Find how many images of each sample show a difference in four of five pairs."""
    base = np.array([0.15, 0.15, 0.2, 0.35, 0.15])
    rows = []
    for of in SCENARIOS:
        row: dict[str, object] = {"scenario": of.name}
        for points in (0.05, 0.1, 0.2):
            row[f"{points:g}"] = images_for(card, (base, moved(base, points)), of, n)
            print(of.name, points, row[f"{points:g}"], flush=True)
        rows.append(row)
    return rows


def images_for(card: Card, compositions: Sequence[np.ndarray], of: Scenario, n: int) -> str:
    """Return the number of images of each sample with a power of `POWER`."""
    too_few, enough = -1, len(POWER_IMAGES)
    while enough - too_few > 1:  # the power rises with the number of images
        middle = (too_few + enough) // 2
        shown = 0
        for number in range(n):
            images = POWER_IMAGES[middle]
            rng = np.random.default_rng([SEED, 3, images, number])
            p, _, _ = compare(simulate_pair(card, compositions, (images, images), of, rng))
            shown += bool((p < 0.05).any())
        too_few, enough = (too_few, middle) if shown >= POWER * n else (middle, enough)
    if enough == len(POWER_IMAGES):
        return f"more than {POWER_IMAGES[-1]}"
    return str(POWER_IMAGES[enough])


def planning_row(card: Card, of: Scenario, n: int) -> dict[str, object]:
    """Compare the planned number of images with the half-width that it gives."""
    composition, wanted, widths = np.array([0.15, 0.15, 0.2, 0.35, 0.15]), [], []
    for number in range(n):
        rng = np.random.default_rng([SEED, 4, number])
        first = simulate_pair(card, (composition, composition), (4, 4), of, rng)
        one = compare(first)[2][3]["spent"]
        if (more := more_images(one)) is None:
            continue
        wanted.append(more)
        whole = simulate_pair(card, (composition, composition), (4, 4 + more), of, rng)
        low, high = compare(whole)[2][3]["spent"].interval()
        widths.append(50 * (high - low))
    return {
        "scenario": of.name, "planned": len(wanted), "n": n,
        "more": np.median(wanted) if wanted else np.nan,
        "width": np.median(widths) if widths else np.nan,
    }  # fmt: skip


# ---- the page
def rate(hits: pd.Series) -> str:
    n = len(hits)
    low, high = wilson_interval(hits.mean(), n)
    return f"{100 * hits.mean():.1f} % ({100 * low:.1f}–{100 * high:.1f})"


def aim(text: str, value: float, limit: float, at_least: bool) -> list[str]:
    met = value >= limit if at_least else value <= limit
    sign = "≥" if at_least else "≤"
    return [text, f"{100 * value:.1f} %", f"{sign} {100 * limit:g} %", "yes" if met else "**no**"]


def check_pairs(card: Card, n: int) -> None:
    """Compare pairs, and write the figures beside their aims."""
    equal = run_pairs(card, n, differ=False)
    different = run_pairs(card, n, differ=True)
    atoms = run_densities(DENSITIES_PER_PAIR * n)
    false = equal["significant"].mean()
    upper = float(wilson_interval(false, len(equal))[1])
    rows = [
        aim("pairs of equal composition that differ significantly", false, MAX_FALSE, False),
        aim("upper end of its 95 % interval", upper, UPPER_LIMIT, False),
        aim("intervals of differences of shares that contain the truth, equal pairs",
            equal["covered"].mean(), MIN_COVERAGE, True),
        aim("the same, different pairs", different["covered"].mean(), MIN_COVERAGE, True),
        aim("intervals of differences of the mean number of atoms, equal pairs",
            equal["covered_atoms"].mean(), MIN_COVERAGE, True),
        aim("the same, different pairs", different["covered_atoms"].mean(), MIN_COVERAGE, True),
        aim("pairs of equal density of atoms that differ significantly",
            atoms["significant"].mean(), MAX_FALSE, False),
        aim("upper end of its 95 % interval",
            float(wilson_interval(atoms["significant"].mean(), len(atoms))[1]),
            UPPER_LIMIT, False),
        aim("intervals of differences of densities that contain the truth",
            atoms["covered"].mean(), MIN_COVERAGE, True),
    ]  # fmt: skip
    lines = markdown_table(["figure", "found", "aim", "met"], rows)
    print("\n".join(lines), flush=True)
    write_section(PAGE, "aims", lines)
    parts = []
    for name, of in (("equal", equal), ("different", different)):
        for key in ("scenario", "images"):
            for value, group in of.groupby(key, sort=key == "images"):
                what = f"{value}" if key == "scenario" else f"fewest images of a sample: {value}"
                parts.append(
                    [name, what, len(group), rate(group["significant"]),
                     f"{100 * group['covered'].mean():.1f} %",
                     f"{100 * group['covered_atoms'].mean():.1f} %"]
                )  # fmt: skip
    head = ["composition", "pairs", "number", "significant", "shares covered", "atoms covered"]
    write_section(PAGE, "parts", markdown_table(head, parts))
    print("\n".join(markdown_table(head, parts)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--power", type=int, default=50)
    parser.add_argument("--power-only", action="store_true", help="keep the figures of the pairs")
    options = parser.parse_args()
    card = Card.read()
    if not options.power_only:
        check_pairs(card, options.pairs)
    power = power_rows(card, options.power)
    cells = [[row["scenario"], row["0.05"], row["0.1"], row["0.2"]] for row in power]
    lines = markdown_table(["recorded in", "5 points", "10 points", "20 points"], cells)
    write_section(PAGE, "power", lines)
    print("\n".join(lines), flush=True)
    plans = [planning_row(card, of, options.power) for of in SCENARIOS[::2]]
    columns = {
        "recorded in": "{scenario}", "samples with a plan": "{planned} of {n}",
        "images to add, median": "{more:.0f}", "half-width then, median": "±{width:.1f} %",
    }  # fmt: skip
    lines = formatted_table(plans, columns)
    write_section(PAGE, "plans", lines)
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
