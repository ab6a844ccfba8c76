"""Recompute ``explanation/crowd.md``: a simulated crowd, its consensus, and what is learnt from it.

    nice -n 19 python docs/scripts/make_crowd.py

Takes about ten minutes on one core. Forty people of known skill mark thirty simulated fields in the
page for browsers: their answers are written as the page writes them, and read as `atomicity
consensus` reads them. Replaces the sections between the markers of the page.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
from scipy import ndimage
from scipy.special import expit

from napari_atomicity.io.pack_options import PackOptions
from napari_atomicity.project.packs.browser_packs import (
    BrowserPack,
    PackRequest,
    make_browser_packs,
)
from napari_atomicity.project.packs.filled_packs import Filled
from napari_atomicity.project.packs.returned import read_packs
from napari_atomicity.simulation.atom_fields import AtomField, AtomFieldSettings, simulate_atoms
from napari_atomicity.statistics.annotators.agreement import mark_self_agreement
from napari_atomicity.statistics.annotators.consensus import Consensus, consensus
from napari_atomicity.statistics.intervals import percentile_interval
from napari_atomicity.statistics.matching import match
from napari_atomicity.training.atoms.evaluation import FoldScores
from napari_atomicity.training.atoms.folds import predict_held_out, train_network
from napari_atomicity.training.atoms.labelled import LabelledImage
from napari_atomicity.training.atoms.settings import AtomRecipe, AtomTrainingSettings
from page_sections import markdown_table, span, write_section

PAGE = Path(__file__).resolve().parents[1] / "explanation" / "crowd.md"
N_PEOPLE, N_FIELDS, N_MARKS = 40, 30, 8000
N_TEST, N_CHOOSING = 14, 6
SEED, TEST_SEED = 4100, 5200
TOLERANCE_NM = 0.13
FIELD = AtomFieldSettings(
    (400, 400), 0.035, atoms_per_nm2=0.3, contrast=0.45, atom_scatter=0.35, carbon_nm=20.0
)
SEEDS = (0,)
TRAINING = {
    "width": 8, "steps": 400, "crop_px": 96, "batch": 8, "learning_rate": 8e-3, "simulated": 0.0,
    "strength": 0.3, "averaging": 0.98,
}  # fmt: skip
BOOTSTRAPS = 2000


@dataclass(frozen=True)
class Person:
    """What is known of a simulated person."""

    name: str
    ability: float  # logit of the probability to mark an atom of mean brightness
    credulity: float  # logit of the probability to mark a bright spot of the support
    scatter_nm: float  # standard deviation of a mark along an axis


def draw_people(rng: np.random.Generator) -> list[Person]:
    """Draw people from beginners to experts."""
    return [
        Person(
            f"person {i + 1:02}", rng.normal(1.3, 0.9), rng.normal(-3.2, 0.8),
            rng.uniform(0.02, 0.05),
        )
        for i in range(N_PEOPLE)
    ]  # fmt: skip


# ---- what there is to be marked
@dataclass(frozen=True, eq=False)
class Scene:
    """A field, its atoms, and bright spots of the support that people may take for atoms."""

    field: AtomField
    atoms_px: np.ndarray
    brightness: np.ndarray
    spots_px: np.ndarray
    height: np.ndarray


def make_scene(seed: int) -> Scene:
    """Simulate a field, and find the local maxima that are no atom."""
    field = simulate_atoms(FIELD, seed, f"field-{seed}.tif")
    atoms = field.truth[["y_px", "x_px"]].to_numpy(float)
    inside = ((atoms >= 0) & (atoms <= np.array(FIELD.shape_px) - 1)).all(axis=1)
    atoms, bright = atoms[inside], field.truth["intensity_atoms"].to_numpy(float)[inside]
    pixels = np.asarray(field.micrograph.data, float)
    sigma = 0.09 / FIELD.pixel_size_nm
    smooth = ndimage.gaussian_filter(pixels, sigma) - ndimage.gaussian_filter(pixels, 4 * sigma)
    top = smooth == ndimage.maximum_filter(smooth, round(0.25 / FIELD.pixel_size_nm))
    spots = np.argwhere(top).astype(float)
    off = np.linalg.norm(spots[:, None] - atoms[None], axis=2).min(axis=1)
    spots = spots[off > 2 * TOLERANCE_NM / FIELD.pixel_size_nm]
    height = smooth[tuple(spots.astype(int).T)]
    return Scene(field, atoms, bright, spots, (height - height.mean()) / height.std())


def marks_of(person: Person, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Draw the marks (y, x, uncertain) of a person: faint atoms are faint for everyone."""
    of_atoms = expit(person.ability + 5 * (scene.brightness - 1))
    of_spots = expit(person.credulity + 1.5 * (scene.height - 2))
    chance = np.concatenate([of_atoms, of_spots])
    places = np.concatenate([scene.atoms_px, scene.spots_px])
    chosen = rng.random(len(chance)) < chance
    scatter = rng.normal(0, person.scatter_nm / FIELD.pixel_size_nm, places.shape)
    unsure = rng.random(len(chance)) < np.where(chance < 0.6, 0.35, 0.05)
    marks = np.column_stack([places + scatter, unsure])[chosen]
    inside = (marks[:, :2] >= 0).all(axis=1) & (marks[:, :2] <= np.array(FIELD.shape_px) - 1).all(
        axis=1
    )
    return np.asarray(marks[inside])


