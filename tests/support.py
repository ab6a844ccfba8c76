"""What several tests need: an analysis as it comes out of the pipeline, made without it."""

from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.core.patches import PatchSettings
from napari_atomicity.core.tables.cluster_table import conform
from napari_atomicity.models.analysis import Analysis
from napari_atomicity.simulation.field_settings import FieldSettings
from napari_atomicity.simulation.fields import simulate_field
from napari_atomicity.simulation.structures import Isomer

CLASSES = ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70")


def synthetic_analysis(
    n: int = 12, name: str = "field.tif", seed: int = 0, classes=CLASSES, frames: int = 1
) -> Analysis:
    """N labelled discs on noise, with random probabilities, patches and class maps."""
    rng = np.random.default_rng(seed)
    height, width, pixel_nm, patch = 120, 160, 0.1, 16
    data = rng.normal(100, 5, (frames, height, width)).astype(np.float32)
    centres = rng.uniform(8, [height - 8, width - 8], (n, 2))
    radii = rng.uniform(4, 7, n)
    yy, xx = np.mgrid[:height, :width]
    for (y, x), radius in zip(centres, radii, strict=True):
        data[0] += 60 * (np.hypot(yy - y, xx - x) < radius)
    p = rng.dirichlet(np.full(len(classes), 0.3), n)
    table = pd.DataFrame(p, columns=[f"p_{c}" for c in classes])
    table["image"], table["cluster_id"] = name, np.arange(1, n + 1)
    table[["y_px", "x_px"]] = centres
    table[["y_nm", "x_nm"]] = centres * pixel_nm
    table["diameter_nm"] = 2 * radii * pixel_nm
    table["integrated_intensity"] = 60 * np.pi * (radii * pixel_nm) ** 2
    table["eccentricity"] = 0.0
    table["label"] = table["label_predicted"] = np.array(classes, object)[p.argmax(axis=1)]
    table["confidence"] = p.max(axis=1)
    table["model_id"] = "synthetic-0"
    angle = np.linspace(0, 2 * np.pi, 13)
    ring = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    return Analysis(
        Micrograph(data if frames > 1 else data[0], pixel_nm, name=name),
        conform(table, list(classes)),
        [centre + radius * ring for centre, radius in zip(centres, radii, strict=True)],
        patches={c: rng.normal(size=(n, patch, patch)).astype(np.float32) for c in ("raw", "LCN")},
        embedding=rng.normal(size=(n, 8)).astype(np.float32),
        class_maps={c: rng.random((n, 8, 8)).astype(np.float32) for c in ("raw", "LCN")},
        field_of_view_nm=1.6,
        parameters={"model": {"model_id": "synthetic-0"}},
        seconds={"detect": 0.1, "network": 0.2},
    )


def write_tiny_model(path: Path) -> Path:
    """A complete model file of two classes, its network untrained."""
    import torch

    from napari_atomicity.core.scale_reference import ScaleReference
    from napari_atomicity.models.files import save_model
    from napari_atomicity.models.network import AtomicityNet

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    classes = ("Pt19", "Pt70")
    patches = PatchSettings(size_px=32)
    network = AtomicityNet(patches.channels, len(classes), width=4)
    tensors = {f"network.{k}": v.numpy() for k, v in network.state_dict().items()}
    embedding = rng.normal(size=(40, 32)).astype(np.float32)
    tensors |= {
        "reference.embedding": embedding,
        "reference.label": np.arange(40) % 2,
        "reference.map": rng.uniform(0, 10, (40, 2)).astype(np.float32),
        "ood.mean": np.zeros((2, 32), np.float32),
        "ood.whitening": np.eye(32, dtype=np.float32),
    }
    small = ((0.01, 0.0), (0.0, 0.01))
    scale = ScaleReference((np.log(19.0), np.log(70.0)), (-0.2, 0.25), (small, small))
    card = ModelCard("tiny", classes, patches, scale=scale, width=4, ood_limit=1e6)
    save_model(path, card, tensors)
    return path


def write_size_selected(root: Path, library, images: int = 3) -> Path:
    """Small simulated images ``root/Pt19/0.tif`` … and the same of Pt70."""
    for label in ("Pt70", "Pt19"):
        (root / label).mkdir()
        for i in range(images):
            settings = FieldSettings(
                shape_px=(360, 360), clusters_per_nm2=0.05, mixture={label: 1.0}
            )
            field = simulate_field(library, settings, seed=10 * i + len(label + str(i)))
            tifffile.imwrite(
                root / label / f"{i}.tif",
                field.micrograph.data.astype(np.uint16),
                imagej=True,
                resolution=(25, 25),
                metadata={"unit": "nm"},
            )
    return root


def lattice_isomer(n: int, seed: int = 0) -> Isomer:
    """A piece of a simple lattice of n atoms: an isomer without the potential that relaxes it."""
    rng = np.random.default_rng(seed)
    sites = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3), -1).reshape(-1, 3) * 0.26
    sites = sites + rng.normal(0, 0.01, sites.shape)
    order = np.argsort(np.linalg.norm(sites - rng.uniform(-0.1, 0.1, 3), axis=1))
    positions = sites[order[:n]]
    return Isomer("Pt", "compact", (positions - positions.mean(axis=0)).astype(np.float32))
