"""Recompute the tables of ``explanation/single_atom_calibration.md``: counts of atoms, and species.

    python docs/scripts/make_single_atom_calibration.py

Needs the extra `simulation`; takes some ten minutes on two cores. All fields are simulated, with
known numbers of atoms. Atoms are detected by a simple detector (Laplacian of Gaussian of the local
contrast, with probabilities calibrated by logistic regression on other fields), so that the results
do not depend on a trained network, and then by `find_atoms` with the shipped model. Replaces the
tables between the markers of the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from rich.progress import track
from scipy import ndimage
from scipy.spatial import KDTree
from sklearn.linear_model import LogisticRegression

from napari_atomicity.atoms.analysis import find_atoms
from napari_atomicity.atoms.completeness import Completeness, estimate_completeness
from napari_atomicity.atoms.counting import count_atoms_by_intensity
from napari_atomicity.atoms.finding.candidates import local_contrast
from napari_atomicity.atoms.finding.finder import AtomModel, load_atom_model
from napari_atomicity.atoms.injection import inject_atoms
from napari_atomicity.atoms.regions import integrate, make_cluster_mask
from napari_atomicity.atoms.species import find_species
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.detection.clusters import detect
from napari_atomicity.simulation.atom_fields import AtomFieldSettings, simulate_atoms
from napari_atomicity.simulation.field_settings import FieldSettings
from napari_atomicity.simulation.fields import simulate_field
from napari_atomicity.simulation.structures import library_of

PAGE = Path(__file__).resolve().parents[1] / "explanation" / "single_atom_calibration.md"
SIZES = (19, 30, 41, 55, 70)
CLASSES = tuple(f"Pt{n}" for n in SIZES)
FIELDS, CALIBRATION_FIELDS = 16, 6
FIRST_SEED = 1300
"""Smaller seeds were used for the development of the method."""
FLOOR, SURE = 0.03, 0.5
NEAR_NM = 0.12
CONDITIONS = [(0.2, 0.3), (0.3, 0.3), (0.4, 0.3), (0.4, 0.8)]
"""Contrast of an atom above the support, and atoms per nm²."""
HEAVY_LIGHT = {"Pt, Pd": (78, 46), "Pt, Cu": (78, 29)}


@dataclass(frozen=True, eq=False)
class KnownField:
    """A field with known atoms: clusters (positions in pixels, numbers) and isolated atoms."""

    micrograph: Micrograph
    centres: np.ndarray
    numbers: np.ndarray
    isolated: np.ndarray


def thick(contrast: float, density: float, seed: int) -> KnownField:
    """Simulate faint atoms on thick carbon with a scatter of 35 %, as in experimental images."""
    settings = AtomFieldSettings(clusters=SIZES, atoms_per_nm2=density, contrast=contrast)
    field = simulate_atoms(replace(settings, shape_px=(640, 640)), seed)
    truth = field.truth[field.truth["which"] == "cluster"]
    isolated = field.truth[field.truth["which"] == "lone"]
    return KnownField(
        field.micrograph, truth[["y_px", "x_px"]].to_numpy(), truth["n"].to_numpy(),
        isolated[["y_px", "x_px"]].to_numpy(),
    )  # fmt: skip


def thin(library: list, density: float, seed: int) -> KnownField:
    """Simulate isomers with channelling and cross-sections on 3 nm of carbon; atoms are clear."""
    settings = FieldSettings(
        clusters_per_nm2=0.015, mixture=dict.fromkeys(CLASSES, 0.2), touching=0.0,
        lone_atoms_per_nm2=density, shape_px=(640, 640),
    )  # fmt: skip
    field = simulate_field(library, settings, seed)
    truth = field.truth[~field.truth["touches_border"]]
    # the truth has no isolated atoms; confident detections replace them
    at, response = peaks(field.micrograph)
    return KnownField(
        field.micrograph, truth[["y_px", "x_px"]].to_numpy(), truth["n_atoms"].to_numpy(),
        at[response > 0.9],
    )  # fmt: skip


def peaks(micrograph: Micrograph) -> tuple[np.ndarray, np.ndarray]:
    """Return maxima (N, 2) in pixels of the Laplacian of the local contrast, and their heights."""
    pixel = micrograph.calibrated()
    contrast = local_contrast(micrograph.data, pixel, 0.25, 0.8)
    sigma = 0.09 / pixel
    response = -ndimage.gaussian_laplace(contrast, sigma) * sigma**2
    top = response == ndimage.maximum_filter(response, int(0.2 / pixel) | 1)
    top &= response > 0
    return np.argwhere(top).astype(float), response[top]


def design(response: np.ndarray) -> np.ndarray:
    return np.stack([response, response**2], axis=1)


def fit_detector(fields: Iterator[KnownField]) -> LogisticRegression:
    """Fit the probability of an atom given the response, on fields that are not counted."""
    responses, real = [], []
    for known in fields:
        at, response = peaks(known.micrograph)
        pixel = known.micrograph.calibrated()
        far = KDTree(known.centres).query(at)[0] * pixel > 1.3
        hit = np.zeros(len(at), bool)
        distance, nearest = KDTree(at).query(known.isolated)
        hit[nearest[distance * pixel < NEAR_NM]] = True
        responses.append(response[far])
        real.append(hit[far])
    return LogisticRegression(C=1e3).fit(
        design(np.concatenate(responses)), np.concatenate(real)
    )  # fmt: skip


Detector = Callable[
    [Micrograph, pd.DataFrame], tuple[np.ndarray, np.ndarray, Completeness | None]
]  # fmt: skip
"""From an image and its clusters to positions (N, 2) in pixels, probabilities, and completeness."""


def by_detector(model: LogisticRegression) -> Detector:
    def detect_atoms(
        micrograph: Micrograph, clusters: pd.DataFrame
    ) -> tuple[np.ndarray, np.ndarray, None]:
        at, response = peaks(micrograph)
        return at, model.predict_proba(design(response))[:, 1], None

    return detect_atoms


def by_network(model: AtomModel) -> Detector:
    def detect_atoms(
        micrograph: Micrograph, clusters: pd.DataFrame
    ) -> tuple[np.ndarray, np.ndarray, Completeness | None]:
        analysis = find_atoms(micrograph, model)
        mask = make_cluster_mask(clusters, micrograph.data.shape, analysis.pixel_size_nm)
        added = inject_atoms(analysis, model, mask)
        completeness = None if added is None else estimate_completeness(added, analysis.threshold)
        found = analysis.candidates
        return found[["y_px", "x_px"]].to_numpy(), found["confidence"].to_numpy(), completeness

    return detect_atoms


def count_field(known: KnownField, detector: Detector) -> pd.DataFrame:
    """Return a row per detected cluster: its true number of atoms and its count."""
    pixel = known.micrograph.calibrated()
    found = detect(known.micrograph)
    if len(found.table) == 0:
        return pd.DataFrame()
    at, p, completeness = detector(known.micrograph, found.table)
    atoms = pd.DataFrame({"frame": 0, "y_px": at[:, 0], "x_px": at[:, 1], "confidence": p})
    every, sure = (
        count_atoms_by_intensity(
            found.table,
            atoms[p > min_probability],
            known.micrograph,
            found.outlines,
            classes=CLASSES,
            completeness=given,
        )
        for min_probability, given in ((FLOOR, completeness), (SURE, None))
    )
    distance, row = KDTree(found.table[["y_px", "x_px"]].to_numpy()).query(known.centres)
    matched = distance * pixel < 0.5
    out = every.iloc[row[matched]].reset_index(drop=True)
    out["n"] = known.numbers[matched]
    out["n_sure"] = sure["n_yardstick"].to_numpy()[row[matched]]
    recovered = (
        KDTree(at[p > SURE]).query(known.isolated)[0] * pixel < NEAR_NM if (p > SURE).any() else [0]
    )
    out["recall"] = np.mean(recovered)
    # the common method: the median of confident detections
    discs = integrate(known.micrograph.data, pixel, at[p > SURE])
    out["sure_median"] = np.nanmedian(discs) if len(discs) else np.nan
    return out


def summary(rows: pd.DataFrame, field: np.ndarray) -> dict[str, str]:
    """Summarise one condition."""
    ok = rows["n_yardstick"].notna()
    n, found = rows["n"][ok], rows["n_yardstick"][ok]
    ratio = found / n
    of_field = ratio.groupby(field[ok.to_numpy()]).mean()
    inside = (rows["n_yardstick_low"][ok] <= n) & (n <= rows["n_yardstick_high"][ok])
    width = (rows["n_yardstick_high"] - rows["n_yardstick_low"])[ok] / found / 2
    right = rows["label_yardstick"][ok] == "Pt" + n.astype(str)
    in_set = [f"Pt{k}" in s.split("|") for k, s in zip(n, rows["yardstick_set"][ok], strict=True)]
    error = of_field.std() / np.sqrt(len(of_field))
    return {
        "counted": f"{ok.sum()} of {len(rows)}",
        "found / true": f"{of_field.mean():.3f} ± {error:.3f}",
        "scatter": f"{100 * ratio.std():.0f} %",
        "in the 95 % interval": f"{100 * inside.mean():.1f} %",
        "half width": f"± {100 * width.mean():.0f} %",
        "right class": f"{100 * right.mean():.0f} %",
        "class in set": f"{100 * np.mean(in_set):.0f} %",
        "sure atoms only": f"{(rows['n_sure'] / rows['n']).mean():.2f}",
    }


def count_fields(
    make: Callable[[int], KnownField], name: str, network: Detector
) -> list[dict[str, pd.DataFrame]]:
    """Count all fields of a condition, by the simple detector and by the network."""
    plain = by_detector(fit_detector(make(10_000 + s) for s in range(CALIBRATION_FIELDS)))
    fields = []
    for seed in track(range(FIRST_SEED, FIRST_SEED + FIELDS), name):
        known = make(seed)
        fields.append({"plain": count_field(known, plain), "network": count_field(known, network)})
    return fields


def concat_fields(
    fields: list[dict[str, pd.DataFrame]], by: str
) -> tuple[pd.DataFrame, np.ndarray]:
    """Concatenate the rows of all fields; return also the field of each."""
    parts = [field[by] for field in fields]
    return pd.concat(parts, ignore_index=True), np.repeat(
        np.arange(len(parts)), [len(p) for p in parts]
    )


def make_count_tables() -> tuple[str, str, str]:
    """Make the tables by condition and by size, and the table of the network."""
    network = by_network(load_atom_model("default", "cpu"))
    library = library_of(CLASSES, 6, 0)
    makers: dict[str, Callable[[int], KnownField]] = {
        f"thick carbon, contrast {contrast:g}, {density:g} atoms/nm²": (
            lambda s, c=contrast, d=density: thick(c, d, s)
        )
        for contrast, density in CONDITIONS
    }
    thin_carbon = "3 nm of carbon, isomers, channelling, 0.3 atoms/nm²"
    makers[thin_carbon] = lambda s: thin(library, 0.3, s)
    lines, by_size, network_rows = [], [], []
    for what, make in makers.items():
        fields = count_fields(make, what, network)
        for by, table in (("plain", lines), ("network", network_rows)):
            rows, field = concat_fields(fields, by)
            recall = "–" if what == thin_carbon else f"{rows['recall'].mean():.2f}"
            table.append({"fields": what, "recall": recall} | summary(rows, field))
            if by == "plain":
                by_size.append(make_size_row(what, rows))
    return markdown(lines), markdown(by_size), markdown(network_rows)


def make_size_row(what: str, rows: pd.DataFrame) -> dict[str, str]:
    ratio = rows["n_yardstick"] / rows["n"]
    return {"fields": what} | {f"n = {n}": f"{ratio[rows['n'] == n].mean():.2f}" for n in SIZES}


# ---- species
def log_normal(rng: np.random.Generator, n: int, scatter: float) -> np.ndarray:
    sigma = np.sqrt(np.log1p(scatter**2))
    return np.exp(rng.normal(-(sigma**2) / 2, sigma, n))


def one_species() -> dict:
    """Return distributions of one metal, with effects of detection and noise."""

    def cut(rng: np.random.Generator, n: int) -> np.ndarray:
        values = rng.normal(1, 0.35, 4 * n)
        return values[rng.random(4 * n) < 1 / (1 + np.exp(-(values - 0.7) / 0.1))][:n]

    return {
        "normal, 35 %": lambda rng, n: rng.normal(1, 0.35, n),
        "log-normal, 35 %": lambda rng, n: log_normal(rng, n, 0.35),
        "log-normal, 50 %": lambda rng, n: log_normal(rng, n, 0.5),
        "normal, faint atoms undetected": cut,
        "log-normal with noise of 30 %": lambda rng, n: (
            log_normal(rng, n, 0.35) + rng.normal(0, 0.3, n)
        ),
        "normal, 3 % aligned pairs": lambda rng, n: (
            rng.normal(1, 0.35, n) * np.where(rng.random(n) < 0.03, 2, 1)
        ),
    }


def make_species_tables(repeats: int = 60) -> tuple[str, str]:
    """Make the tables of the species found for one and for two metals."""
    numbers = (45, 150, 500)
    split = []
    for name, draw in track(one_species().items(), "one species"):
        row = {"one metal": name}
        for n in numbers:
            found = [
                find_species(draw(np.random.default_rng(s), n)).n_components > 1
                for s in range(repeats)
            ]
            row[f"{n} atoms"] = f"{100 * np.mean(found):.0f} %"
        split.append(row)
    found_two = []
    for name, (heavy_z, light_z) in track(HEAVY_LIGHT.items(), "two species"):
        for scatter in (0.2, 0.35):
            row = {"two metals": f"{name}, scatter {100 * scatter:.0f} %"}
            for n in numbers:
                found = []
                for seed in range(repeats // 3):
                    rng = np.random.default_rng(seed)
                    brighter = np.where(rng.random(n) < 0.5, (heavy_z / light_z) ** 1.7, 1)
                    found.append(find_species(log_normal(rng, n, scatter) * brighter).n_components)
                row[f"{n} atoms"] = f"{100 * np.mean(np.array(found) == 2):.0f} %"
            found_two.append(row)
    return markdown(split), markdown(found_two)


# ---- the page
def markdown(rows: list[dict[str, str]]) -> str:
    head = list(rows[0])
    rows = [{h: "–" if "nan" in text else text for h, text in row.items()} for row in rows]
    lines = [head, ["---"] * len(head), *[[row[h] for h in head] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def replace_table(page: str, name: str, table: str) -> str:
    """Replace the table between the markers of a name."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}{table}{end}{after}"


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, table in zip(("counts", "sizes", "network"), make_count_tables(), strict=True):
        page = replace_table(page, name, table)
    for name, table in zip(("one metal", "two metals"), make_species_tables(), strict=True):
        page = replace_table(page, name, table)
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
