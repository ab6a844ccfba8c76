"""From micrographs with the positions of atoms to a model that finds atoms.

``python -m napari_atomicity.training.atoms --data DIR… --out MODEL`` makes the shipped one again.

Networks of the folds never see the images of their fold; what they say of these calibrates the
model and is its score. The networks of the model itself then learn from all images.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from .. import __version__
from ..atoms import operating_point as operating
from ..atoms.candidates import contrast_channels
from ..atoms.finder import (
    SAMPLING_NM,
    AtomCard,
    AtomModel,
    packed,
    resampled,
    save_atom_model,
)
from ..atoms.network import AtomNet
from ..atoms.table import nearest_neighbours
from ..detection.background import without_gaps
from ..errors import AtomicityError, CalibrationError, ReadError, TableError
from ..io.images import load, reader_of
from ..progress import Progress, Stop, check, report

FIELD_PX = 288
"""Edge of a simulated field, at the common sampling."""
_FIELDS = 12
_LABEL_REACH = 4.0
_PARTED = 3.5
_LEAST_SCORE = -6.0
CALIBRATED_FROM = -2.0
"""Score (logit) of candidates that calibrate."""
COORDINATES = (("y_nm", "x_nm"), ("y_px", "x_px"), ("y", "x"), ("axis-0", "axis-1"), ("row", "col"))
"""Names of the columns of positions, y first, in the order in which they are looked for."""

SAME_FIELD = (("025", "027"), ("034", "037"), ("047", "048", "051"))
"""Images of the Pt/NC set that show the same place again (they correlate at a small shift): they
are never on two sides of a split."""


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """A micrograph in which a person has marked atoms.

    Parameters
    ----------
    name
        Of the image.
    pixels
        (Y, X) float32, finite.
    pixel_size_nm
        Edge length of a pixel.
    points
        (N, 2) of (y, x) in pixels.
    group
        Images of one group are never on two sides of a split.
    source
        The set that it belongs to.
    """

    name: str
    pixels: np.ndarray
    pixel_size_nm: float
    points: np.ndarray
    group: str = ""
    source: str = ""

    @property
    def points_nm(self) -> np.ndarray:
        return self.points * self.pixel_size_nm


@dataclass(frozen=True)
class AtomTrainingSettings:
    """How a network is trained.

    Parameters
    ----------
    width
        Features of its first level.
    dropout
        Share of features silenced in its deepest levels.
    steps
        Of the optimiser.
    batch
        Crops in a step.
    crop_px
        Edge of a crop at the common sampling, a multiple of `network.STRIDE`.
    learning_rate, weight_decay
        Of AdamW; the rate rises and falls once (one cycle).
    averaging
        Share of the running average of the weights that a step keeps.
    spot_nm
        Standard deviation of the target around a mark: as far as a person's marks scatter.
    simulated
        Share of crops from simulated fields.
    renew
        Every so many steps an image is recorded anew under other conditions.
    strength
        Of these conditions: 0 none, 1 as in `imaging_changes`.
    blur
        Logarithm of the standard deviation (pixels) by which an image is blurred at times, from
        and to.
    scale
        Logarithm of an enlargement, from and to: out of focus, atoms are up to twice as wide.
    seed
        Of all chance.
    """

    width: int = 16
    dropout: float = 0.1
    steps: int = 1300
    batch: int = 8
    crop_px: int = 160
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    averaging: float = 0.999
    spot_nm: float = 0.09
    simulated: float = 0.1
    renew: int = 2
    strength: float = 1.0
    blur: tuple[float, float] = (-1.0, 0.9)
    scale: tuple[float, float] = (-0.2, 0.5)
    seed: int = 0


# ---- labelled images


def read_labelled(directory: str | Path, pixel_size_nm: float | None = None) -> list[LabelledImage]:
    """Images with tables of positions: in ``images`` and ``labels``, or side by side.

    The table of ``a.tif`` is ``a.csv`` or ``a_atoms_xy_px.csv``, with columns ``y_nm, x_nm`` or
    ``y_px, x_px`` or ``X, Y`` (pixels) or napari's ``axis-0, axis-1``. Images without a table are
    left out.

    Parameters
    ----------
    directory
        The folder.
    pixel_size_nm
        For images that don't say theirs.

    Raises
    ------
    ReadError
        If there is no folder, no image with a table, or an image can't be read.
    CalibrationError
        If the pixel size of an image is not known.
    TableError
        If a table has no positions, or some that are none or lie outside of the image.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise ReadError("there is no such folder", directory, "Give the folder of the images")
    images = directory / "images" if (directory / "images").is_dir() else directory
    tables = directory / "labels" if (directory / "labels").is_dir() else images
    found = []
    for path in sorted(images.iterdir()):
        table = _table_of(path, tables) if path.is_file() and reader_of(path) else None
        if table is not None:
            found.append(_labelled(path, table, directory.name, pixel_size_nm))
    if not found:
        raise ReadError(
            "no image in this folder has a table of positions",
            directory,
            "Lay a CSV beside each image, with its name and the columns X and Y (pixels)",
        )
    return found


