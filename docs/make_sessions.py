"""Recompute the section on sessions in ``explanation/accuracy.md``.

    python docs/make_sessions.py [--rounds 10] [--workers 2] [--data ../shared/data/clusters]
                                 [--text-only]

The sessions are those of ``atomicity benchmark``, which is written to ``build/benchmark`` and
checked there (delete it to change ``--rounds``). Their isomers and conditions are neither those of
the training of the shipped models nor those on which the joint scale of a session was tuned. The
folder of data, if it is there, adds sessions of another program. The answers for all clusters are
kept in ``build/sessions``; ``--text-only`` writes the page from them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from napari_atomicity import __version__, load
from napari_atomicity.core.cluster_table import AGGREGATE, UNKNOWN, probability_columns
from napari_atomicity.models.analysis import Analysis, limits_of
from napari_atomicity.models.classifier import Classifier, load_classifier
from napari_atomicity.models.files import find_model, read_model
from napari_atomicity.pipeline.analysis import classify_clusters, detect_clusters
from napari_atomicity.pipeline.session_labels import label_session
from napari_atomicity.simulation.sessions import KINDS
from napari_atomicity.statistics.ratios import class_ratios
from napari_atomicity.training.data import match
from napari_atomicity.training.evaluation import expected_calibration_error
from napari_atomicity.validation.benchmark import (
    ISOMERS_PER_CLASS,
    read_session,
    read_tables,
    sessions_of,
    write_benchmark,
)
from napari_atomicity.validation.benchmark_images import (
    CLASSES,
    CLIPPED_PERCENT,
    CROP_PX,
    CROPS,
    CROPS_PER_IMAGE,
    EIGHT_BITS,
    LONE_ATOMS_PER_NM2,
    N_IMAGES,
    WHOLE,
    BenchmarkImage,
    crop_clusters,
    session_name,
    to_8_bit,
)
from napari_atomicity.validation.benchmark_settings import SEED, BenchmarkSettings

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "sessions"
BENCHMARK = HERE.parent / "build" / "benchmark"
PAGE = HERE / "explanation" / "accuracy.md"
BEGIN, END = "<!-- sessions: begin -->", "<!-- sessions: end -->"
CONFIDENT = 0.9
NOMINAL = {
    "m3a": (1, 0, 1, 0, 1),
    "m3b": (5, 0, 2, 0, 3),
    "m3c": (2, 0, 5, 0, 3),
    "m5a": (1, 1, 1, 1, 1),
    "m5b": (10, 15, 20, 25, 30),
    "m5c": (30, 10, 25, 10, 25),
}
"""Nominal compositions of the mixtures in the folder of data, as its README gives them."""
SHARED_SESSIONS = {
    "A, size-selected": {"train": "A, size-selected"},
    "A, mixtures": {"mixed": "A, mixtures"},
    "B": {"shifted": "B, mixtures", "shifted_single": "B, size-selected"},
}
"""Session → folders and how their images are called in the table."""
SIZE_SELECTED = ("one size per image", "A, size-selected", "B, size-selected")


@dataclass(frozen=True)
class Job:
    """A session in one form: ``name`` is that of a kind, with its seed, or of shared folders."""

    name: str
    seed: int | None
    form: str
    data: Path


# ---- the methods that are compared
Known = Mapping[str, Mapping[str, float]]
"""Name of an image → shares of its classes."""


LabelSession = Callable[[Sequence[Analysis], Classifier, Known], list[Analysis]]
"""Labels the clusters of all images of a session together, after each image was labelled alone."""


@cache
def earlier_classifier() -> Classifier:
    """The same network, which finds the scale as version 0.1 did: by intensities and diameters."""
    card, tensors = read_model(find_model("default"))
    return Classifier(replace(card, apparent_size=None), tensors, torch.device("cpu"))


def by_diameters(analyses: Sequence[Analysis], _: Classifier, __: Known) -> list[Analysis]:
    """Each image alone, as version 0.1 did."""
    return [classify_clusters(analysis, earlier_classifier()) for analysis in analyses]


def jointly(analyses: Sequence[Analysis], model: Classifier, known: Known) -> list[Analysis]:
    """All images with scales that they share."""
    return label_session(analyses, model, known=known).analyses


METHODS: dict[str, LabelSession | None] = {
    "0.1": by_diameters,
    "alone": None,
    "session": jointly,
}
"""Methods that are compared, the one that came first at the beginning; None: each image alone."""


# ---- the images
@cache
def classifier() -> Classifier:
    torch.set_num_threads(1)
    return load_classifier("default", "cpu")


def simulated(kind: str, seed: int, form: str) -> list[BenchmarkImage]:
    """A session of the benchmark."""
    return list(read_session(BENCHMARK, read_tables(BENCHMARK), session_name(kind, seed, form)))


def shared(name: str, data: Path) -> list[BenchmarkImage]:
    """A session of another program's images."""
    images = []
    for folder, group in SHARED_SESSIONS[name].items():
        truth_of = dict(tuple(pd.read_csv(data / folder / "truth.csv").groupby("image")))
        listed = pd.read_csv(data / folder / "images.csv")
        paths = {path.name: path for path in (data / folder).rglob("*.tif")}
        for image, sample in zip(listed["image"], listed["sample"], strict=True):
            truth = truth_of[image].rename(columns={"n": "n_atoms"}).astype({"border": bool})
            micrograph, composition = load(paths[image]), nominal_composition(sample)
            images.append(BenchmarkImage(micrograph, truth, group, sample, composition))
    return images