# ---- out to people and back
def answers(pack: BrowserPack, person: Person, marks: Mapping[int, np.ndarray]) -> dict[str, Any]:
    """Return a file of answers as the page writes it; ``marks`` are those of each item."""
    items = [
        {
            "item": item,
            "complete": True,
            "marks": [
                {"y_px": float(y), "x_px": float(x), "uncertain": bool(u)} for y, x, u in places
            ],
        }
        for item, places in marks.items()
    ]
    session = f"{int(person.name.split()[-1]):032x}"
    return {
        "format": 1, "kind": "answers", "pack": pack.manifest.sha256, "session": session,
        "name": person.name, "saved": "2026-01-01", "items": items,
        "manifest": asdict(pack.manifest),
    }  # fmt: skip


def write_images(scenes: Sequence[Scene], folder: Path) -> None:
    """Write the fields as calibrated TIFF files."""
    resolution = (1 / FIELD.pixel_size_nm,) * 2
    for scene in scenes:
        data = np.clip(scene.field.micrograph.data, 0, 65535).astype(np.uint16)
        path = folder / scene.field.micrograph.name
        tifffile.imwrite(path, data, imagej=True, resolution=resolution, metadata={"unit": "nm"})


def ask(
    people: Sequence[Person], scenes: Sequence[Scene], rng: np.random.Generator, n_marks: int
) -> Filled:
    """Give fields out to people in turn, until there are enough marks; read what they answer."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "images").mkdir()
        (folder / "answers").mkdir()
        write_images(scenes, folder / "images")
        options = PackOptions(examples=False, repeats=0.1, max_mb=500)
        (pack,) = make_browser_packs([folder / "images"], PackRequest(options))
        by_name = {scene.field.micrograph.name: scene for scene in scenes}
        of_item = [by_name[pack.manifest.images[i.image].name] for i in pack.manifest.items]
        once = [i for i, item in enumerate(pack.manifest.items) if not item.repeat]
        again = {item.image: i for i, item in enumerate(pack.manifest.items) if item.repeat}
        marks: dict[str, dict[int, np.ndarray]] = {person.name: {} for person in people}
        total = turn = 0
        while total < n_marks:
            order = rng.permutation(once)
            for item in order:
                person = people[turn % len(people)]
                turn += 1
                own = marks[person.name]
                if item in own or total >= n_marks:
                    continue
                own[int(item)] = marks_of(person, of_item[item], rng)
                total += len(own[int(item)])
                repeated = again.get(pack.manifest.items[item].image)
                if repeated is not None:
                    own[repeated] = marks_of(person, of_item[item], rng)
        for person in people:
            text = json.dumps(answers(pack, person, marks[person.name]))
            (folder / "answers" / f"{person.name}.json").write_text(text)
        return read_packs([folder / "answers"])


# ---- scores
def counts_of(points: Mapping[str, np.ndarray], scenes: Sequence[Scene]) -> np.ndarray:
    """Return matched, given and true atoms (fields, 3) of points in nm."""
    rows = []
    for scene in scenes:
        true = scene.atoms_px * FIELD.pixel_size_nm
        given = points.get(scene.field.micrograph.name, np.zeros((0, 2)))
        rows.append((len(match(given, true, 0.15)), len(given), len(true)))
    return np.array(rows, float)


def f1_of(counts: np.ndarray) -> np.ndarray:
    """Return F1 of counts (…, fields, 3)."""
    matched, given, true = np.moveaxis(counts.sum(axis=-2), -1, 0)
    return np.asarray(2 * matched / (given + true))


def drawn(n: int) -> np.ndarray:
    """Return which fields are in each draw of a bootstrap."""
    return np.random.default_rng(0).integers(0, n, (BOOTSTRAPS, n))


def with_interval(counts: np.ndarray) -> str:
    """Return F1 with its 95 % interval over fields."""
    low, high = percentile_interval(f1_of(counts[drawn(len(counts))]))
    return f"{f1_of(counts):.3f} ({low:.3f}–{high:.3f})"


def difference(a: np.ndarray, b: np.ndarray) -> str:
    """Return the difference of F1 with its 95 % interval over the same fields."""
    rows = drawn(len(a))
    low, high = percentile_interval(f1_of(a[rows]) - f1_of(b[rows]))
    return f"{f1_of(a) - f1_of(b):+.3f} ({low:+.3f} to {high:+.3f})".replace("-", "−")


def by_image(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the positions in nm of each image."""
    return {str(k): own[["y_nm", "x_nm"]].to_numpy(float) for k, own in table.groupby("image")}