def _table_of(image: Path, tables: Path) -> Path | None:
    for name in (f"{image.stem}.csv", f"{image.stem}_atoms_xy_px.csv", f"{image.name}.csv"):
        if (tables / name).is_file():
            return tables / name
    return None


def _labelled(path: Path, table: Path, source: str, pixel_size_nm: float | None) -> LabelledImage:
    micrograph = load(path)
    if micrograph.is_stack:
        raise ReadError("a stack can't be trained on", path, "Give single images")
    size = micrograph.pixel_size_nm or pixel_size_nm
    if size is None:
        raise CalibrationError(
            "the pixel size is not known", path, "Give it in nm (--pixel-size-nm)"
        )
    points = read_points(table, size)
    limits = np.array(micrograph.shape_px)
    if ((points < -0.5) | (points > limits - 0.5)).any():
        raise TableError(
            f"{table.name} has positions outside of the image",
            table,
            "Check the units, and that X is the column and Y the row",
        )
    return LabelledImage(path.stem, without_gaps(micrograph.data), size, points, path.stem, source)


def read_points(path: Path, pixel_size_nm: float) -> np.ndarray:
    """(N, 2) positions (y, x) in pixels from a table.

    Raises
    ------
    TableError
        If there are none, or what there is is no number.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise TableError(f"the table can't be read ({error})", path) from None
    columns = {str(c).strip().lower(): c for c in table.columns}
    for y, x in COORDINATES:
        if y in columns and x in columns:
            try:
                points = table[[columns[y], columns[x]]].to_numpy(float)
            except ValueError as error:
                raise TableError(f"a position is no number ({error})", path) from None
            if not np.isfinite(points).all():
                raise TableError("a position is missing or not finite", path)
            return points / pixel_size_nm if y.endswith("_nm") else points
    raise TableError(
        f"the table has no columns of positions, only {', '.join(map(str, table.columns))}",
        path,
        "Call them X and Y (column and row in pixels), or x_nm and y_nm",
    )


def grouped_by_field(images: Iterable[LabelledImage]) -> list[LabelledImage]:
    """The images, those that show one place (`SAME_FIELD`) in one group."""
    groups = {name: same[0] for same in SAME_FIELD for name in same}
    return [
        replace(i, group=next((g for n, g in groups.items() if i.name.startswith(f"{n}_")), i.name))
        for i in images
    ]


# ---- marks that are in the file of another image

MARKED_CONTRAST = 1.8
"""Between the contrast of marked atoms (about 4) and of places at random (about 0.8)."""
CLEAR_CONTRAST = 2.3
_MARK_PX = 2.0, 15.0, 5


def contrast_at_marks(image: LabelledImage) -> np.ndarray:
    """(Y, X): highest difference of Gaussians within two pixels, in standard deviations."""
    fine, wide, size = _MARK_PX
    band = ndimage.gaussian_filter(image.pixels, fine) - ndimage.gaussian_filter(image.pixels, wide)
    return np.asarray(ndimage.maximum_filter(band, size) / max(float(band.std()), 1e-12))


def with_own_marks(
    images: Sequence[LabelledImage],
) -> tuple[list[LabelledImage], dict[str, dict[str, Any]]]:
    """Marks moved to the image that they belong to.

    Whoever labels one image after another with a tool that does not forget the marks of the last
    one gets tables whose last rows belong to another image. Where the marks from some row on lie
    on nothing in their own image (change of the mean contrast, by the largest cumulative sum), they
    go to the image of the same set where they lie on spots, or, if there is none, they are left
    out.

    Returns
    -------
    images : list of LabelledImage
        In the same order.
    moved : dict
        Image → how many marks were its own, how many were not, and where these went ("" if
        nowhere); only images with such marks.
    """
    maps = {i.name: contrast_at_marks(i) for i in images}

    def at(name: str, points: np.ndarray) -> np.ndarray:
        place = np.clip(points.round().astype(int), 0, np.array(maps[name].shape) - 1)
        return np.asarray(maps[name][tuple(place.T)])

    own = {i.name: i.points for i in images}
    gained: dict[str, list[np.ndarray]] = {i.name: [] for i in images}
    moved: dict[str, dict[str, Any]] = {}
    for image in images:
        total = np.concatenate([[0.0], np.cumsum(at(image.name, image.points) - MARKED_CONTRAST)])
        n = int(total.argmax())
        rest = image.points[n:]
        if not len(rest):
            continue
        own[image.name] = image.points[:n]
        others = [i.name for i in images if i.source == image.source and i.name != image.name]
        contrast = {name: float(at(name, rest).mean()) for name in others}
        best = max(contrast, key=contrast.__getitem__, default="")
        known = len(rest) >= 2 and bool(best) and contrast[best] > CLEAR_CONTRAST
        if known:
            gained[best].append(rest)
        moved[image.name] = {"own": n, "not": len(rest), "to": best if known else ""}
    out = []
    for image in images:
        points = own[image.name]
        for more in gained[image.name]:
            if len(points):
                gap = np.linalg.norm(more[:, None] - points[None], axis=2).min(axis=1)
                more = more[gap > _MARK_PX[2]]
            points = np.concatenate([points, more])
        out.append(replace(image, points=points))
    return out, moved


# ---- examples


def target_map(shape: tuple[int, int], points: np.ndarray, sigma_px: float) -> np.ndarray:
    """(Y, X) float32: Gaussians of height 1 on the points, the highest where they meet.

    Where points are close they are narrower, so that there is a valley between them.
    """
    out = np.zeros(shape, np.float32)
    sigmas = np.clip(
        np.nan_to_num(nearest_neighbours(points) / _PARTED, nan=sigma_px), sigma_px / 2, sigma_px
    )
    reach = int(np.ceil(_LABEL_REACH * sigma_px))
    for (y, x), sigma_px in zip(points, sigmas, strict=True):
        top, left = max(0, round(y) - reach), max(0, round(x) - reach)
        part = out[top : max(0, round(y) + reach + 1), left : max(0, round(x) + reach + 1)]
        dy = np.arange(top, top + part.shape[0])[:, None] - y
        dx = np.arange(left, left + part.shape[1])[None] - x
        np.maximum(part, np.exp(-(dy**2 + dx**2) / (2 * sigma_px**2)), out=part)
    return out


def imaging_changes(
    image: np.ndarray, rng: np.random.Generator, settings: AtomTrainingSettings
) -> np.ndarray:
    """The image as other conditions might have recorded it; atoms stay where they are.

    Blur, contrast, slow background, thickness steps, jumps half-way through the scan, offsets and
    noise of rows, white and correlated noise, each now and then.
    """
    strength = settings.strength
    height, width = image.shape
    low, high = np.percentile(image[::4, ::4], (0.5, 99.5))
    span = max(float(high - low), 1e-12)
    out = (image - low) / span
    fine = out - ndimage.gaussian_filter(out, 2.0)
    noise = 1.4826 * float(np.median(np.abs(fine[::2, ::2])))
    blur = float(np.exp(rng.uniform(*settings.blur))) if rng.random() < 0.5 * strength else 0.0
    if blur:  # the probe is wider, the noise is not: some of it comes back below
        out = ndimage.gaussian_filter(out, blur)
    if rng.random() < 0.4 * strength:
        gamma = np.exp(rng.uniform(-0.45, 0.45))
        out = np.sign(out) * np.abs(out) ** gamma
    if rng.random() < 0.3 * strength:
        y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j].astype(np.float32)
        gradient = rng.normal(0, 0.3, 2)
        out = out + gradient[0] * y + gradient[1] * x
    if rng.random() < 0.15 * strength:
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
        angle, place = rng.uniform(0, 2 * np.pi), rng.uniform(-0.6, 0.6)
        edge = np.tanh((np.cos(angle) * x + np.sin(angle) * y - place) * rng.uniform(3, 40))
        out = out + rng.uniform(0.05, 0.5) * edge
    if rng.random() < 0.1 * strength:
        out = out.copy()
        out[rng.integers(0, height) :] *= rng.uniform(0.7, 1.4)
    if rng.random() < 0.4 * strength:
        rows = rng.normal(0, noise * rng.uniform(0, 0.6), (height, 1))
        out = out + (ndimage.gaussian_filter1d(rows, 0.7, axis=0) if rng.random() < 0.5 else rows)
    if blur or rng.random() < 0.5 * strength:
        white = rng.standard_normal(image.shape, dtype=np.float32)
        if rng.random() < 0.4:
            white = ndimage.gaussian_filter(white, s := rng.uniform(0.5, 1.5)) * (2 * s + 0.5)
        out = out + noise * rng.uniform(0, 1.0) * white
    return np.asarray(out, np.float32)


def turned(
    image: np.ndarray, points: np.ndarray, angle: float, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image and points, turned and enlarged about the centre; and where there is an image."""
    height, width = image.shape
    shape = round(height * scale), round(width * scale)
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    matrix = np.array([[cos, -sin], [sin, cos]])  # new to old, (y, x)
    centre_new, centre_old = (np.array(shape) - 1) / 2, (np.array(image.shape) - 1) / 2
    offset = centre_old - matrix @ centre_new
    turned_image = ndimage.affine_transform(
        image, matrix, offset, output_shape=shape, order=1, mode="mirror"
    )
    inside = np.ones(shape, bool)
    yy, xx = np.ogrid[: shape[0], : shape[1]]
    for row in range(2):
        old = matrix[row, 0] * yy + matrix[row, 1] * xx + offset[row]
        inside &= (old >= 0) & (old <= image.shape[row] - 1)
    new = (points - offset) @ np.linalg.inv(matrix).T
    return turned_image, new, inside