def nominal_composition(sample: str) -> dict[str, float]:
    """The nominal composition of a sample, such as A_m3a or B_s19."""
    code = sample.split("_")[1]
    if code.startswith("s"):
        return {f"Pt{code[1:]}": 1.0}
    parts = np.array(NOMINAL[code], float)
    return {c: float(p) for c, p in zip(CLASSES, parts / parts.sum(), strict=True) if p > 0}


def images_of(job: Job) -> list[BenchmarkImage]:
    if job.seed is not None:
        return simulated(job.name, job.seed, job.form)
    images = shared(job.name, job.data)
    if job.form == EIGHT_BITS:
        return [to_8_bit(image) for image in images]
    if job.form == CROPS:
        rng = np.random.default_rng([SEED, 0])
        return list(chain.from_iterable(crop_clusters(image, rng) for image in images))
    return images


# ---- the answers
def answers(job: Job) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What each method says of the clusters (one row each) and of the ratios of a session."""
    images = images_of(job)
    alone = [classify_clusters(detect_clusters(image.micrograph), classifier()) for image in images]
    clusters, ratios = [], []
    for variant, rows, known in variants(job, images):
        of_variant = [images[i] for i in rows]
        for method, label in METHODS.items():
            analyses = [alone[i] for i in rows]
            if label is not None:
                analyses = label(analyses, classifier(), known)
            scored = [
                (image, analysis)
                for image, analysis in zip(of_variant, analyses, strict=True)
                if image.micrograph.name not in known
            ]
            about = {"session": f"{job.name} {job.seed}", "variant": variant, "method": method}
            clusters += [cluster_answers(*pair).assign(**about) for pair in scored]
            ratios.append(ratio_answers(scored).assign(**about))
    return pd.concat(clusters, ignore_index=True), pd.concat(ratios, ignore_index=True)


def variants(job: Job, images: Sequence[BenchmarkImage]) -> list[tuple[str, list[int], Known]]:
    """Name, numbers of the images, and known samples of the sessions to label."""
    everything = list(range(len(images)))
    out: list[tuple[str, list[int], Known]] = [(job.form, everything, {})]
    if job.form != WHOLE or job.name == "other sizes":
        return out
    for label in CLASSES:
        own = [
            i
            for i, image in enumerate(images)
            if image.kind in SIZE_SELECTED and label in image.composition
        ]
        if own:
            out.append(("one size only", own, {}))
    told = images[0]
    out.append(("known sample", everything, {told.micrograph.name: told.composition}))
    return out


def cluster_answers(image: BenchmarkImage, analysis: Analysis) -> pd.DataFrame:
    """One row per detected cluster that the border does not cut and that is in the truth."""
    table, truth = analysis.table, image.truth
    rows, columns = match(table, truth, image.micrograph.calibrated())
    scored = (~truth["border"] & (truth["label"] != AGGREGATE)).to_numpy(bool)[columns]
    rows, columns = rows[scored], columns[scored]
    own = table.iloc[rows]
    p = np.nan_to_num(own[probability_columns(CLASSES)].to_numpy(float))
    best = np.array(CLASSES, object)[p.argmax(axis=1)] if len(p) else np.empty(0, object)
    return pd.DataFrame(
        {
            "group": image.kind,
            "sample": image.sample,
            "image": image.micrograph.name,
            "truth": truth["label"].to_numpy(object)[columns],
            "n": truth["n_atoms"].to_numpy(float)[columns],
            "best": best,
            "confidence": p.max(axis=1) if len(p) else np.empty(0),
            "label": own["label"].to_numpy(object),
            "n_atoms": own["n_atoms"].to_numpy(float),
            "n_low": own["n_atoms_low"].to_numpy(float),
            "n_high": own["n_atoms_high"].to_numpy(float),
        }
    )


def ratio_answers(pairs: Sequence[tuple[BenchmarkImage, Analysis]]) -> pd.DataFrame:
    """Fractions with their intervals and the truth: of images, samples and the whole session."""
    out = []
    for group in dict.fromkeys(image.kind for image, _ in pairs):
        of_group = [pair for pair in pairs if pair[0].kind == group]
        scopes = [("session", of_group)]
        for sample in dict.fromkeys(image.sample for image, _ in of_group):
            scopes.append(("sample", [pair for pair in of_group if pair[0].sample == sample]))
        scopes += [("image", [pair]) for pair in of_group]
        for scope, chosen in scopes:
            found = fractions(chosen)
            if found is not None:
                out.append(found.assign(group=group, scope=scope))
    return pd.concat(out, ignore_index=True) if out else pd.DataFrame()


def fractions(pairs: Sequence[tuple[BenchmarkImage, Analysis]]) -> pd.DataFrame | None:
    """Found and true fractions of all clusters of some images that the border does not cut."""
    truth = pd.concat([image.truth for image, _ in pairs])
    counts = truth.loc[~truth["border"], "label"].value_counts().reindex(CLASSES).fillna(0)
    if counts.sum() == 0:
        return None
    table = pd.concat([analysis.table for _, analysis in pairs], ignore_index=True)
    limits = limits_of(analysis for _, analysis in pairs)
    found = class_ratios(table, CLASSES, scope="all", limits=limits)
    found = found.set_index("class").loc[list(CLASSES)]
    columns = ["fraction", "fraction_low", "fraction_high"]
    return found[columns].assign(true=counts / counts.sum()).reset_index()


def jobs(rounds: int, data: Path) -> list[Job]:
    """All sessions in all forms, the long ones first."""
    out = []
    if data.is_dir():
        out += [
            Job(name, None, form, data)
            for form in (WHOLE, EIGHT_BITS, CROPS)
            for name in SHARED_SESSIONS
        ]
    planned = sessions_of(BenchmarkSettings(tuple(KINDS), rounds))
    planned.sort(key=lambda session: (session[1], session[2] != WHOLE))
    return out + [Job(kind, seed, form, data) for kind, seed, form in planned]


def measure(rounds: int, workers: int, data: Path) -> None:
    """Compute all answers and keep them."""
    BUILD.mkdir(parents=True, exist_ok=True)
    write_benchmark(BENCHMARK, BenchmarkSettings(rounds=rounds), workers)
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        found = []
        planned = jobs(rounds, data)
        for i, one in enumerate(pool.map(answers, planned)):
            found.append(one)
            print(f"{i + 1} of {len(planned)} sessions", flush=True)
    for name, parts in zip(("clusters", "ratios"), zip(*found, strict=True), strict=True):
        pd.concat(parts, ignore_index=True).to_csv(BUILD / f"{name}.csv", index=False)


# ---- the page
@dataclass(frozen=True)
class Scores:
    """Figures of one row and one method; NaN where there is nothing to count.

    ``wrong`` is of the labels given with more than 0.9, ``labelled`` the share of the clusters with
    a class; ``of_images`` and ``of_sessions`` are the shares of intervals that hold the truth.
    """

    accuracy: float
    r2: float
    calibration: float
    wrong: float
    labelled: float
    of_images: float
    of_sessions: float


def scores(clusters: pd.DataFrame, ratios: pd.DataFrame) -> Scores:
    right = (clusters["best"] == clusters["truth"]).to_numpy()
    confidence = clusters["confidence"].to_numpy()
    labelled = clusters["label"].isin(CLASSES)
    sure = labelled & (confidence > CONFIDENT)
    samples = ratios[(ratios["scope"] == "sample") & ratios["fraction"].notna()]
    true, said = samples["true"].to_numpy(), samples["fraction"].to_numpy()
    spread = ((true - true.mean()) ** 2).sum()
    return Scores(
        accuracy=float(right.mean()),
        r2=float(1 - ((true - said) ** 2).sum() / spread) if spread > 0 else np.nan,
        calibration=expected_calibration_error(confidence, right),
        wrong=float((clusters["label"] != clusters["truth"])[sure].mean()),
        labelled=float(labelled.mean()),
        of_images=held(ratios, "image"),
        of_sessions=held(ratios, "session"),
    )


def held(ratios: pd.DataFrame, scope: str) -> float:
    """The share of the intervals that hold the true fraction."""
    own = ratios[(ratios["scope"] == scope) & ratios["fraction_low"].notna()]
    inside = (own["fraction_low"] <= own["true"] + 1e-9) & (
        own["true"] - 1e-9 <= own["fraction_high"]
    )
    return float(inside.mean())


def table_of_classes(clusters: pd.DataFrame, ratios: pd.DataFrame) -> list[str]:
    """The lines of the table of all sessions that consist of classes."""
    lines = [
        "| sessions | form | images | clusters | accuracy | ratio R² | calibration error | sure "
        "but wrong | labelled | intervals of images | intervals of sessions |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    clusters = clusters[clusters["group"] != "other sizes"]
    keys = ["group", "variant"]
    parts, ratios_of = (dict(tuple(table.groupby(keys))) for table in (clusters, ratios))
    groups, forms = (list(dict.fromkeys(clusters[name])) for name in keys)
    for key in ((group, form) for group in groups for form in forms):
        if key not in parts:
            continue
        own, ratio = parts[key], ratios_of[key]
        methods = [m for m in METHODS if (own["method"] == m).any()]
        columns = [scores(own[own["method"] == m], ratio[ratio["method"] == m]) for m in methods]
        first = own[own["method"] == methods[0]]
        images = len(first[["session", "image"]].drop_duplicates())
        cells = [*map(str, key), str(images), str(len(first))]
        for name, digits in (
            ("accuracy", 3), ("r2", 2), ("calibration", 3), ("wrong", 3), ("labelled", 2),
            ("of_images", 2), ("of_sessions", 2),
        ):  # fmt: skip
            cells.append(" → ".join(number(getattr(c, name), digits) for c in columns))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "–"


def table_of_other_sizes(clusters: pd.DataFrame) -> list[str]:
    """The lines of the table of sizes that are no class."""
    lines = [
        "| size | clusters | neighbouring class | unknown | confident class | mean count "
        "| interval of the count contains the truth |",
        "|---|---|---|---|---|---|---|",
    ]
    sizes = np.array([int(c[2:]) for c in CLASSES])
    for label, own in clusters[clusters["group"] == "other sizes"].groupby("truth"):
        n = int(str(label)[2:])
        next_to = {f"Pt{sizes[sizes < n].max()}", f"Pt{sizes[sizes > n].min()}"}
        cells = [str(label), str((own["method"] == next(iter(METHODS))).sum())]
        columns = []
        for method in METHODS:
            said = own[own["method"] == method]
            confident = said["label"].isin(CLASSES) & (said["confidence"] > CONFIDENT)
            holds = (said["n_low"] <= said["n"]) & (said["n"] <= said["n_high"])
            columns.append(
                [
                    number(said["label"].isin(next_to).mean(), 2),
                    number((said["label"] == UNKNOWN).mean(), 2),
                    number(confident.mean(), 2),
                    number(said["n_atoms"].mean(), 1),
                    number(holds.mean(), 2),
                ]
            )
        cells += [" → ".join(column) for column in zip(*columns, strict=True)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


INTRODUCTION = """## Sessions