def everything_by(person: Person, scenes: Sequence[Scene], seed: int) -> dict[str, np.ndarray]:
    """Return the marks in nm of one person who marks all fields alone."""
    rng = np.random.default_rng(seed)
    return {
        scene.field.micrograph.name: marks_of(person, scene, rng)[:, :2] * FIELD.pixel_size_nm
        for scene in scenes
    }


def expected_f1(person: Person, scenes: Sequence[Scene], n_draws: int = 3) -> float:
    """Return the F1 of a person in repeated draws."""
    drawn_again = (everything_by(person, scenes, 100 + i) for i in range(n_draws))
    return float(np.mean([f1_of(counts_of(points, scenes)) for points in drawn_again]))


# ---- models
def labelled(scene: Scene, points_nm: np.ndarray, certainty: np.ndarray | None) -> LabelledImage:
    """Return a field with the marks that a network learns."""
    points = points_nm / FIELD.pixel_size_nm
    targets = None if certainty is None else np.column_stack([points, certainty])
    if certainty is not None:
        points = points[certainty >= 0.5]
    name = scene.field.micrograph.name
    pixels = np.asarray(scene.field.micrograph.data, np.float32)
    return LabelledImage(name, pixels, FIELD.pixel_size_nm, points, name, "crowd", targets)


def learn(images: Sequence[LabelledImage], tests: Sequence[LabelledImage]) -> np.ndarray:
    """Train networks; return the counts (N_TEST, 3) of test fields.

    The threshold of the score is that of the highest F1 in the first test fields, which are not
    among the counted ones; it is chosen so for every model.
    """
    networks = [train_network(images, AtomTrainingSettings(**TRAINING, seed=s)) for s in SEEDS]
    recipe = AtomRecipe(AtomTrainingSettings(**TRAINING))
    judged = [predict_held_out(networks, image, recipe) for image in tests]
    cuts = np.quantile(np.concatenate([one.score for one in judged[:N_CHOOSING]]), np.r_[0:1:200j])
    chosen = max(cuts, key=lambda cut: float(f1_of(_counts(judged[:N_CHOOSING], cut))))
    return _counts(judged[N_CHOOSING:], chosen)


def _counts(judged: Sequence[FoldScores], cut: float) -> np.ndarray:
    return np.array(
        [(o.right[o.score >= cut].sum(), (o.score >= cut).sum(), o.marked) for o in judged], float
    )


