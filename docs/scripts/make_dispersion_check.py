"""Recompute ``explanation/dispersion_check.md``: is the dispersion of atoms right?

    python docs/scripts/make_dispersion_check.py [--fields 300] [--images 10] [--model default]
        [--images-only]

Everything is simulated: positions from processes whose density, K and g are known, detection whose
probabilities are true by construction, and images in which the shipped model looks for atoms.
Neither parameters nor seeds are those with which blocks and intervals were settled. With
``--images-only`` the rest of the page stays: that part alone depends on the model.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
from scipy.stats import binom

from napari_atomicity import __version__
from napari_atomicity.atoms.analysis import AtomAnalysis, find_atoms
from napari_atomicity.atoms.completeness import LOWER_BOUND, Completeness, estimate_completeness
from napari_atomicity.atoms.finding.finder import AtomModel, load_atom_model
from napari_atomicity.atoms.injection import inject_atoms
from napari_atomicity.core.errors import ModelError
from napari_atomicity.simulation import atom_fields
from napari_atomicity.simulation.atom_fields import AtomFieldSettings, simulate_atoms
from napari_atomicity.simulation.imaging import Microscope
from napari_atomicity.statistics.intervals import wilson_interval
from napari_atomicity.statistics.points import dispersion_evidence, dispersion_intervals
from napari_atomicity.statistics.points.dispersion import (
    DispersionStatistics,
    dispersion,
    pool_images,
)
from napari_atomicity.statistics.points.dispersion_intervals import Estimate
from napari_atomicity.statistics.points.pair_correlation import pair_correlation, ripley_k
from napari_atomicity.statistics.points.quadrats import count_quadrats, quadrat_p_value
from napari_atomicity.statistics.points.randomness import compare_with_randomness
from napari_atomicity.statistics.points.windows import ObservationWindow
from napari_atomicity.statistics.scores import match_nearest

HERE = Path(__file__).resolve().parents[1]
SEED = 20
PIXEL_NM = 0.1


def support() -> ObservationWindow:
    """15 × 15 nm with a vacuum corner and a hole."""
    y, x = np.mgrid[:150, :150]
    mask = (y + 0.7 * x > 45) & (np.hypot(y - 95, x - 100) > 14)
    return ObservationWindow(mask, PIXEL_NM)


WINDOW = support()
RANDOM = AtomFieldSettings(pattern="random", atoms_per_nm2=0.3)
PROCESSES = {
    "random, sparse": replace(RANDOM, atoms_per_nm2=0.1),
    "random": RANDOM,
    "random, dense": replace(RANDOM, atoms_per_nm2=1.2),
    "clustered (12 clumps, 0.35 nm)": AtomFieldSettings(
        pattern="clustered", atoms_per_nm2=0.4, parents_per_nm2=0.1, spread_nm=0.35
    ),
    "clustered (6 clumps, 0.7 nm)": AtomFieldSettings(
        pattern="clustered", atoms_per_nm2=0.4, parents_per_nm2=0.05, spread_nm=0.7
    ),
    "inhibited (0.6 nm)": AtomFieldSettings(pattern="inhibited", atoms_per_nm2=0.4, apart_nm=0.6),
}


def points_of(settings: AtomFieldSettings, seed: int) -> np.ndarray:
    return atom_fields.lone_atoms(settings, WINDOW, np.random.default_rng([SEED, seed]))


def covers(estimate: Estimate, truth: float) -> bool:
    return bool(estimate.low <= truth <= estimate.high)


def share(hits: Iterable[bool]) -> str:
    """``95.3 % (92.5-97.2)`` of what is true."""
    of = np.array(list(hits), bool)
    low, high = wilson_interval(float(of.mean()), len(of))
    return f"{100 * of.mean():.1f} % ({100 * low:.1f}-{100 * high:.1f})"


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(header)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def off_by(values: np.ndarray, truth: float | np.ndarray) -> str:
    """Mean deviation in per cent of the truth, and its standard error."""
    relative = np.asarray(values) / truth - 1
    error = relative.std() / np.sqrt(len(relative))
    return f"{100 * relative.mean():+.1f} ± {100 * error:.1f} %"


@contextmanager
def density_only() -> Iterator[None]:
    """Without the draws and resamples that distances and shares need: most of the time."""
    with (
        patch.object(dispersion_intervals, "RESAMPLES", 2),
        patch.object(dispersion_evidence, "DRAWS", 20),
    ):
        yield


# ---- density
def density_of_points(fields: int) -> str:
    """All atoms are known; the interval is of sampling alone."""
    rows = []
    for name, settings in PROCESSES.items():
        found = [of_points(points_of(settings, i)) for i in range(fields)]
        density = [d.density for d in found]
        pools = [pool_images(found[i : i + 6]).density for i in range(0, fields // 2, 6)]
        truth = settings.atoms_per_nm2
        rows.append(
            [
                name,
                f"{np.mean([d.n_atoms for d in found]):.0f}",
                off_by([d.value for d in density], truth),
                share(covers(d, truth) for d in density),
                f"±{50 * np.mean([(d.high - d.low) / truth for d in density]):.0f} %",
                share(covers(d, truth) for d in pools),
            ]
        )
        print(rows[-1], flush=True)
    head = ["process", "atoms", "density, deviation", "covered, one field", "half width",
            "covered, six fields pooled"]  # fmt: skip
    return table(head, rows)


def density_of_pools(pools: int) -> str:
    """Several images of a sample whose densities differ from place to place."""
    rows = []
    for images in (2, 3, 6, 11):
        cells = []
        for number, difference in enumerate((0.0, 0.3, 0.5, 0.8)):
            found = []
            for i in range(pools):
                rng = np.random.default_rng([SEED, 4, images, number, i])
                shift = difference * rng.standard_normal(images) - difference**2 / 2
                density = RANDOM.atoms_per_nm2 * np.exp(shift)
                counts = rng.poisson(density * WINDOW.area_nm2)
                found.append(
                    pool_images([of_points(WINDOW.random(n, rng)) for n in counts]).density
                )
            ratio = np.median([d.high / max(d.low, 1e-9) for d in found])
            covered = share(covers(d, RANDOM.atoms_per_nm2) for d in found)
            cells.append(f"{covered}; {ratio:.1f}")
        rows.append([f"{images}", *cells])
        print(rows[-1], flush=True)
    return table(["images", "no difference", "30 %", "50 %", "80 %"], rows)


def of_points(points: np.ndarray, **options: object) -> DispersionStatistics:
    return dispersion(points, WINDOW.mask, PIXEL_NM, simulations=0, **options)  # type: ignore[arg-type]


def candidates(
    points: np.ndarray, density: float, false: float, lost: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Candidates and their probabilities, by Bayes' rule: scores are normal about 2 where there is
    an atom and about 0 where there is none; some atoms are lost altogether."""
    shown = points[rng.random(len(points)) >= lost]
    wrong = WINDOW.random(rng.poisson(false * WINDOW.area_nm2), rng)
    score = np.append(rng.normal(2, 1, len(shown)), rng.normal(0, 1, len(wrong)))
    odds = density * (1 - lost) / false * np.exp(2 * score - 2)
    p = odds / (1 + odds)
    keep = p > 0.01
    return np.concatenate([shown, wrong])[keep], p[keep]