Made by `docs/make_sessions.py`, also in `make accuracy`; version {version}, model `{model}`.

**Images.** There are {n_sessions} simulated sessions of {n_images} images each (seeds from {seed}),
which `atomicity benchmark` writes for others ([files and SHA-256](../reference/benchmark.md)), with
{isomers} isomers of each size that were not used for training or tuning. Conditions are drawn once
for each session. Between its images, the gain scatters by 9 to 14 %, dose and support by 10 % and
the focus by 2 nm. A and B are the images of another program, where their folder is available. A is
`train/`, as a session without its labels, and `mixed/`. B is `shifted/` with `shifted_single/` as
one session.

**Forms.** *whole*: complete fields; *one size only*: the images of each size as a separate session;
*known sample*: the composition of one image is known, and that image is not scored; *crops*: {crop}
pixels around {crops} clusters of each image; *8 bits*: clipped by {clipped} % at both ends; *lone
atoms*: {lone} per nm² between the clusters.

**Kinds.** {kinds}.

**Columns.** {methods} *Accuracy* and *calibration error* refer to the most probable class of all
clusters that are not cut by the border, without aggregates. *sure but wrong* is the fraction of
wrong labels among those with a confidence above {confident}. *labelled* is the fraction of clusters
whose label is a class. R² is that of the counted fractions over samples and classes. The last
columns are the fractions of 95 % intervals that contain the true fraction, of an image and a class
or of a session and a class. A and B are one session each, so they have five intervals. *images*
counts those with clusters to score.
"""


def page(clusters: pd.DataFrame, ratios: pd.DataFrame) -> str:
    """The page with the section."""
    own = clusters[clusters["session"].str.endswith(tuple("0123456789"))]
    introduction = INTRODUCTION.format(
        version=__version__,
        model=classifier().card.model_id,
        n_sessions=own.loc[own["variant"] == "whole", "session"].nunique(),
        n_images=N_IMAGES,
        seed=SEED,
        isomers=ISOMERS_PER_CLASS,
        crop=CROP_PX,
        crops=CROPS_PER_IMAGE,
        clipped=CLIPPED_PERCENT,
        lone=LONE_ATOMS_PER_NM2,
        kinds="; ".join(f"*{kind}*: {samples}" for kind, samples in KINDS.items()),
        methods="Values: version 0.1, each image alone → each image alone → as a session.",
        confident=CONFIDENT,
    )
    # one line for each paragraph
    paragraphs = [text.replace("\n", " ").strip() for text in introduction.split("\n\n")]
    lines = [
        BEGIN,
        *chain.from_iterable((text, "") for text in paragraphs),
        *table_of_classes(clusters, ratios),
        "",
        "Sizes that are not classes, in sessions without clusters of the classes:",
        "",
        *table_of_other_sizes(clusters),
        "",
        END,
    ]
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    tail = rest.partition(END)[2]
    return f"{head.rstrip()}\n\n" + "\n".join(lines) + (tail or "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared/data/clusters")
    parser.add_argument("--text-only", action="store_true", help="write the page from what is kept")
    options = parser.parse_args()
    if not options.text_only:
        measure(options.rounds, options.workers, options.data)
    kept = [
        pd.read_csv(BUILD / f"{name}.csv", keep_default_na=False, na_values=[""])
        for name in ("clusters", "ratios")
    ]
    PAGE.write_text(page(*kept), encoding="utf-8")


if __name__ == "__main__":
    main()