def train_all(
    scenes: Sequence[Scene], found: Consensus, alone: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Train on each kind of labels; return the counts of the test fields."""
    tests = [make_scene(TEST_SEED + i) for i in range(N_CHOOSING + N_TEST)]
    truth = [labelled(s, s.atoms_px * FIELD.pixel_size_nm, None) for s in tests]
    sites = found.sites[found.sites["posterior"] >= 0.05]
    soft, hard, none = {}, {}, np.zeros((0, 2))
    for name, own in sites.groupby("image"):
        places = own[["y_nm", "x_nm"]].to_numpy(float)
        soft[name] = places, own["posterior"].to_numpy(float)
        hard[name] = places[soft[name][1] >= 0.5]
    kinds = {
        "consensus with certainties": [labelled(s, *soft[_name(s)]) for s in scenes],
        "consensus without them": [labelled(s, hard[_name(s)], None) for s in scenes],
        **{
            who: [labelled(s, marks.get(_name(s), none), None) for s in scenes]
            for who, marks in alone.items()
        },
        "the truth": [labelled(s, s.atoms_px * FIELD.pixel_size_nm, None) for s in scenes],
    }
    counts = {}
    for kind, images in kinds.items():
        counts[kind] = learn(images, truth)
        print(kind, with_interval(counts[kind]), flush=True)
    return counts


def _name(scene: Scene) -> str:
    return scene.field.micrograph.name


# ---- the page
def crowd_section(
    filled: Filled, found: Consensus, scenes: Sequence[Scene], alone: Mapping[str, Any]
) -> list[str]:
    """Return the comparison of the consensus with single people."""
    together = counts_of(by_image(found.believed), scenes)
    rows = [("consensus", with_interval(together), "")]
    for who, points in alone.items():
        counts = counts_of(points, scenes)
        rows.append((who, with_interval(counts), difference(together, counts)))
    views = len(filled.looked) / len(scenes)
    lines = [
        f"{len(filled.marks):,} marks of {filled.looked['annotator'].nunique()} people in "
        f"{len(scenes)} fields with {int(together[:, 2].sum()):,} atoms; each field was seen by "
        f"{views:.1f} people on average.",
        "",
        *markdown_table(("Who marks", "F1 (95 %)", "Consensus minus this (95 %)"), rows),
    ]
    again = mark_self_agreement(
        filled.marks, filled.looked, filled.again_marks, filled.again_looked, TOLERANCE_NM
    )
    values = [row["f1"] for row in again]
    if values:
        lines.append(
            f"{len(values)} people marked a field twice: their F1 with themselves is "
            f"{span(values, 2)}, with a median of {np.median(values):.2f}. The median F1 of two "
            f"people is {found.pairs['f1'].median():.2f}. Simulated people decide anew each time; "
            "real ones agree better with themselves."
        )
    return lines


def skill_section(found: Consensus, people: Sequence[Person], scenes: Sequence[Scene]) -> list[str]:
    """Return how well the estimated rates of people follow the known ones."""
    known, estimated = [], []
    raters = found.raters.set_index("annotator")
    bright = np.concatenate([scene.brightness for scene in scenes])
    for person in people:
        if person.name in raters.index:
            known.append(expit(person.ability + 5 * (bright - 1)).mean())
            estimated.append(raters.loc[person.name, "sensitivity"])
    known, estimated = np.array(known), np.array(estimated)
    n_atoms = sum(len(scene.atoms_px) for scene in scenes)
    missed = n_atoms - int(counts_of(by_image(found.sites), scenes)[:, 0].sum())
    return [
        f"The estimated sensitivities correlate with the known ones with r = "
        f"{np.corrcoef(known, estimated)[0, 1]:.2f}; the mean difference (estimated minus known) "
        f"is {(estimated - known).mean():+.2f}. {missed} of {n_atoms:,} atoms were marked by "
        f"nobody, and the consensus expects {found.missed_by_all:.0f}.".replace("-", "−")
    ]


def model_section(counts: Mapping[str, np.ndarray]) -> list[str]:
    """Return the comparison of models."""
    reference = counts["consensus with certainties"]
    rows = [
        (kind, with_interval(own), "" if own is reference else difference(reference, own))
        for kind, own in counts.items()
    ]
    columns = ("Trained on", "F1 in new fields (95 %)", "With certainties minus this (95 %)")
    return [
        *markdown_table(columns, rows),
        f"A small network (width {TRAINING['width']}, {TRAINING['steps']} steps) for each kind of "
        f"labels, in {N_TEST} new fields against the truth.",
    ]


def main() -> None:
    """Simulate the crowd, merge, train and write the page."""
    rng = np.random.default_rng(SEED)
    people = draw_people(rng)
    scenes = [make_scene(SEED + i) for i in range(N_FIELDS)]
    filled = ask(people, scenes, rng, N_MARKS)
    found = consensus(filled.marks, filled.looked, TOLERANCE_NM)
    # By other draws than those that are scored: the best of forty by chance is not the most able.
    ranked = sorted(people, key=lambda person: -expected_f1(person, scenes))
    alone = {
        "the best person, alone in all fields": everything_by(ranked[0], scenes, 9),
        "a median person, alone in all fields": everything_by(ranked[N_PEOPLE // 2], scenes, 9),
    }
    write_section(PAGE, "crowd", crowd_section(filled, found, scenes, alone))
    write_section(PAGE, "skill", skill_section(found, people, scenes))
    print(PAGE.read_text("utf-8"), flush=True)
    named = {who.replace(", alone in all fields", ""): marks for who, marks in alone.items()}
    write_section(PAGE, "models", model_section(train_all(scenes, found, named)))
    print(PAGE.read_text("utf-8"))


if __name__ == "__main__":
    main()
