"""Recompute the sections on sessions in ``explanation/accuracy.md`` and in its long tables.

    python docs/scripts/make_sessions.py [--rounds 10] [--workers 2]
        [--data ../shared/data/clusters] [--text-only]

The sessions are those of ``atomicity benchmark``, which is written to ``build/benchmark`` and
checked there (delete it to change ``--rounds``). Their isomers and conditions are neither those of
the training of the shipped models nor those on which the joint scale of a session was tuned. The
folder of data, if it is there, adds sessions of another program. The answers for all clusters are
kept in ``build/sessions``; ``--text-only`` writes the pages from them (``sessions_page.py``).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from napari_atomicity import __version__, load
from napari_atomicity.core.acquisition_session import AcquisitionSession
from napari_atomicity.core.tables.cluster_table import AGGREGATE, UNKNOWN, probability_columns
from napari_atomicity.models.analysis import Analysis, limits_of
from napari_atomicity.models.files import find_model, read_model
from napari_atomicity.models.inference import Classifier, load_classifier
from napari_atomicity.pipeline.analysis import classify_clusters, detect_clusters
from napari_atomicity.pipeline.session_labels import label_session
from napari_atomicity.simulation.sessions import KINDS
from napari_atomicity.statistics.ratios.ratios import class_ratios
from napari_atomicity.training.calibration.evaluation import expected_calibration_error
from napari_atomicity.training.data import match
from napari_atomicity.validation.benchmark import (
    CLASSES,
    CROPS,
    EIGHT_BITS,
    WHOLE,
    BenchmarkImage,
    BenchmarkSettings,
    crop_clusters,
    read_session,
    read_tables,
    session_name,
    sessions_of,
    to_8_bit,
    write_benchmark,
)
from napari_atomicity.validation.request import BENCHMARK_SEED
from sessions_page import ALONE, CONFIDENT, SESSION, write_pages

HERE = Path(__file__).resolve().parents[1]
BUILD = HERE.parent / "build" / "sessions"
BENCHMARK = HERE.parent / "build" / "benchmark"
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
    return label_session(analyses, model, session=AcquisitionSession("", (), known)).analyses


METHODS: dict[str, LabelSession | None] = {
    "0.1": by_diameters,
    ALONE: None,
    SESSION: jointly,
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
        rng = np.random.default_rng([BENCHMARK_SEED, 0])
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
    # the mixture has no answer for touching clusters: `--labels mixture` takes the network there
    mixture, network = own["label_mixture"].fillna(""), own["label_network"]
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
            "mixture": mixture.where(mixture != "", network).to_numpy(object),
            "network": network.to_numpy(object),
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


# ---- the scores
@dataclass(frozen=True)
class Scores:
    """Figures of one row and one method; NaN where there is nothing to count.

    ``mixture`` and ``network`` are the accuracies of the labels by these, ``wrong`` is of the
    labels given with more than 0.9, ``labelled`` the share of the clusters with a class;
    ``of_images`` and ``of_sessions`` are the shares of intervals that hold the truth.
    """

    accuracy: float
    mixture: float
    network: float
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
        **{name: accuracy_of(clusters, name) for name in ("mixture", "network")},
        r2=float(1 - ((true - said) ** 2).sum() / spread) if spread > 0 else np.nan,
        calibration=expected_calibration_error(confidence, right),
        wrong=float((clusters["label"] != clusters["truth"])[sure].mean()),
        labelled=float(labelled.mean()),
        of_images=held(ratios, "image"),
        of_sessions=held(ratios, "session"),
    )


def accuracy_of(clusters: pd.DataFrame, name: str) -> float:
    """The share of right labels of an estimator; NaN if an earlier run did not keep them."""
    return float((clusters[name] == clusters["truth"]).mean()) if name in clusters else np.nan


def held(ratios: pd.DataFrame, scope: str) -> float:
    """The share of the intervals that hold the true fraction."""
    own = ratios[(ratios["scope"] == scope) & ratios["fraction_low"].notna()]
    inside = (own["fraction_low"] <= own["true"] + 1e-9) & (
        own["true"] - 1e-9 <= own["fraction_high"]
    )
    return float(inside.mean())


def scores_of_classes(clusters: pd.DataFrame, ratios: pd.DataFrame) -> pd.DataFrame:
    """A row of each kind, form and method of the sessions that consist of classes."""
    clusters = clusters[clusters["group"] != "other sizes"]
    keys = ["group", "variant"]
    parts, ratios_of = (dict(tuple(table.groupby(keys))) for table in (clusters, ratios))
    groups, forms = (list(dict.fromkeys(clusters[name])) for name in keys)
    rows = []
    for key in ((group, form) for group in groups for form in forms):
        if key not in parts:
            continue
        for method in METHODS:
            own, ratio = (of[key][of[key]["method"] == method] for of in (parts, ratios_of))
            about = {
                "group": key[0],
                "form": key[1],
                "method": method,
                "images": len(own[["session", "image"]].drop_duplicates()),
                "clusters": len(own),
            }
            rows.append(about | asdict(scores(own, ratio)))
    return pd.DataFrame(rows)


def scores_of_other_sizes(clusters: pd.DataFrame) -> pd.DataFrame:
    """A row of each size that is not a class, and method."""
    sizes = np.array([int(c[2:]) for c in CLASSES])
    rows = []
    for label, own in clusters[clusters["group"] == "other sizes"].groupby("truth"):
        n = int(str(label)[2:])
        next_to = {f"Pt{sizes[sizes < n].max()}", f"Pt{sizes[sizes > n].min()}"}
        for method in METHODS:
            found = own[own["method"] == method]
            confident = found["label"].isin(CLASSES) & (found["confidence"] > CONFIDENT)
            holds = (found["n_low"] <= found["n"]) & (found["n"] <= found["n_high"])
            rows.append(
                {
                    "size": label,
                    "method": method,
                    "clusters": len(found),
                    "neighbour": found["label"].isin(next_to).mean(),
                    "unknown": (found["label"] == UNKNOWN).mean(),
                    "confident": confident.mean(),
                    "count": found["n_atoms"].mean(),
                    "held": holds.mean(),
                }
            )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared/data/clusters")
    parser.add_argument("--text-only", action="store_true", help="write the page from what is kept")
    options = parser.parse_args()
    if not options.text_only:
        measure(options.rounds, options.workers, options.data)
    clusters, ratios = (
        pd.read_csv(BUILD / f"{name}.csv", keep_default_na=False, na_values=[""])
        for name in ("clusters", "ratios")
    )
    whole = clusters["session"][clusters["variant"] == WHOLE]
    write_pages(
        scores_of_classes(clusters, ratios),
        scores_of_other_sizes(clusters),
        __version__,
        classifier().card.model_id,
        whole[whole.str.endswith(tuple("0123456789"))].nunique(),
    )


if __name__ == "__main__":
    main()