def density_of_detections(fields: int) -> str:
    """Atoms are dropped, false ones added; each candidate has a true probability."""
    rows = []
    for name, settings in PROCESSES.items():
        truth, lost = settings.atoms_per_nm2, 0.05
        sample, here, counted, expected, true = [], [], [], [], []
        for i in range(fields):
            rng = np.random.default_rng([SEED, i, 1])
            points = points_of(settings, i + 10_000)
            where, p = candidates(points, truth, 2 * truth, lost, rng)
            found = of_points(
                where[p >= 0.5], candidates_nm=where, candidate_probabilities=p,
                candidate_recall=1 - lost,
            )  # fmt: skip
            sample.append(covers(found.density, truth))
            here.append(covers(found.density_of_field, len(points) / WINDOW.area_nm2))
            counted.append(found.n_atoms / WINDOW.area_nm2)
            expected.append(found.density.value)
            true.append(len(points))
        rows.append(
            [
                name,
                f"{np.mean(true):.0f}",
                off_by(np.array(counted), truth),
                off_by(np.array(expected), truth),
                share(sample),
                share(here),
            ]
        )
        print(rows[-1], flush=True)
    head = ["process", "atoms", "counted at p ≥ 0.5, deviation", "density, deviation",
            "covered: density of the sample", "covered: atoms in the field"]  # fmt: skip
    return table(head, rows)


