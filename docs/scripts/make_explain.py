"""Recompute ``explanation/explain.md`` and its pictures: where the shipped dual model looks.

    python docs/scripts/make_explain.py [--data ../shared/data/clusters]

Class maps of the true class of every cluster that is whole and stands alone, in fields of our own
simulation (isomers of a seed that no model was trained with) and, where it is at hand, in the
independent benchmark ``mixed/``. Beside Grad-CAM stand controls that need no class maps.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from napari_atomicity import __version__, load
from napari_atomicity.models.class_maps.centre_balance import (
    CENTRE_RADII,
    OUTLINE_RADII,
    Balance,
    balance,
    balance_between,
    centre_and_outline,
)
from napari_atomicity.models.class_maps.class_average_figure import write_picture
from napari_atomicity.models.class_maps.class_averages import (
    Average,
    Averages,
    class_averages,
    left_out,
)
from napari_atomicity.models.inference import Classifier, load_classifier
from napari_atomicity.models.network import AtomicityNet
from napari_atomicity.pipeline.analysis import classify_clusters, detect_clusters
from napari_atomicity.simulation.structures import isomer_library
from napari_atomicity.statistics.scores import atoms_of
from napari_atomicity.training.calibration.scaling import scale_patches
from napari_atomicity.training.data import match
from napari_atomicity.training.prepared_sets import from_simulation
from occlusion import distance_nm, occluded

HERE = Path(__file__).resolve().parents[1]
SEED = 777
"""Of isomers and fields here; no shipped model is made with it."""
UNTRAINED = 5
SHARE = 0.2
"""Share of a cluster's cells that is occluded."""
DPI = 75


@dataclass(frozen=True, eq=False)
class Clusters:
    """Whole, lone clusters of known class: row i of every array is row i of the table."""

    name: str
    table: pd.DataFrame
    patches: dict[str, np.ndarray]
    labels: np.ndarray
    left_out: dict[str, int]

    @property
    def radius_nm(self) -> np.ndarray:
        return self.table["diameter_nm"].to_numpy(float) / 2

    @property
    def image(self) -> np.ndarray:
        return self.table["image"].to_numpy(object)


def only_good(
    name: str, table: pd.DataFrame, patches: dict[str, np.ndarray], labels: np.ndarray
) -> Clusters:
    """Those that an average may be made of."""
    reasons = left_out(table, labels)
    use = ~np.logical_or.reduce(list(reasons.values()))
    return Clusters(
        name,
        table[use].reset_index(drop=True),
        {c: p[use] for c, p in patches.items()},
        labels[use],
        {reason: int(rows.sum()) for reason, rows in reasons.items() if rows.any()},
    )


def simulated(model: Classifier, isomers: int, fields: int, workers: int) -> Clusters:
    """Fields of the package's own simulation, under widely drawn conditions."""
    classes = model.card.classes
    sizes = [int(atoms_of(c) or 0) for c in classes]
    element = classes[0].rstrip("0123456789")
    library = isomer_library(element, sizes, isomers, SEED, workers)
    part = from_simulation(library, classes, fields, SEED + 1, model.card.patches, workers)
    assert model.card.scale is not None
    part, _ = scale_patches(part, model.card.scale)
    return only_good("sim", part.table, part.patches, part.table["truth"].to_numpy(object))


def benchmark(model: Classifier, folder: Path) -> Clusters:
    """The images of a folder with ``truth.csv``, analysed as anybody would."""
    truths = dict(tuple(pd.read_csv(folder / "truth.csv").groupby("image")))
    tables, patches, labels = [], [], []
    for name in sorted(truths):
        analysis = classify_clusters(detect_clusters(load(folder / name)), model)
        rows, columns = match(analysis.table, truths[name], analysis.micrograph.calibrated())
        label = np.full(len(analysis.table), "", object)
        label[rows] = truths[name]["label"].to_numpy()[columns]
        tables.append(analysis.table)
        patches.append(analysis.patches)
        labels.append(label)
    joined = {c: np.concatenate([p[c] for p in patches]) for c in patches[0]}
    return only_good(
        folder.name, pd.concat(tables, ignore_index=True), joined, np.concatenate(labels)
    )


