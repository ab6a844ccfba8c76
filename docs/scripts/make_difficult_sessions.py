"""Score the labels of sessions that the model does not expect, and what the program says of them.

    python docs/scripts/make_difficult_sessions.py [--sessions 10] [--seed 80000] [--workers 2]
                                           [--build build/difficult_sessions] [--cases …]
                                           [--text-only]

Sessions are simulated with sizes that are no class, a wrong pixel size, other conditions, and flaws
of images; sound sessions are among them. They are analysed with the shipped model as
`atomicity analyse` does. The scores of the sessions are kept in ``sessions.csv`` of the build
folder, and seeds that it has are not computed again: delete it after a change of the analysis. It
writes a section of docs/explanation/accuracy.md, and the first sentences and the picture of
docs/explanation/when-not-to-trust.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from make_sessions import CONFIDENT, cluster_answers, held, ratio_answers
from napari_atomicity.core.acquisition_session import AcquisitionSession
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.io.tables import write_table
from napari_atomicity.models.analysis import Analysis, limits_of
from napari_atomicity.models.inference import Classifier, load_classifier
from napari_atomicity.pipeline.analysis import classify_clusters, detect_clusters
from napari_atomicity.pipeline.session_labels import LabelledSession, label_session
from napari_atomicity.reporting.image_warnings import image_warnings
from napari_atomicity.simulation.field_settings import FieldSettings
from napari_atomicity.simulation.sessions import SessionImage, draw_session, simulate_session
from napari_atomicity.simulation.structures import Isomer, read_or_build_library
from napari_atomicity.statistics.ratios.ratio_notes import CONDITIONS_DIFFER, session_doubts
from napari_atomicity.statistics.ratios.ratios import class_ratios
from napari_atomicity.validation.benchmark import CLASSES, BenchmarkImage
from page_sections import markdown_table, number, per_cent, span, write_section

HERE = Path(__file__).resolve().parents[1]
BUILD = HERE.parent / "build" / "difficult_sessions"
PAGE, SECTION = HERE / "explanation" / "accuracy.md", "difficult"
SUMMARY_PAGE = PAGE.with_name("when-not-to-trust.md")
PICTURE = HERE / "images" / "difficult-sessions.webp"
SIZES = (19, 25, 30, 36, 41, 48, 55, 62, 70)
ISOMERS = 12
N_IMAGES, N_OF_ONE_SIZE = 14, 8
BLACK_LEVEL = 500.0
CLIPPED_PERCENT = 2.0
DEAD_ROWS = 3
BUMPS_PER_IMAGE = 6
Settings = Callable[[FieldSettings], FieldSettings]
Damage = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Case:
    """A kind of session.

    Parameters
    ----------
    kind : str
        Kind of its samples, of `simulation.sessions.KINDS`.
    mixture : dict of str to float
        Composition of all its samples instead, unless it is empty.
    known : tuple of str
        Classes; an image of each, whose composition is known, is added to the session.
    pixel_size : float
        Factor of the pixel size that is said.
    settings, damage : callable, optional
        Change of the conditions of an image, and of its pixels.
    is_sound : bool
        Whether nothing is wrong with it: no warning is due.
    """

    kind: str = "mixture"
    mixture: dict[str, float] = field(default_factory=dict)
    known: tuple[str, ...] = ()
    pixel_size: float = 1.0
    settings: Settings | None = None
    damage: Damage | None = None
    is_sound: bool = False


def blurred(settings: FieldSettings) -> FieldSettings:
    """Widen the source by 0.1 nm."""
    microscope = settings.microscope
    source = float(np.hypot(microscope.source_nm, 0.1))
    return replace(settings, microscope=replace(microscope, source_nm=source))


def less_dose(settings: FieldSettings, factor: float) -> FieldSettings:
    """Record with a fraction of the dose."""
    microscope = settings.microscope
    dose = microscope.dose_e_per_a2 * factor
    return replace(settings, microscope=replace(microscope, dose_e_per_a2=dose))


def streaked(settings: FieldSettings) -> FieldSettings:
    """Record with bright streaks in 5 % of the rows."""
    return replace(settings, scan=replace(settings.scan, streaks=0.05))


def with_bumps(data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add round bumps of contamination of one to five times the support, 1 to 3 nm wide."""
    y, x = np.ogrid[: data.shape[0], : data.shape[1]]
    support = np.median(data) - np.quantile(data, 0.001)
    out = data.astype(float)
    for _ in range(BUMPS_PER_IMAGE):
        at, width = rng.uniform(0, data.shape), rng.uniform(10, 32)
        distance2 = (y - at[0]) ** 2 + (x - at[1]) ** 2
        out += rng.uniform(1, 5) * support * np.exp(-0.5 * distance2 / width**2)
    return out