# ---- distances and shares
def distances(fields: int) -> str:
    """Of random atoms, whose distances and groups have closed forms."""
    rows = []
    for name in ("random, sparse", "random", "random, dense"):
        density = PROCESSES[name].atoms_per_nm2
        truth = {
            "mean distance": 0.5 / np.sqrt(density),
            "median distance": np.sqrt(np.log(2) / np.pi / density),
            "isolated": np.exp(-np.pi * density * 0.3**2),
        }
        found = [of_points(points_of(PROCESSES[name], i + 20_000)) for i in range(fields)]
        for what, true in truth.items():
            estimates = [
                {
                    "mean distance": d.neighbour_mean,
                    "median distance": d.neighbour_median,
                    "isolated": d.shares["isolated"],
                }[what]
                for d in found
            ]
            values = np.array([e.value for e in estimates])
            known = np.isfinite(values)
            covered = share(covers(e, true) for e, k in zip(estimates, known, strict=True) if k)
            rows.append([name, what, f"{true:.3f}", off_by(values[known], true), covered])
            print(rows[-1], flush=True)
    return table(["process", "figure", "truth", "deviation", "covered"], rows)


# ---- K and g
def curves(fields: int) -> str:
    """K and g over their closed forms."""
    r = np.array([0.4, 0.8, 1.2, 2.0, 3.0])
    rows = []
    for name in list(PROCESSES)[1:]:
        settings = PROCESSES[name]
        found = [points_of(settings, i + 30_000) for i in range(fields)]
        scale = _pairs_over_square(settings)
        for what, function, truth in (
            ("K", lambda p: ripley_k(p, WINDOW, r), atom_fields.ripley_k(settings, r)),
            (
                "g",
                lambda p: pair_correlation(p, WINDOW, r, bandwidth=0.15),
                atom_fields.pair_correlation(settings, r),
            ),
        ):
            mean, error = _average(found, function)
            cells = [
                f"{m * scale / t:.3f} ± {e * scale / t:.3f}" if t > 0 else f"{m * scale:.3f} (0)"
                for m, e, t in zip(mean, error, truth, strict=True)
            ]
            rows.append([name, what, *cells])
            print(rows[-1], flush=True)
    return table(["process", "curve", *(f"r = {x} nm" for x in r)], rows)