@dataclass(frozen=True, eq=False)
class Example:
    """What crops are cut from: channels (C, Y, X), target (Y, X), weight (Y, X)."""

    channels: np.ndarray
    target: np.ndarray
    weight: np.ndarray


def make_example(
    image: np.ndarray,
    points: np.ndarray,
    settings: AtomTrainingSettings,
    rng: np.random.Generator | None = None,
) -> Example:
    """Channels and target of an image; with ``rng``, as recorded under other conditions."""
    inside = np.ones(image.shape, bool)
    if rng is not None:
        if rng.random() < 0.6 * settings.strength:
            angle = rng.uniform(0, 2 * np.pi) if rng.random() < 0.4 else 0.0
            scale = np.exp(rng.uniform(*settings.scale))
            image, points, inside = turned(image, points, angle, scale)
        image = imaging_changes(image, rng, settings)
    return Example(
        contrast_channels(image, SAMPLING_NM).astype(np.float16),
        target_map(image.shape, points, settings.spot_nm / SAMPLING_NM).astype(np.float16),
        inside,
    )


def simulated_field(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Atoms on amorphous carbon: an image (size, size) and the atoms that a person would mark.

    The support is white noise, blurred as the atoms of the carbon are by the probe, with slow
    relief; noise of counting, of the rows, sometimes vacuum.
    """

    def textured(sigma_nm: float) -> np.ndarray:
        t = ndimage.gaussian_filter(
            rng.standard_normal((size, size), dtype=np.float32), sigma_nm / SAMPLING_NM, mode="wrap"
        )
        return t / t.std()

    sigma = rng.uniform(0.05, 0.1)
    support = 1 + 0.35 * rng.uniform(0.3, 1.5) * textured(rng.uniform(1, 3))
    support += rng.uniform(0.03, 0.1) * textured(sigma) + rng.uniform(0.02, 0.1) * textured(0.25)
    if rng.random() < 0.3:
        y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
        a = rng.uniform(0, 2 * np.pi)
        edge = np.cos(a) * x + np.sin(a) * y + 0.1 * textured(1.0) - rng.uniform(-0.2, 0.8)
        support = support * (1 - 1 / (1 + np.exp(-edge * 30)))
    count = rng.poisson(rng.uniform(0.1, 0.6) * (size * SAMPLING_NM) ** 2)
    points = rng.uniform(0, size - 1, (count, 2))
    clustered = rng.random(count) < rng.uniform(0, 0.5)
    if count > 3:
        centres = points[rng.integers(0, count, count)]
        near = centres + rng.normal(0, 0.3 / SAMPLING_NM, (count, 2))
        points = np.where(clustered[:, None], near, points)
        points = points[((points >= 0) & (points <= size - 1)).all(1)]
    amplitude = rng.uniform(0.15, 0.5) * np.exp(rng.normal(0, 0.3, len(points)))
    amplitude = amplitude * (support[tuple(points.round().astype(int).T)] > 0.25)
    peaks = np.zeros((size, size), np.float32)
    reach = int(4 * sigma / SAMPLING_NM) + 1
    for (py, px), a in zip(points, amplitude, strict=True):
        y0, x0 = max(0, int(py) - reach), max(0, int(px) - reach)
        part = peaks[y0 : int(py) + reach + 1, x0 : int(px) + reach + 1]
        dy = np.arange(y0, y0 + part.shape[0])[:, None] - py
        dx = np.arange(x0, x0 + part.shape[1])[None] - px
        part += a * np.exp(-(dy**2 + dx**2) / (2 * (sigma / SAMPLING_NM) ** 2))
    noise = rng.uniform(0.04, 0.2)
    image = support + peaks
    image = image + noise * np.sqrt(np.maximum(image, 0.05)) * rng.standard_normal(image.shape)
    image += rng.uniform(0, 0.3) * noise * rng.standard_normal((size, 1))
    visible = amplitude > 1.2 * noise
    return image.astype(np.float32), points[visible]


# ---- the fit


def train_network(
    images: Sequence[LabelledImage],
    settings: AtomTrainingSettings,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> AtomNet:
    """Fit a network; the running average of its weights is returned.

    Parameters
    ----------
    images
        Labelled images; each is seen as often as its area at the common sampling says.
    settings
        How.
    progress, stop
        Called between steps.

    Raises
    ------
    Cancelled
        If ``stop()`` says so.
    """
    rng = np.random.default_rng(settings.seed)
    torch.manual_seed(settings.seed)
    plain: list[tuple[np.ndarray, np.ndarray]] = []
    for labelled in images:
        image, factor = resampled(labelled.pixels, labelled.pixel_size_nm)
        plain.append((image, (labelled.points + 0.5) * factor - 0.5))
    share = np.array([float(image.size) for image, _ in plain])
    share /= share.sum()
    pool = [make_example(*p, settings, rng) for p in plain]
    n_fields = _FIELDS if settings.simulated > 0 else 0
    fields = [_field_example(settings, rng) for _ in range(n_fields)]

    channels = pool[0].channels.shape[0]
    network = AtomNet(channels, settings.width, settings.dropout)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AtomNet(channels, settings.width, settings.dropout)
    average.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(
        network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, settings.steps, pct_start=0.1
    )
    half = _has_bfloat16()
    for step in range(settings.steps):
        check(stop)
        if step % settings.renew == 0:
            i = int(rng.choice(len(plain), p=share))
            pool[i] = make_example(*plain[i], settings, rng)
            if fields and step % (8 * settings.renew) == 0:
                fields[int(rng.integers(len(fields)))] = _field_example(settings, rng)
        chosen = [
            fields[int(rng.integers(len(fields)))]
            if rng.random() < settings.simulated
            else pool[int(rng.choice(len(pool), p=share))]
            for _ in range(settings.batch)
        ]
        x, y, weight = _batch(chosen, settings.crop_px, rng)
        network.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = network(x.to(memory_format=torch.channels_last))
        entropy = functional.binary_cross_entropy_with_logits(logits.float(), y, reduction="none")
        loss = (entropy * weight).sum() / weight.sum()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        _follow(average, network, min(settings.averaging, (1 + step) / (10 + step)))
        report(progress, step + 1, settings.steps, "Training")
    return average.eval()


def _field_example(settings: AtomTrainingSettings, rng: np.random.Generator) -> Example:
    """A simulated field; it has conditions of its own, so few are changed."""
    field = simulated_field(FIELD_PX, rng)
    return make_example(*field, replace(settings, strength=0.3), rng)


def _has_bfloat16() -> bool:
    """Whether the processor multiplies in 16 bits: training is several times faster then."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return bool(supported is not None and supported())


@torch.no_grad()
def _follow(average: AtomNet, network: AtomNet, kept: float) -> None:
    states = average.state_dict().values(), network.state_dict().values()
    for mean, now in zip(*states, strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(now, 1 - kept)


def _batch(
    examples: Sequence[Example], size: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """A crop of each, in a random symmetry of the square."""
    parts: tuple[list[np.ndarray], ...] = ([], [], [])
    for example in examples:
        shape = example.target.shape
        top, left = (int(rng.integers(0, max(1, n - size + 1))) for n in shape)
        window = np.s_[..., top : top + size, left : left + size]
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        arrays = (example.channels, example.target, example.weight)
        for part, array in zip(parts, arrays, strict=True):
            cut = array[window]
            missing = [max(0, size - n) for n in cut.shape[-2:]]
            if any(missing):
                pad = [(0, 0)] * (cut.ndim - 2) + [(0, missing[0]), (0, missing[1])]
                cut = np.pad(cut, pad)
            cut = np.rot90(cut, turns, (-2, -1))
            part.append(cut[..., ::-1] if flip else cut)
    x, y, w = (torch.from_numpy(np.stack(p).astype(np.float32)) for p in parts)
    return x, y, w


# ---- images that a network has not seen


@dataclass(frozen=True, eq=False)
class Judged:
    """Candidates of an image that the networks had not learnt from.

    Parameters
    ----------
    points_nm
        (N, 2) positions.
    score
        (N,) of the networks.
    right
        (N,) bool: a mark is near, and no candidate of a higher score has it.
    marked
        Number of marks.
    """

    points_nm: np.ndarray
    score: np.ndarray
    right: np.ndarray
    marked: int

    @property
    def missed(self) -> int:
        return self.marked - int(self.right.sum())


def judge(
    image: LabelledImage, points: np.ndarray, score: np.ndarray, tolerance_nm: float
) -> Judged:
    """Which candidates are right: from the highest score on, each takes the nearest free mark."""
    points_nm = points * image.pixel_size_nm
    gap = np.linalg.norm(points_nm[:, None] - image.points_nm[None], axis=2)
    gap = np.where(gap <= tolerance_nm * (1 + 1e-9), gap, np.inf)
    right = np.zeros(len(points), bool)
    for row in np.argsort(-score, kind="stable"):
        if gap.shape[1] and np.isfinite(nearest := gap[row].min()):
            gap[:, int(np.flatnonzero(gap[row] == nearest)[0])] = np.inf
            right[row] = True
    return Judged(points_nm, score, right, len(image.points))


def folds_of(images: Sequence[LabelledImage], n_folds: int, seed: int = 0) -> np.ndarray:
    """(N,) fold of each image: groups stay together, sets are spread, sizes are even."""
    rng = np.random.default_rng(seed)
    fold = np.zeros(len(images), int)
    for source in sorted({i.source for i in images}):
        load_of = np.zeros(n_folds)
        groups = sorted({i.group for i in images if i.source == source})
        size = {g: sum(i.group == g and i.source == source for i in images) for g in groups}
        order = rng.permutation(len(groups))
        for group in sorted((groups[k] for k in order), key=lambda g: -size[g]):
            least = np.flatnonzero(load_of == load_of.min())
            chosen = int(rng.choice(least))
            load_of[chosen] += size[group]
            for row, image in enumerate(images):
                if image.source == source and image.group == group:
                    fold[row] = chosen
    return fold


def expected_f1_threshold(calibration: operating.Calibration, judged: Judged) -> float:
    """The operating point of one image, as `find_atoms` chooses it."""
    return operating.best_threshold(calibration(judged.score), calibration.candidate_recall)


def calibrated_on(judged: Sequence[Judged]) -> operating.Calibration:
    """Fit to images that the networks had not seen.

    Only candidates near the decision and above (`CALIBRATED_FROM`) count: the many that nobody
    would take for atoms follow another law and would bend the curve where it matters.
    """
    score = np.concatenate([j.score for j in judged])
    right = np.concatenate([j.right for j in judged])
    near = score >= CALIBRATED_FROM
    if right[near].all() or not right[near].any():  # too clear or too few: all of them
        near[:] = True
    fitted = operating.fit_calibration(score[near], right[near])
    among = right[fitted(score) >= AtomCard.floor].sum()
    return replace(fitted, candidate_recall=float(among) / sum(j.marked for j in judged))


def calibrations(
    images: Sequence[LabelledImage],
    fold: np.ndarray,
    judged: Sequence[Judged],
    recipe: AtomRecipe,
) -> list[operating.Calibration]:
    """For each image, the calibration on the images of the other folds; last, that on all."""
    sure = [i.source not in recipe.not_calibrating for i in images]
    if not any(sure):
        sure = [True] * len(images)

    def of(left_out: int) -> operating.Calibration:
        rows = [n for n, f in enumerate(fold) if sure[n] and f != left_out]
        rows = rows or [n for n, s in enumerate(sure) if s]
        return calibrated_on([judged[n] for n in rows])

    by_fold = {int(f): of(int(f)) for f in np.unique(fold)}
    return [*(by_fold[int(f)] for f in fold), of(-1)]


def f1_of(
    judged: Iterable[Judged],
    thresholds: Iterable[float],
    calibrations: Iterable[operating.Calibration],
) -> dict[str, float]:
    """Precision, recall and F1 over images, each at its threshold."""
    right = reported = marked = 0
    for one, threshold, calibration in zip(judged, thresholds, calibrations, strict=True):
        chosen = calibration(one.score) >= threshold
        right += int(one.right[chosen].sum())
        reported += int(chosen.sum())
        marked += one.marked
    return {
        "precision": right / max(reported, 1),
        "recall": right / max(marked, 1),
        "f1": 2 * right / max(reported + marked, 1),
        "marked": marked,
        "reported": reported,
    }


# ---- the whole of it

MOST_NETWORKS = 9
"""Of a model: so many fit into 3 MB."""
LEAST_MARKS = 20
"""Fewer teach nothing."""
LIMITS = (
    "A probability says how likely the people who labelled the images it learnt from would have "
    "marked an atom there; others mark otherwise. Heavy atoms (Pt, Re) on carbon; light ones and "
    "heavy supports were not seen. Inside dense aggregates marks are sparse and so are detections."
)


@dataclass(frozen=True)
class AtomRecipe:
    """What makes an atom model from labelled images.

    Parameters
    ----------
    settings
        Of each network.
    folds
        Parts of the images, each left out once, for calibration and scores.
    members
        Networks of the model, which learn from all images; 0: the model is those of the folds.
    fold_members
        Networks trained without each fold.
    also
        Settings of every second (third, ...) network: conditions that differ make networks that
        err differently.
    scales
        See `finder.AtomCard`.
    tolerance_nm
        A candidate this near to a mark is right.
    not_calibrating
        Sets that are learnt from and scored, but whose marks are not sure enough to calibrate.
    """

    settings: AtomTrainingSettings = AtomTrainingSettings()
    folds: int = 4
    members: int = 2
    fold_members: int = 1
    also: tuple[AtomTrainingSettings, ...] = ()
    scales: tuple[float, ...] = (1.0,)
    tolerance_nm: float = 0.15
    not_calibrating: tuple[str, ...] = ()

    def network(self, k: int) -> AtomTrainingSettings:
        """Settings of the k-th network."""
        kinds = (self.settings, *self.also)
        chosen = kinds[k % len(kinds)]
        return replace(chosen, seed=chosen.seed + k // len(kinds))


@dataclass(frozen=True)
class _Job:
    """One network: without a fold, or of all images (-1)."""

    fold: int
    k: int

    @property
    def name(self) -> str:
        return f"{'all' if self.fold < 0 else f'without-{self.fold}'}-network-{self.k}"


def train_atoms(
    directory: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    pixel_size_nm: float | None = None,
    recipe: AtomRecipe | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> AtomCard:
    """A model from folders of images with tables of positions; see `read_labelled`.

    Parameters
    ----------
    directory
        A folder or several; each is a set of its own in the scores.
    out
        The .safetensors file to write; its card lies beside it.
    pixel_size_nm
        For images that don't say theirs.
    recipe
        How.
    progress, stop
        Called between steps.

    Returns
    -------
    AtomCard
        With precision, recall and F1 on the folds.

    Raises
    ------
    ReadError, CalibrationError, TableError
        If images or positions are missing or not what they should be.
    Cancelled
        If ``stop()`` says so; nothing is written then.
    """
    folders = [directory] if isinstance(directory, str | Path) else list(directory)
    images = [i for folder in folders for i in read_labelled(folder, pixel_size_nm)]
    return train_on(images, Path(out), recipe or AtomRecipe(), progress=progress, stop=stop)


def train_on(
    images: Sequence[LabelledImage],
    out: Path,
    recipe: AtomRecipe,
    *,
    build: Path | None = None,
    workers: int = 1,
    about: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> AtomCard:
    """As `train_atoms`, of images in memory.

    Parameters
    ----------
    build
        Folder in which every network is kept once it is trained; what is there is not made again.
    workers
        Processes; with more than one, ``stop`` is heard only between networks.
    about
        Fields of the card.
    """
    out = out.with_suffix(".safetensors")
    n_marks = sum(len(i.points) for i in images)
    if n_marks < LEAST_MARKS:
        raise TableError(f"there are {n_marks} marked atoms; {LEAST_MARKS} are the least")
    n_groups = len({i.group for i in images})
    if n_groups < 2:
        raise ReadError("one image is not enough", advice="Give two labelled images or more")
    recipe = replace(recipe, folds=min(recipe.folds, n_groups))
    fold = folds_of(images, recipe.folds, recipe.settings.seed)
    judged, networks = fold_predictions(
        images, fold, recipe, build=build, workers=workers, with_model=True,
        progress=progress, stop=stop,
    )  # fmt: skip
    try:
        *by_image, calibration = calibrations(images, fold, judged, recipe)
    except ValueError as error:
        raise TableError(
            f"nothing was learnt ({error})", advice="Check that the marks lie on the atoms"
        ) from error
    card = AtomCard(
        out.stem,
        members=len(networks),
        width=recipe.settings.width,
        views=max(1, 8 // len(networks)),
        scales=recipe.scales,
        slope=calibration.slope,
        offset=calibration.offset,
        candidate_recall=calibration.candidate_recall,
        tolerance_nm=recipe.tolerance_nm,
        limits=LIMITS,
        data={
            source: {
                "images": sum(i.source == source for i in images),
                "atoms": sum(len(i.points) for i in images if i.source == source),
            }
            for source in sorted({i.source for i in images})
        },
        training={**asdict(recipe), "torch": str(torch.__version__)},
        scores=fold_scores(images, judged, by_image),
        version=__version__,
    )
    return save_atom_model(out, replace(card, **(about or {})), networks)


def fold_predictions(
    images: Sequence[LabelledImage],
    fold: np.ndarray,
    recipe: AtomRecipe,
    *,
    build: Path | None = None,
    workers: int = 1,
    with_model: bool = False,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> tuple[list[Judged], list[AtomNet]]:
    """What networks say of images that they have not learnt from, and those of the model.

    Returns
    -------
    judged : list of Judged
        For each image, by the networks without its fold.
    networks : list of AtomNet
        Trained on all images; empty unless ``with_model``.
    """
    jobs = [_Job(f, s) for f in range(recipe.folds) for s in range(recipe.fold_members)]
    if with_model:
        jobs += [_Job(-1, s) for s in range(recipe.members)]
    made = _trained(images, fold, recipe, jobs, build, workers, progress, stop)
    judged = []
    for image, left_out in zip(images, fold, strict=True):
        check(stop)
        nets = [made[_Job(int(left_out), s)] for s in range(recipe.fold_members)]
        judged.append(judged_by(nets, image, recipe))
    # Without networks of its own, the model is the average of those of the folds.
    own = [made[job] for job in jobs if job.fold < 0 or not recipe.members]
    return judged, own[:MOST_NETWORKS]


def judged_by(networks: Sequence[AtomNet], image: LabelledImage, recipe: AtomRecipe) -> Judged:
    """Candidates of an image by networks that have not learnt from it, in all eight views."""
    card = AtomCard(
        "judge",
        members=len(networks),
        width=recipe.settings.width,
        views=max(1, 8 // len(networks)),
        scales=recipe.scales,
        floor=0.0,
    )
    model = AtomModel(card, packed(networks), torch.device("cpu"))
    points, score = model.candidates(image.pixels, image.pixel_size_nm)
    likely = score > _LEAST_SCORE
    return judge(image, points[likely], score[likely], recipe.tolerance_nm)


def fold_scores(
    images: Sequence[LabelledImage],
    judged: Sequence[Judged],
    calibration: Sequence[operating.Calibration],
) -> dict[str, Any]:
    """Scores by set; each image at the operating point that its calibration gives."""
    scores = {}
    for source in sorted({i.source for i in images}):
        rows = [k for k, i in enumerate(images) if i.source == source]
        thresholds = [expected_f1_threshold(calibration[k], judged[k]) for k in rows]
        scores[source] = f1_of(
            [judged[k] for k in rows], thresholds, [calibration[k] for k in rows]
        )
    return scores


def _trained(
    images: Sequence[LabelledImage],
    fold: np.ndarray,
    recipe: AtomRecipe,
    jobs: Sequence[_Job],
    build: Path | None,
    workers: int,
    progress: Progress | None,
    stop: Stop | None,
) -> dict[_Job, AtomNet]:
    """The networks of the jobs, those that are in ``build`` from there."""
    made: dict[_Job, AtomNet] = {}
    missing = []
    for job in jobs:
        kept = None if build is None else build / f"{job.name}.safetensors"
        if kept is not None and kept.is_file():
            made[job] = AtomNet(width=recipe.settings.width)
            made[job].load_state_dict(load_file(kept))
        else:
            missing.append(job)
    steps = recipe.settings.steps
    tasks = [
        (
            [i for i, f in zip(images, fold, strict=True) if f != job.fold],
            recipe.network(job.k),
        )
        for job in missing
    ]
    if workers > 1 and len(missing) > 1:
        with ProcessPoolExecutor(workers) as processes:
            states = processes.map(_state_of, tasks)
            for n, (job, state) in enumerate(zip(missing, states, strict=True)):
                made[job] = _kept(state, job, recipe, build)
                report(progress, (n + 1) * steps, len(missing) * steps, "Training networks")
                check(stop)
        return made
    for n, (job, task) in enumerate(zip(missing, tasks, strict=True)):

        def step(done: int, _total: int, _message: str, before: int = n * steps) -> None:
            words = f"Training network {before // steps + 1} of {len(missing)}"
            report(progress, before + done, len(missing) * steps, words)

        network = train_network(*task, progress=step, stop=stop)
        made[job] = _kept(network.state_dict(), job, recipe, build)
    return made


def _state_of(task: tuple[list[LabelledImage], AtomTrainingSettings]) -> dict[str, Tensor]:
    torch.set_num_threads(1)
    return train_network(*task).state_dict()


def _kept(
    state: Mapping[str, Tensor], job: _Job, recipe: AtomRecipe, build: Path | None
) -> AtomNet:
    if build is not None:
        build.mkdir(parents=True, exist_ok=True)
        weights = {name: value.contiguous() for name, value in state.items()}
        save_file(weights, build / f"{job.name}.safetensors")
    network = AtomNet(width=recipe.settings.width)
    network.load_state_dict(state)
    return network.eval()


# ---- the shipped model

SHIPPED_RECIPE = AtomRecipe(
    AtomTrainingSettings(),
    folds=5,
    members=0,
    fold_members=2,
    also=(AtomTrainingSettings(steps=1200, strength=0.5, blur=(-1.2, 0.2), scale=(-0.15, 0.15)),),
    scales=(1.0, 0.8),
    not_calibrating=("Pt porphyrin", "Re bipyridine"),
)
"""Many marks of the molecular set were in the files of other images."""
MOLECULAR_PIXEL_NM = 0.01603
"""The molecular set's files don't say theirs; its authors' script does."""
ABOUT: dict[str, Any] = {
    "description": (
        "Finds single heavy-metal atoms in HAADF-STEM images: a small U-Net on local contrast at a "
        "common sampling of 0.03 nm, several of them averaged over the symmetries of the square."
    ),
    "intended_use": (
        "Pt, Re and metals as heavy on carbon, 0.01 to 0.06 nm per pixel. Check the operating "
        "point on an image of your own."
    ),
}
SOURCES = {
    "Pt/NC": {
        "what": "Pt on N-doped carbon, github.com/HPAI-BSC/AtomDetection_ACSTEM",
        "licence": "MIT",
        "cite": "J. Am. Chem. Soc. (2022), doi:10.1021/jacs.1c12466",
    },
    "Pt porphyrin": {
        "what": "github.com/Sjeon1/HAADF_Atom_Detection, Ptporph*",
        "licence": "MIT",
        "cite": "Matter, S2590-2385(24)00588-5",
    },
    "Re bipyridine": {
        "what": "github.com/Sjeon1/HAADF_Atom_Detection, bpy_crop*",
        "licence": "MIT",
        "cite": "Matter, S2590-2385(24)00588-5",
    },
}


def shared_images(
    directories: Sequence[Path], own_marks: bool = True
) -> tuple[list[LabelledImage], dict[str, dict[str, Any]]]:
    """The labelled images that the shipped model learns from, and the marks that were moved."""
    images = [i for folder in directories for i in read_labelled(folder, MOLECULAR_PIXEL_NM)]
    names = {"Ptporph": "Pt porphyrin", "bpy": "Re bipyridine"}
    images = [
        replace(i, source=next((s for n, s in names.items() if i.name.startswith(n)), "Pt/NC"))
        for i in images
    ]
    images = grouped_by_field(images)
    if not own_marks:
        return images, {}
    fixed, moved = with_own_marks([i for i in images if i.source in names.values()])
    return [i for i in images if i.source not in names.values()] + fixed, moved


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the shipped atom model."""
    parser = argparse.ArgumentParser(prog="python -m napari_atomicity.training.atoms")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of the sets")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file")
    parser.add_argument("--build", type=Path, help="where networks are kept once they are trained")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args(arguments)
    try:
        images, moved = shared_images(given.data)
        card = train_on(
            images,
            given.out,
            SHIPPED_RECIPE,
            build=given.build,
            workers=given.workers,
            about={**ABOUT, "data": _data(images, moved)},
            progress=lambda done, total, what: (
                print(f"{what}: {done}/{total}", file=sys.stderr, flush=True)
                if done % 100 == 0 or done == total
                else None
            ),
        )
    except AtomicityError as error:
        print(error, file=sys.stderr)
        return 1
    print(card.model_id, card.scores)
    return 0


def _data(images: Sequence[LabelledImage], moved: Mapping[str, Any]) -> dict[str, Any]:
    counts = {
        source: {
            **about,
            "images": sum(i.source == source for i in images),
            "atoms": sum(len(i.points) for i in images if i.source == source),
        }
        for source, about in SOURCES.items()
    }
    return {**counts, "simulated": "atoms on amorphous carbon", "marks_moved": dict(moved)}


if __name__ == "__main__":
    raise SystemExit(main())