def saturated(data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the image in 8 bits, 2 % of its pixels clipped at both ends."""
    low, high = np.percentile(data, [CLIPPED_PERCENT, 100 - CLIPPED_PERCENT])
    return np.clip(np.round((data - low) / (high - low) * 255), 0, 255).astype(np.uint8)


def with_dead_rows(data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Set three rows to grey level 0."""
    out = data.copy()
    out[rng.choice(len(data), DEAD_ROWS, replace=False)] = 0
    return out


def draw_examples(build: Path, seed: int) -> None:
    """Draw a part of an image of each kind that can be seen."""
    library = read_or_build_library(build / f"isomers_{seed}.npz", SIZES, ISOMERS, seed)
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    for axes, name in zip(figure.subplots(2, 4).ravel(), EXAMPLES, strict=True):
        case = CASES[name]
        planned, _ = plan(case, seed)
        (image,) = images_of(case, planned[:1], library, seed)
        data, pixel_nm = image.micrograph.data, image.micrograph.calibrated()
        part = data[: round(EXAMPLE_NM / pixel_nm), : round(EXAMPLE_NM / pixel_nm)]
        low, high = np.percentile(part[part > 0], [0.5, 99.8])  # without dead rows
        axes.imshow(part, cmap="gray", vmin=low, vmax=high)
        axes.set_title(name, fontsize=8)
        axes.set_axis_off()
    figure.savefig(PICTURE, dpi=110, pil_kwargs={"quality": 70})


ONE_SIZE = "one size"
PIXEL_SIZES = (0.9, 0.95, 0.97, 1.03, 1.05, 1.1)
CASES = {
    "mixtures": Case(is_sound=True),
    "one size": Case(ONE_SIZE, is_sound=True),
    "two sizes": Case("two sizes", is_sound=True),
    "one size per image": Case("one size per image", is_sound=True),
    "25 + 48": Case(mixture={"Pt25": 0.5, "Pt48": 0.5}),
    "36 + 62": Case(mixture={"Pt36": 0.5, "Pt62": 0.5}),
    "48 alone": Case(mixture={"Pt48": 1.0}),
    "25 + 48, with known samples": Case(mixture={"Pt25": 0.5, "Pt48": 0.5}, known=("Pt19", "Pt55")),
    "48 among others": Case(mixture=dict.fromkeys(("Pt19", "Pt41", "Pt48", "Pt70"), 0.25)),
    **{
        f"{name}, pixel size {100 * (factor - 1):+.0f} %": Case(kind, pixel_size=factor)
        for (name, kind), factor in product(
            (("one size", ONE_SIZE), ("mixtures", "mixture")), PIXEL_SIZES
        )
    },
    "one size, blur": Case(ONE_SIZE, settings=blurred),
    "one size, streaks": Case(ONE_SIZE, settings=streaked),
    "one size, quarter of the dose": Case(ONE_SIZE, settings=partial(less_dose, factor=0.25)),
    "mixtures, tenth of the dose": Case(settings=partial(less_dose, factor=0.1)),
    "mixtures, bumps of contamination": Case(damage=with_bumps),
    "mixtures, saturated 8 bits": Case(damage=saturated),
    "mixtures, dead rows": Case(damage=with_dead_rows),
}
"""Title of each case in the table, and what it is."""
EXAMPLES = (
    "mixtures",
    "25 + 48",
    "one size, blur",
    "one size, streaks",
    "mixtures, tenth of the dose",
    "mixtures, bumps of contamination",
    "mixtures, saturated 8 bits",
    "mixtures, dead rows",
)
EXAMPLE_NM = 14.0
MAX_SURE_BUT_WRONG, MIN_INTERVALS, MAX_FALSE_ALARMS = 0.03, 0.93, 0.02
"""Aims."""


@cache
def classifier() -> Classifier:
    """Load the shipped model."""
    torch.set_num_threads(1)
    return load_classifier("default", "cpu")


def plan(case: Case, seed: int) -> tuple[list[SessionImage], dict[str, dict[str, float]]]:
    """Plan the images of a session, and the known compositions of some."""
    n = N_OF_ONE_SIZE if case.kind == ONE_SIZE else N_IMAGES
    images = draw_session(case.kind, CLASSES, n + len(case.known), seed)
    mixture = case.mixture
    if case.kind == ONE_SIZE:
        mixture = {CLASSES[seed % len(CLASSES)]: 1.0}
    planned, known = [], {}
    for i, image in enumerate(images):
        own = mixture or image.settings.mixture
        if i >= n:
            own = {case.known[i - n]: 1.0}
            known[image.name] = own
        settings = replace(image.settings, mixture=own)
        if case.settings is not None:
            settings = case.settings(settings)
        planned.append(replace(image, settings=settings, sample=" + ".join(own)))
    return planned, known


def images_of(
    case: Case, planned: Sequence[SessionImage], library: Sequence[Isomer], seed: int
) -> Iterator[BenchmarkImage]:
    """Simulate the images, with their flaws and the pixel size that is said."""
    rng = np.random.default_rng([seed, 1])
    for one, simulated in zip(planned, simulate_session(library, planned), strict=True):
        data, pixel_nm = simulated.micrograph.data, simulated.micrograph.calibrated()
        if case.damage is not None:
            data = case.damage(data, rng)
        micrograph = Micrograph(data, pixel_nm * case.pixel_size, name=one.name)
        truth = simulated.truth.rename(columns={"touches_border": "border"})
        yield BenchmarkImage(micrograph, truth, case.kind, one.sample, one.settings.mixture)


def analyse_session(
    case: Case, library: Sequence[Isomer], seed: int
) -> tuple[list[BenchmarkImage], dict[str, dict[str, float]], LabelledSession]:
    """Simulate and analyse a session; return its images, known compositions and labels."""
    planned, known = plan(case, seed)
    images = list(images_of(case, planned, library, seed))
    alone = [classify_clusters(detect_clusters(x.micrograph), classifier()) for x in images]
    session = AcquisitionSession("", (), known)
    return images, known, label_session(alone, classifier(), session=session)


def score(
    images: Sequence[BenchmarkImage], known: dict[str, dict[str, float]], labelled: LabelledSession
) -> dict[str, object]:
    """Score a session: its labels, its intervals, and what is said of it."""
    pairs = [
        (image, analysis)
        for image, analysis in zip(images, labelled.analyses, strict=True)
        if image.micrograph.name not in known
    ]
    answers = pd.concat([cluster_answers(*pair) for pair in pairs])
    ratios = ratio_answers(pairs)
    is_class = answers["label"].isin(CLASSES)
    wrong = answers["label"] != answers["truth"]
    analyses = [analysis for _, analysis in pairs]
    scale, fit = labelled.scale, labelled.class_fit
    of_session = session_ratios(analyses)
    said = analyses[0].parameters.get("session", {})
    withheld = bool(of_session["fraction"].isna().all())
    note = of_session["note"].iloc[0]
    return {
        "clusters": len(answers),
        "right": (answers["best"] == answers["truth"]).mean(),
        "labelled": is_class.mean(),
        "sure_but_wrong": (is_class & wrong & (answers["confidence"] > CONFIDENT)).mean(),
        **{f"{name}_intervals": held(ratios, name) for name in ("image", "session") if len(ratios)},
        "answer": said.get("answer", ""),
        "warned": bool(session_doubts(said)) or withheld or CONDITIONS_DIFFER in note,
        "rests_on_sizes": bool(said.get("relies_on_sizes")),
        "size_error": np.nan if scale is None else scale.size_error,
        "strength": np.nan if fit is None else fit.strength,
        "note": note,
        "images_warned": np.mean([has_warning(x) for x in analyses]),
    }


def session_ratios(analyses: Sequence[Analysis]) -> pd.DataFrame:
    """Return the ratios of a session, with the note on them."""
    table = pd.concat([x.table for x in analyses], ignore_index=True)
    return class_ratios(table, CLASSES, scope="all", limits=limits_of(analyses))


def has_warning(analysis: Analysis) -> bool:
    """Return whether an image has a warning other than one of few clusters or of its session."""
    parameters = {k: v for k, v in analysis.parameters.items() if k != "session"}
    found = image_warnings(analysis.table, parameters)
    return any(not text.startswith("Only") for text in found)


def measure(job: tuple[str, int], build: Path, isomers: int) -> dict[str, object]:
    """Score a session of a case."""
    name, seed = job
    library = read_or_build_library(build / f"isomers_{isomers}.npz", SIZES, ISOMERS, isomers)
    return {"case": name, "seed": seed, **score(*analyse_session(CASES[name], library, seed))}


def summary(scores: pd.DataFrame) -> str:
    """Return how many sessions are wrong and sure, and of how many something is said."""
    wrong = scores["sure_but_wrong"] > MAX_SURE_BUT_WRONG
    said = wrong & scores[["warned", "rests_on_sizes"]].astype(bool).any(axis=1)
    sound = scores[scores["case"].map(lambda name: CASES[name].is_sound)]
    each = "each of them" if said.sum() == wrong.sum() else f"{said.sum()} of them"
    return (
        f"**In {wrong.sum()} of {len(scores)} simulated sessions of {scores['case'].nunique()} "
        f"kinds, more than {100 * MAX_SURE_BUT_WRONG:.0f} % of the clusters had a wrong label with "
        f"a confidence above {CONFIDENT}. The program warned of {each}, or said that it rests on "
        f"the pixel size; it warned of {sound['warned'].sum()} of {len(sound)} sound sessions.** "
        f"[The table]({PAGE.name}#sessions-that-the-model-does-not-expect) shows each kind."
    )


def page(scores: pd.DataFrame) -> list[str]:
    """Return the lines of the section of the page."""
    cases = [name for name in CASES if (scores["case"] == name).any()]
    flags = ["warned", "rests_on_sizes"]
    means = scores.groupby("case").mean(numeric_only=True).loc[cases]
    means[flags] = scores.groupby("case")[flags].agg(lambda x: x.astype(float).mean())
    rows = [
        (
            name,
            f"{row['right']:.2f}",
            per_cent(row["sure_but_wrong"]),
            number(row["image_intervals"], 2),
            number(row["session_intervals"], 2),
            per_cent(row["warned"]),
            per_cent(row["rests_on_sizes"]),
            per_cent(row["images_warned"]),
        )
        for name, row in means.iterrows()
    ]
    columns = (
        "session",
        "right",
        "sure but wrong",
        "image intervals hold",
        "session intervals hold",
        "warned",
        "rests on sizes",
        "images warned",
    )
    sound = scores[scores["case"].isin([n for n in cases if CASES[n].is_sound])]
    flagged = scores[flags].astype(bool).any(axis=1)
    wrong = scores["sure_but_wrong"] > MAX_SURE_BUT_WRONG
    silent = scores.loc[wrong & ~flagged, "case"]
    names = ("image_intervals", "session_intervals")
    wide = means.index[(means[list(names)] < MIN_INTERVALS).any(axis=1)]
    text = [
        "## Sessions that the model does not expect",
        "",
        f"{len(scores)} sessions of {len(cases)} kinds, "
        f"{span(scores.groupby('case').size(), 0)} of each, of {N_IMAGES} images, or "
        f"{N_OF_ONE_SIZE} of one size; isomers and conditions are of seeds on which no "
        "setting was chosen. *Sure but wrong*: share of the clusters with a wrong label and a "
        f"confidence above {CONFIDENT}. *Warned*: sessions of which it is said that their labels "
        "may be wrong together, or whose fractions are withheld. *Rests on sizes*: sessions of "
        "which it is said that pixel size and focus decide which classes they are. *Images "
        "warned*: images with a warning of their own, other than that they have few clusters.",
        "",
        *markdown_table(columns, rows),
        f"Of {len(sound)} sound sessions (the first {sum(CASES[n].is_sound for n in cases)} rows) "
        f"{int(sound['warned'].sum())} are warned of (aim: {per_cent(MAX_FALSE_ALARMS)} at most). "
        f"In {int(wrong.sum())} of all sessions, more than {per_cent(MAX_SURE_BUT_WRONG)} of "
        f"the clusters are sure but wrong. {int((wrong & flagged).sum())} of these are warned of "
        "or said to rest on sizes"
        + (
            f"; nothing is said of one of {'; '.join(sorted(set(silent)))}. "
            if len(silent)
            else ". "
        )
        + (
            f"Intervals of images or of sessions hold in less than {MIN_INTERVALS} in: "
            f"{'; '.join(wide)}."
            if len(wide)
            else ""
        ),
    ]
    return text


def main() -> None:
    """Score the sessions that are missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=10, help="of each case")
    parser.add_argument("--seed", type=int, default=80000, help="of the first session and isomers")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--build", type=Path, default=BUILD)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=CASES, metavar="CASE")
    parser.add_argument("--text-only", action="store_true", help="write the section only")
    options = parser.parse_args()
    options.build.mkdir(parents=True, exist_ok=True)
    path = options.build / "sessions.csv"
    kept = pd.read_csv(path, keep_default_na=False, na_values=[""]) if path.exists() else None
    rows = [] if kept is None else kept.to_dict("records")
    done = {(row["case"], row["seed"]) for row in rows}
    seeds = range(options.seed, options.seed + options.sessions)
    jobs = [job for job in product(options.cases, seeds) if job not in done]
    if options.text_only:
        jobs = []
    library = options.build / f"isomers_{options.seed}.npz"
    read_or_build_library(library, SIZES, ISOMERS, options.seed)
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        of_build = partial(measure, build=options.build, isomers=options.seed)
        for row in pool.map(of_build, jobs):
            rows.append(row)
            write_table(pd.DataFrame(rows), path)
            print(row, flush=True)
    scores = pd.read_csv(path)
    write_section(PAGE, SECTION, page(scores))
    write_section(SUMMARY_PAGE, SECTION, [summary(scores)])
    draw_examples(options.build, options.seed)


if __name__ == "__main__":
    main()