# ---- what the network says
def tensors(patches: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {c: torch.from_numpy(np.ascontiguousarray(p)) for c, p in patches.items()}


def index_of(data: Clusters, classes: Sequence[str]) -> torch.Tensor:
    return torch.tensor([list(classes).index(label) for label in data.labels])


@torch.inference_mode()
def grad_cam(network: AtomicityNet, data: Clusters, classes: Sequence[str]) -> dict:
    """Class maps of the true class: channel → (N, h, w)."""
    maps = network(tensors(data.patches)).maps
    return {c: m.numpy() for c, m in network.class_maps(maps, index_of(data, classes)).items()}


@torch.inference_mode()
def contrast(network: AtomicityNet, data: Clusters, classes: Sequence[str]) -> dict:
    """What of the map is of this class more than of the others on average, where positive.

    A softmax does not notice what adds the same to all classes.
    """
    maps = network(tensors(data.patches)).maps
    own = index_of(data, classes)
    out, start = {}, 0
    for channel, features in maps.items():
        weight = network.head.weight[:, start : start + features.shape[1]]
        start += features.shape[1]
        relative = (weight - weight.mean(dim=0)) * len(classes) / (len(classes) - 1)
        map_ = torch.einsum("nd,ndhw->nhw", relative[own], features)
        out[channel] = map_.clamp(min=0).numpy()
    return out


def sensitivity(network: AtomicityNet, data: Clusters, classes: Sequence[str]) -> dict:
    """Size of the gradient of the margin over the other classes, by pixel: channel → (N, P, P)."""
    inputs = {c: t.clone().requires_grad_(True) for c, t in tensors(data.patches).items()}
    gain = torch.autograd.grad(
        margin(network(inputs).logits, index_of(data, classes)).sum(), list(inputs.values())
    )
    return {c: g.abs().numpy() for c, g in zip(inputs, gain, strict=True)}


def margin(logits: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Score of the own class minus the mean of the others: (N,)."""
    score = logits[torch.arange(len(own)), own]
    return score - (logits.sum(dim=1) - score) / (logits.shape[1] - 1)


def untrained(model: Classifier, data: Clusters, classes: Sequence[str]) -> list[dict]:
    """Class maps of networks of the same make with random weights."""
    out = []
    for seed in range(UNTRAINED):
        torch.manual_seed(seed)
        network = AtomicityNet(model.network.channels, len(classes), model.card.width).eval()
        out.append(grad_cam(network, data, classes))
    return out


def receptive_field_px(network: AtomicityNet) -> tuple[int, int]:
    """Pixels that one cell of a map sees through the convolutions, and pixels per cell."""
    reach, step = 1, 1
    branch = next(iter(network.branches.values()))
    for module in branch.modules():
        if isinstance(module, torch.nn.Conv2d):
            reach += (module.kernel_size[0] - 1) * step
            step *= module.stride[0]
    return reach, step


# ---- figures of merit
def balances(data: Clusters, values: np.ndarray, field_nm: float, classes: Sequence[str]) -> list:
    """Centre against outline of every class."""
    both = centre_and_outline(values, field_nm, data.radius_nm)
    return [balance(both[data.labels == c], data.image[data.labels == c]) for c in classes]


def differences(data: Clusters, maps: dict, field_nm: float, classes: Sequence[str]) -> list:
    """By how much raw is more central than LCN, class by class."""
    raw, lcn = (centre_and_outline(maps[c], field_nm, data.radius_nm) for c in ("raw", "LCN"))
    rows = [data.labels == c for c in classes]
    return [balance_between(raw[r], lcn[r], data.image[r]) for r in rows]


def attainable(
    data: Clusters, shape: Callable[[np.ndarray], np.ndarray], cells: int, field_nm: float
) -> np.ndarray:
    """Maps (N, cells, cells) of an ideal feature, averaged over the cells of a class map.

    ``shape`` gives its strength at distances in radii of the cluster.
    """
    fine = 8 * cells
    r = distance_nm(fine, field_nm)[None] / data.radius_nm[:, None, None]
    strength = shape(r).reshape(len(r), cells, 8, cells, 8)
    return strength.mean(axis=(2, 4))


def occlusion(
    network: AtomicityNet, data: Clusters, maps: dict, field_nm: float, classes: Sequence[str]
) -> dict[str, np.ndarray]:
    """What the margin loses (N,) when cells on the cluster are replaced by the support's level."""
    total = sum(maps.values())
    cells = total.shape[-1]
    zoom = next(iter(data.patches.values())).shape[-1] // cells
    brightness = data.patches["raw"].reshape(len(total), cells, zoom, cells, zoom).mean((2, 4))
    inside = distance_nm(cells, field_nm) < data.radius_nm[:, None, None] + field_nm / cells / 2
    chance = np.random.default_rng(SEED).random(total.shape)
    own = index_of(data, classes)
    with torch.inference_mode():
        before = margin(network(tensors(data.patches)).logits, own)
        out = {}
        for name, order in (
            ("highlighted", total),
            ("brightest in raw", brightness),
            ("anywhere", chance),
            ("least highlighted", -total),
        ):
            where = top_cells(order, inside).repeat(zoom, axis=1).repeat(zoom, axis=2)
            hidden = {
                c: occluded(p, where, field_nm, data.radius_nm) for c, p in data.patches.items()
            }
            out[name] = (before - margin(network(tensors(hidden)).logits, own)).numpy()
    return out


def top_cells(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """(N, h, w) bool: of the cells ``among``, the share `SHARE` with the largest values."""
    limit = np.array(
        [np.sort(v[m])[-max(1, round(SHARE * m.sum()))] for v, m in zip(values, among, strict=True)]
    )
    return among & (values >= limit[:, None, None])


def half_width(average: Average) -> float:
    """Where the profile of a class map falls below half of its maximum, in its unit."""
    below = np.flatnonzero(average.profile < np.nanmax(average.profile) / 2)
    peak = int(np.nanargmax(average.profile))
    below = below[below > peak]
    if not len(below):
        return np.nan
    pair = [below[0], below[0] - 1]  # values rise, as interpolation wants them
    half = np.nanmax(average.profile) / 2
    return float(np.interp(half, average.profile[pair], average.r[pair]))


# ---- words
def said(b: Balance) -> str:
    return f"{b.value:+.2f} ({b.low:+.2f} to {b.high:+.2f})"


def mean_and_interval(values: np.ndarray) -> str:
    error = values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.2f} ± {1.96 * error:.2f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def listed(words: Sequence[str]) -> str:
    return (
        " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words) or "no class"
    )


def share(averages: Averages, label: str) -> float:
    """What part of the class maps of both channels is of LCN."""
    raw, lcn = (averages.get(label, c).total for c in ("raw", "LCN"))
    return lcn / (raw + lcn)


def verdict(classes: Sequence[str], averages: Averages, apart: Sequence[Balance]) -> str:
    """The paper's finding, held against the figures by rule."""
    of = {c: [averages.get(k, c).balance for k in classes] for c in ("raw", "LCN")}
    on_outline = [k for k, b in zip(classes, of["LCN"], strict=True) if b.high < 0]
    raw_more = [k for k, b in zip(classes, apart, strict=True) if b.low > 0]
    raw_less = [k for k, b in zip(classes, apart, strict=True) if b.high < 0]
    literally = on_outline and classes[0] in on_outline
    tendency = classes[0] in raw_more and classes[-1] in raw_less
    partly = classes[0] in raw_more or classes[-1] in raw_less
    return (
        f"- *Taken literally* (raw at the centre, LCN at the outline): "
        f"**{'yes' if literally else 'no'}**. The LCN map is stronger at the outline than at "
        f"the centre for {listed(on_outline)}.\n"
        f"- *As a tendency* (LCN farther out than raw for small clusters, the reverse for the "
        f"largest): **{'yes' if tendency else 'in part' if partly else 'no'}**. The more "
        f"central channel is raw for {listed(raw_more)}, and LCN for {listed(raw_less)}"
        + (
            "."
            if len(raw_more) + len(raw_less) == len(classes)
            else "; for the others the interval of the difference contains 0."
        )
        + f"\n- *How much*: LCN contributes {share(averages, classes[0]):.0%} of the positive "
        f"score of {classes[0]} and {share(averages, classes[-1]):.0%} of that of {classes[-1]}."
    )


def section(title: str, data: Clusters, model: Classifier, images: Path, alt: str) -> list[str]:
    """One set of clusters as Markdown, with its pictures."""
    classes = [c for c in model.card.classes if (data.labels == c).any()]
    field_nm = model.card.patches.field_of_view_nm
    network, every = model.network, model.card.classes
    maps = grad_cam(network, data, every)
    cells = next(iter(maps.values())).shape[-1]
    averages = class_averages(data.table, data.labels, data.patches, maps, field_nm, classes)
    in_nm = class_averages(
        data.table, data.labels, data.patches, maps, field_nm, classes, unit="nm"
    )
    files = [images / f"explain_{data.name}_radius.png", images / f"explain_{data.name}_nm.png"]
    write_picture(averages, files[0], normalised=True, dpi=DPI)
    write_picture(in_nm, files[1], dpi=DPI)
    apart = differences(data, maps, field_nm, classes)
    rows = []
    for k, difference in zip(classes, apart, strict=True):
        raw, lcn = averages.get(k, "raw"), averages.get(k, "LCN")
        rows.append(
            [k, str(raw.clusters), f"{raw.radius_nm:.2f}", said(raw.balance), said(lcn.balance),
             said(difference), f"{raw.total:.1f}", f"{lcn.total:.1f}",
             f"{share(averages, k):.0%}"]
        )  # fmt: skip
    gone = ", ".join(f"{n} {reason}" for reason, n in data.left_out.items()) or "none"
    lines = [
        f"## {title}",
        "",
        f"{len(data.table)} clusters in {len(set(data.image))} images; excluded: {gone}.",
        "",
        *table(
            [
                "class",
                "clusters",
                "radius (nm)",
                "raw: centre against outline",
                "LCN",
                "raw − LCN",
                "raw adds to the score",
                "LCN adds",
                "share of LCN",
            ],
            rows,
        ),
        "**Does it agree with the paper?**",
        "",
        verdict(classes, averages, apart),
        "",
        "Class averages with each cluster scaled to its radius and each map to its maximum, the "
        "usual form (dashed: outline; numbers: centre against outline):",
        "",
        f"![{alt}, scaled to radius and maximum](../images/{files[0].name})",
        "",
        "The same in nm. Both maps of a class have one scale, in units of the score:",
        "",
        f"![{alt}, in nm and in units of the score](../images/{files[1].name})",
        "",
    ]
    lines += [
        "Half width at half maximum of the mean profile, in nm:",
        "",
        *table(
            ["", *classes],
            [[c, *(f"{half_width(in_nm.get(k, c)):.2f}" for k in classes)] for c in maps],
        ),
    ]
    return lines + controls(data, model, maps, classes, cells)


def controls(
    data: Clusters, model: Classifier, maps: dict, classes: Sequence[str], cells: int
) -> list[str]:
    """What else could explain the maps."""
    field_nm, every = model.card.patches.field_of_view_nm, model.card.classes
    network = model.network

    def row(name: str, values: np.ndarray) -> list[str]:
        found = balances(data, values, field_nm, classes)
        return [name, *(f"{b.value:+.2f}" for b in found)]

    rows = []
    for name, of in (
        ("class map", maps),
        ("class map, own class minus the mean of the others",
         contrast(network, data, every)),
        ("gradient by pixel", sensitivity(network, data, every)),
    ):  # fmt: skip
        rows += [row(f"{name}, {c}", of[c]) for c in of]
    random = untrained(model, data, every)
    for channel in maps:
        found = [[b.value for b in balances(data, of[channel], field_nm, classes)] for of in random]
        rows.append(
            [f"untrained network, {channel} (mean ± standard deviation of {UNTRAINED})"]
            + [
                f"{m:+.2f} ± {s:.2f}"
                for m, s in zip(np.nanmean(found, 0), np.nanstd(found, 0, ddof=1), strict=True)
            ]
        )
    rows.append(row("patch itself, raw", data.patches["raw"]))
    rows += [
        row(f"{name}, in cells", attainable(data, shape, cells, field_nm))
        for name, shape in (
            ("spot at the centre", lambda r: (r < 0.15).astype(float)),
            ("even disc", lambda r: (r < 1).astype(float)),
            ("thin ring on the outline", lambda r: (np.abs(r - 1) < 0.06).astype(float)),
        )
    ]
    lost = occlusion(network, data, maps, field_nm, every)
    hidden = [
        [name, mean_and_interval(values)]
        + [mean_and_interval(values[data.labels == k]) for k in classes]
        for name, values in lost.items()
    ]
    return [
        "Controls, centre against outline:",
        "",
        *table(["", *classes], rows),
        f"Occlusion: decrease of the score relative to the mean of the other classes (± 95 %) when "
        f"{SHARE:.0%} of the cells of a cluster are replaced by the level of the support, in both "
        "channels:",
        "",
        *table(["cells", "all", *classes], hidden),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data/clusters")
    parser.add_argument("--out", type=Path, default=HERE / "explanation" / "explain.md")
    parser.add_argument("--isomers", type=int, default=12, help="per class")
    parser.add_argument("--fields", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    model = load_classifier("default", "cpu")
    images = options.out.parent.parent / "images"
    ours = simulated(model, options.isomers, options.fields, options.workers)
    lines = [
        *introduction(model),
        *section("Our own simulation", ours, model, images, "Class averages in simulated fields"),
    ]
    if (options.data / "mixed").is_dir():
        theirs = benchmark(model, options.data / "mixed")
        lines += section(
            "Independent simulation (`mixed/`)", theirs, model, images,
            "Class averages in the independent simulation",
        )  # fmt: skip
    lines += closing()
    text = "\n".join(lines)
    options.out.write_text(text, encoding="utf-8")
    print(text)


def introduction(model: Classifier) -> list[str]:
    patches = model.card.patches
    reach, step = receptive_field_px(model.network)
    pixel_nm = patches.field_of_view_nm / patches.size_px
    inner, outer = OUTLINE_RADII
    return [
        "# Class maps explained",
        "",
        "This page shows where the shipped model looks, by class and channel. The paper behind "
        "this package reports for its network: for small clusters the raw channel reads the "
        "bright centre and LCN spreads to the outline; for the largest clusters the balance is "
        "reversed. The same analysis is applied here to the shipped model, which is another "
        "network trained on other images. The page *Class averages* of the dock *Explain* and "
        "[`atomicity explain`](../how-to/class-maps.md) show the same averages for your images.",
        "",
        f"Made by `make explain` (`docs/scripts/make_explain.py`), version {__version__}, model "
        f"`{model.card.model_id}`.",
        "",
        "**Method.** The figures refer to the [class "
        "map](how-it-works-classification.md#network) of the *true* class of every isolated "
        "cluster inside the image. *Centre against outline* is (c − o) / (c + o), where c is the "
        f"mean of the map over r < {CENTRE_RADII[1]:g} R and o that over {inner:g} R < r < "
        f"{outer:g} R. R is half the diameter. +1 means all at the centre, −1 all at the outline, "
        "and 0 the same per area in both. Intervals (95 %) resample images and, within them, "
        "clusters; the difference of two channels is resampled in pairs. *Adds to the score* is "
        "the sum of the class map, in units of the scores before the softmax.",
        "",
        f"**Resolution.** A cell of a map covers {step} pixels or {step * pixel_nm:.2f} nm. "
        f"Through the convolutions it depends on {reach} pixels or {reach * pixel_nm:.1f} nm, "
        "which is more than a whole cluster. Through the normalisation it depends slightly on "
        "the whole patch. A cell at the centre may therefore respond to the outline. A map shows "
        "where the *features* are that were counted, and only roughly the pixels that produced "
        "them.",
        "",
    ]


def closing() -> list[str]:
    return [
        "## How to read the figures",
        "",
        "- **Scaling to the maximum hides the size of a contribution.** Compare with the second "
        "picture of each set and the column *share of LCN*. A channel can look decisive in the "
        "first picture and add almost nothing to the score.",
        "- **Radii and nm give different views.** The half widths are one and a half to two and "
        "a half cells, and the radius of the smallest clusters is only two cells. Their maps "
        "cannot be much narrower, so they reach farther out in units of the radius. The "
        "difference between the channels is not affected: both have the same cells.",
        "- **Is the centre learnt?** Untrained networks show the effect of clusters and "
        "convolutions alone. The preference is learnt if their value is small compared with its "
        "scatter.",
        "- **Maps are more central than the dependence of the network.** *Gradient by pixel* has "
        "no cells: it shows which pixels would change the score if they changed slightly. It is "
        "far more even, and for raw it slightly favours the outline. A feature counted at the "
        "centre may come from the outline around it.",
        "- **Occlusion.** The highlighted cells matter more than other cells of the cluster. But "
        "the cells that are *brightest in raw* matter equally, so here the maps show little more "
        "than the bright part of the cluster. For the smallest class, occlusion has little "
        "effect: a smaller cluster still belongs to the smallest class.",
        "- **Averages that are not round** come from the network. Clusters have all orientations "
        "and training uses all symmetries of the square, but the network is not constrained to "
        "be symmetric.",
        "- **One network.** The intervals describe clusters and images. A network trained with "
        "another seed may divide the work between the channels differently; the intervals do not "
        "include this.",
        "",
        "## What Grad-CAM cannot show",
        "",
        "- *The complete label.* Maps explain the part of the network. The label combines the "
        "network with a mixture of intensities and diameters "
        "([details](how-it-works-classification.md#combination-of-network-and-mixture)), and the "
        "scale of the image is determined before the network.",
        "- *Causes.* A map shows the position of a feature that supports a class, not its kind: "
        "brightness, shape, texture or an edge.",
        "- *Absence.* A small cluster is also recognised by the dark area around it. A map of "
        "positive contributions cannot show absence.",
        "- *Comparison between classes.* A map explains one score, but the decision depends on "
        "the difference of scores. A contribution that is the same for all classes appears in "
        "the map and changes nothing. The row *own class minus the mean of the others* excludes "
        "it.",
        "- *Interaction of the channels.* The branches meet only in the sum of the scores, so "
        "their shares add up. But the information of one channel may be redundant: the other "
        "could provide it if the network were trained without it (see the raw-only model in "
        "[Accuracy](accuracy.md)).",
        "- *Correctness.* Maps of wrong labels look as convincing as those of correct ones.",
        "- *The scale.* The raw channel is divided by the [intensity of one "
        "atom](how-it-works-scale.md) before the network, and most of the accuracy comes from "
        "this step. No map shows it.",
        "",
        "Tests on simulated clusters check every change of the package: maps must depend on the "
        "training, and occlusion of highlighted cells must lower the class more than occlusion "
        "of other cells (`tests/models/test_class_averages.py`). Reference: J. Adebayo et al., "
        "*Sanity checks for saliency maps*, NeurIPS 2018.",
        "",
    ]


if __name__ == "__main__":
    main()