def _average(
    fields: list[np.ndarray], function: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean by number of pairs, which takes the bias of a ratio out, and its standard error."""
    fields = [p for p in fields if len(p) > 1]
    weight = np.array([len(p) * (len(p) - 1) for p in fields], float)
    weight /= weight.mean()
    values = np.stack([function(p) for p in fields])
    mean = (weight[:, None] * values).mean(axis=0)
    error = (weight[:, None] * (values - mean)).std(axis=0) / np.sqrt(len(fields))
    return mean, error


def _pairs_over_square(settings: AtomFieldSettings) -> float:
    """E[n (n - 1)] / (λA)²: 1 but for clustered or inhibited atoms on a finite support."""
    steps = np.arange(-12, 12, 0.1) + 0.05
    y, x = (axis.ravel() for axis in np.meshgrid(steps, steps, indexing="ij"))
    g = atom_fields.pair_correlation(settings, np.hypot(y, x))
    excess = ((g - 1) * WINDOW.overlap_nm2(y, x)).sum() * 0.01
    return float(1 + excess / WINDOW.area_nm2**2)


# ---- tests
def tests(fields: int) -> str:
    """How often each test says "not random" at 5 %."""
    rows = []
    for name in list(PROCESSES)[1:]:
        p: dict[str, list[float]] = {}
        for i in range(fields):
            points = points_of(PROCESSES[name], i + 40_000)
            if len(points) < 2:
                continue
            found = compare_with_randomness(points, WINDOW, 99, seed=i)
            quadrats = count_quadrats(points, WINDOW)
            values = {
                "G": found.curves["G"].p,
                "g": found.curves["g"].p,
                "L": found.curves["L"].p,
                "Clark-Evans": found.clark_evans_p,
                "quadrats": quadrat_p_value(quadrats, 199, seed=i),
            }
            for test, value in values.items():
                p.setdefault(test, []).append(value)
        rows.append([name, *(share(np.array(v) <= 0.05) for v in p.values())])
        print(rows[-1], flush=True)
    return table(["process", "G(r)", "g(r)", "L(r)", "Clark-Evans", "quadrats"], rows)


# ---- images
SEEN = AtomFieldSettings(shape_px=(512, 512), pixel_size_nm=0.03, vacuum=0.15)
CLEAR = replace(
    SEEN, roughness=0.15, step=0.15,
    microscope=Microscope(dose_e_per_a2=6e5, gain=20.0, black_level=800.0),
)  # fmt: skip
CONDITIONS = {
    "faint, 0.15": replace(SEEN, contrast=0.15),
    "faint, 0.25": replace(SEEN, contrast=0.25),
    "faint, 0.4": replace(SEEN, contrast=0.4),
    "clear, 0.3": replace(CLEAR, contrast=0.3),
    # As the example in the package: as visible as in the micrographs at hand.
    "clear, 0.5": replace(CLEAR, contrast=0.5),
}
_PATTERN = ("pattern", "atoms_per_nm2", "parents_per_nm2", "spread_nm", "apart_nm")


@dataclass(frozen=True)
class Shown:
    """What was found in a simulated image, and what there is."""

    analysis: AtomAnalysis
    true_nm: np.ndarray
    area_nm2: float
    atom_intensity: float

    @property
    def candidates_nm(self) -> np.ndarray:
        return self.analysis.candidates[["y_nm", "x_nm"]].to_numpy(float)

    @property
    def confidence(self) -> np.ndarray:
        return self.analysis.candidates["confidence"].to_numpy(float)

    @property
    def right(self) -> np.ndarray:
        """(M,) whether a candidate is an atom, one to one within 0.15 nm."""
        return match_nearest(self.candidates_nm, self.true_nm, 0.15) >= 0

    def dispersion(self, p: np.ndarray, threshold: float, recall: float) -> DispersionStatistics:
        return dispersion(
            self.candidates_nm[p >= threshold], self.analysis.support, self.analysis.pixel_size_nm,
            candidates_nm=self.candidates_nm, candidate_probabilities=p, candidate_recall=recall,
            simulations=0,
        )  # fmt: skip


def shown(settings: AtomFieldSettings, model: AtomModel, seeds: Iterable[int]) -> list[Shown]:
    found = []
    for seed in seeds:
        field = simulate_atoms(settings, seed)
        area = ObservationWindow(field.support, settings.pixel_size_nm).area_nm2
        found.append(
            Shown(
                find_atoms(field.micrograph, model), field.lone_nm, area, field.intensity_per_atom
            )
        )
    return found


def of_images(number: int, name: str) -> str:
    """Simulated images, the shipped model and its probabilities, and what is missed."""
    model = load_atom_model(name, "cpu")
    rows, by_probabilities, of_all = [], [], []
    for condition, seen in CONDITIONS.items():
        for name in ("random", "random, dense", "clustered (12 clumps, 0.35 nm)"):
            settings = replace(seen, **{of: getattr(PROCESSES[name], of) for of in _PATTERN})
            images = shown(settings, model, (SEED * 1000 + i for i in range(number)))
            above = [i.confidence >= i.analysis.threshold for i in images]
            met = sum(int((i.right & a).sum()) for i, a in zip(images, above, strict=True))
            said, there = sum(int(a.sum()) for a in above), sum(len(i.true_nm) for i in images)
            found = [
                i.dispersion(i.confidence, i.analysis.threshold, i.analysis.candidate_recall)
                for i in images
            ]
            true = np.array([len(i.true_nm) / i.area_nm2 for i in images])
            missed = [_missed(i.analysis, model) for i in images]
            covered = [covers(d.density_of_field, t) for d, t in zip(found, true, strict=True)]
            by_probabilities += covered
            of_all += [
                c.density_low <= t <= c.density_high
                for c, t in zip(missed, true, strict=True)
                if c is not None
            ]
            rows.append(
                [
                    condition,
                    name,
                    f"{met / max(said, 1):.2f}",
                    f"{met / there:.2f}",
                    off_by(np.array([d.density_of_field.value for d in found]), true),
                    share(covered),
                    *_with_the_missed(missed, images, true),
                ]
            )
            print(rows[-1], flush=True)
    head = ["images", "process", "precision", "recall", "density by probabilities, deviation",
            "covered", "found, estimated", "lower bound", "density of all atoms, deviation",
            "covered ", "upper / lower end", "mean atom, deviation"]  # fmt: skip
    said = (
        f"Model `{model.card.model_id}`, {number} images each. Over all images, the interval by "
        f"probabilities covers the density of the field in {share(by_probabilities)}, and that of "
        f"all atoms in {share(of_all)}."
    )
    return f"{said}\n\n" + table(head, rows)


def _missed(analysis: AtomAnalysis, model: AtomModel) -> Completeness | None:
    added = inject_atoms(analysis, model)
    return None if added is None else estimate_completeness(added, analysis.threshold)


def _with_the_missed(
    missed: list[Completeness | None], images: list[Shown], true: np.ndarray
) -> list[str]:
    """Cells of what is said of the atoms that are not found, where anything is."""
    both = [(c, i, t) for c, i, t in zip(missed, images, true, strict=True) if c is not None]
    low = sum(c.share < LOWER_BOUND for c, _, _ in both) + len(images) - len(both)
    if not both:
        return ["–", f"{low} of {len(images)}", *["–"] * 4]
    shares = np.array([[c.share, c.low, c.high] for c, _, _ in both]).mean(axis=0)
    density = np.array([c.density_per_nm2 / t for c, _, t in both])
    atom = np.array([c.atom_intensity / i.atom_intensity for c, i, _ in both])
    ends = np.median([c.density_high / c.density_low for c, _, _ in both])
    return [
        "{:.2f} ({:.2f}-{:.2f})".format(*shares),
        f"{low} of {len(images)}",
        off_by(density, 1.0),
        share(c.density_low <= t <= c.density_high for c, _, t in both),
        f"{ends:.1f}",
        off_by(atom, 1.0),
    ]


def images_text(number: int, model: str) -> str:
    try:
        with density_only():
            return of_images(number, model)
    except ModelError as error:
        return f"Not measured: {error}"


def as_lines(text: str) -> str:
    """Join the lines of each paragraph and list item."""
    return re.sub(r"(?<=[^\n])\n *(?=[^\n| ])(?!- )", " ", text)


def page(fields: int, number: int, model: str) -> str:
    low, high = binom.ppf([0.025, 0.975], fields, 0.95) / fields
    half = fields // 2
    pools_low, pools_high = 100 * binom.ppf([0.025, 0.975], half, 0.95) / half
    start = time.perf_counter()
    with density_only():
        parts = {
            "density": density_of_points(fields),
            "pools": density_of_pools(fields // 2),
            "detections": density_of_detections(fields),
        }
    parts |= {
        "distances": distances(fields),
        "curves": curves(fields),
        "tests_table": tests(min(fields, 200)),
    }
    parts["images"] = images_text(number, model)
    print(f"{time.perf_counter() - start:.0f} s")
    return as_lines(TEXT).format(
        version=__version__, fields=fields, tests=min(fields, 200), area=WINDOW.area_nm2,
        low=100 * low, high=100 * high, pools_n=half, pools_low=pools_low, pools_high=pools_high,
        **parts,
    )  # fmt: skip


IMAGES = "## Images\n"
TEXT = """# Is the dispersion right?

This page compares the dispersion of atoms with the truth in simulated fields. Made by
`docs/scripts/make_dispersion_check.py`; version {version}.

Positions are on a support of {area:.0f} nm² with a vacuum corner and a hole, {fields} fields of
each process. *Random* is a Poisson process. *Clustered* is a Thomas process, with clumps of a
normal width. *Inhibited* is Matérn's second hard-core process. The blocks and intervals of the
method were chosen on other densities, clumps and seeds.

Numbers in brackets are Wilson's 95 % intervals of a fraction. *Covered* is the fraction of fields
whose 95 % interval contains the truth. For {fields} fields, correct intervals cover in {low:.1f} to
{high:.1f} %.

## Density, all atoms known

The interval describes sampling: the density in other fields of the same sample. For clustered atoms
it is wider if there are fewer clumps. For inhibited atoms it is wider than necessary, because it is
never narrower than that of random atoms.

{density}

Images of one sample differ by more than random numbers do. In the next table, the logarithms of
their densities have the given standard deviation, and each image contains about 60 random atoms.
The interval is that of the mean density of the sample. Each cell contains how often it covers this
density, and the ratio of its upper to its lower end in the median pool. Of {pools_n} pools, correct
intervals cover in {pools_low:.1f} to {pools_high:.1f} %.

A few images do not determine how much images differ, so a prior value is combined with the observed
one. Intervals of two images that are equal are therefore too wide, and those of a few images that
differ by 80 % too narrow. In the three experimental sets, the numbers of atoms marked by people
differ beyond chance by 6, 27 and 47 % between the images of one set.

{pools}

## Density from detections

Atoms have a score of about 2, and twice as many false candidates one of about 0, both with a
standard deviation of 1. Probabilities follow by Bayes' rule, and 5 % of the atoms have no
candidate. The number of candidates above one half is biased; the sum of the probabilities is not.
The interval of the sample contains sampling and detection. The interval of the number of atoms in
the field contains detection only.

{detections}

The interval of the sample is wider than necessary. True probabilities draw the expected number
towards the mean, and this removes the scatter that detection adds. The interval is not reduced,
because the probabilities of a real image are only approximately true. Clustered atoms show why.
Their numbers vary between fields by more than chance, but the probabilities are those of the mean
field: too high in fields with few atoms and too low in fields with many. The interval of the field
does not include this error and covers less often.

## Distances and fractions

These are known for random atoms of density λ: the mean distance to the nearest neighbour 1 / (2√λ),
the median distance √(ln 2 / πλ), and the fraction of isolated atoms exp(−πλd²) with d = 0.3 nm.
With about twenty atoms, few are closer to their neighbour than to the edge, and long distances are
lost first. The mean is then too low, and the median is more reliable. Atoms beyond the edge are
invisible, so slightly too many atoms look isolated if atoms are close to each other.

{distances}

## K and g

The table shows the mean over fields, weighted by the number of pairs, divided by the closed form,
with its standard error. The correct value is 1. Where the closed form is 0, the table shows the
value itself.

{curves}

g is smoothed by its kernel (0.15 nm half width here), which lowers the flank of narrow clumps and
rounds the edge of a hard core.

## Tests against randomness

The table shows how often each test rejects randomness at a level of 5 %, in {tests} fields with 99
simulations. For random atoms it should be 5 %, for other processes as often as possible.

{tests_table}

## Images

Images of 512 × 512 pixels of 0.03 nm are simulated with amorphous carbon, a vacuum corner, shot
noise and row noise (`simulation.atom_fields`). Atoms have a width of 0.21 nm and a scatter of the
intensity of 35 %. The number in the first column is the peak of a mean atom relative to the level
of the carbon. *Faint* images have 60 000 electrons per Å². *Clear* images have 600 000, a rougher
support and a step of its thickness, as the example of the package; they are more similar to the
available micrographs.

Atoms, support and probabilities come from `find_atoms`. The probabilities of the model estimate
what a person would mark in images with the atoms and the noise of the training. For other images,
the probabilities and the density, which is their sum, are wrong.

The columns from *found* on come from an injection-recovery test (`atoms.completeness`, part of
`atomicity atoms`). How the scores of false candidates decrease, and the weight of the evidence,
were chosen on other images of these conditions.

- *found, estimated*: the estimated fraction of atoms that is found at the operating point, with its
  interval; compare it with the recall;
- *lower bound*: images whose density can be a lower bound, because this fraction is below
  two thirds;
- *density of all atoms*: found or not, relative to the true density of the field; how often its
  interval covers the truth; and the ratio of the ends of the interval;
- *mean atom*: the intensity of a mean atom, which calibrates clusters, relative to the truth.

{images}

The prior probability of an atom is not fitted to each image by expectation-maximisation (M.
Saerens, P. Latinne, C. Decaestecker, *Neural Comput.* **14**, 21 (2002)). This method assumes that
atoms look the same in all images and only their number differs, but here their contrast differs.
Densities of faint images became worse (from -80 to -98 %, mean of four images), and F1 changed from
0.696 to 0.686 (Pt/NC), from 0.839 to 0.843 (Re bipyridine) and from 0.57 to 0.45 (Pt porphyrin).
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fields", type=int, default=300)
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--images-only", action="store_true", help="renew that part alone")
    parser.add_argument("--model", default="default")
    arguments = parser.parse_args()
    path = HERE / "explanation" / "dispersion_check.md"
    if arguments.images_only:
        kept = path.read_text(encoding="utf-8").partition(IMAGES)[0]
        section = as_lines(IMAGES + TEXT.partition(IMAGES)[2])
        text = kept + section.format(images=images_text(arguments.images, arguments.model))
    else:
        text = page(arguments.fields, arguments.images, arguments.model)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
