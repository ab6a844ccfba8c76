"""Analyses made up for tests of the docks: no detection, no network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.tables.cluster_table import conform
from napari_atomicity.models.analysis import Analysis

CLASSES = ["Pt19", "Pt30", "Pt41", "Pt55", "Pt70"]
DIAMETERS_NM = [0.95, 1.1, 1.2, 1.32, 1.42]
PIXEL_SIZE_NM = 0.05


def made_up(*args: Any, **options: Any) -> Analysis:
    """`with_class_maps` without them: napari takes long to make their layers."""
    return replace(with_class_maps(*args, **options), class_maps={})


def with_class_maps(
    n: int = 40, name: str = "field", seed: int = 0, size_px: int = 256
) -> Analysis:
    """An analysed image of n clusters, of the five classes in turn; blobs in the patches."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % len(CLASSES)
    p = rng.dirichlet(np.ones(len(CLASSES)), n) * 0.35
    p[np.arange(n), kind] += 0.65
    y, x = rng.uniform(20, size_px - 20, (2, n))
    angle = 2 * np.pi * kind / len(CLASSES)
    place = 6 * np.column_stack([np.cos(angle), np.sin(angle)]) + rng.normal(0, 0.8, (n, 2))
    label = np.array(CLASSES, object)[kind]
    diameter = np.array(DIAMETERS_NM)[kind] + rng.normal(0, 0.05, n)
    second = np.array(CLASSES, object)[(kind + 1) % len(CLASSES)]
    table = pd.DataFrame(
        {
            "image": name,
            "cluster_id": np.arange(1, n + 1),
            "y_px": y,
            "x_px": x,
            "y_nm": y * PIXEL_SIZE_NM,
            "x_nm": x * PIXEL_SIZE_NM,
            "diameter_nm": diameter,
            "label": label,
            "label_predicted": label,
            "confidence": p.max(axis=1),
            **{f"p_{c}": p[:, i] for i, c in enumerate(CLASSES)},
            "prediction_set": [
                a if v > 0.8 else f"{a}|{b}"
                for a, b, v in zip(label, second, p.max(axis=1), strict=True)
            ],
            "ood_score": rng.uniform(0.2, 1.3, n),
            "umap_1": place[:, 0],
            "umap_2": place[:, 1],
            "model_id": "made-up",
        }
    )
    patch_y, patch_x = np.mgrid[:56, :56] / 56 - 0.5
    radius = diameter[:, None, None] / 2.8 / 2
    r = np.hypot(patch_y, patch_x)
    blob = np.exp(-((r[None] / radius) ** 4)) * (1 + 0.5 * kind[:, None, None])
    raw = blob + rng.normal(0, 0.12, (n, 56, 56))
    lcn = np.tanh(3 * (blob / blob.max(axis=(1, 2), keepdims=True) - 0.4))
    lcn = lcn + rng.normal(0, 0.3, (n, 56, 56))
    map_y, map_x = (np.mgrid[:14, :14] + 0.5) / 14 - 0.5
    map_r = np.hypot(map_y, map_x)[None]
    maps = {
        "raw": np.exp(-((map_r / radius) ** 2)),
        "LCN": 0.8 * np.exp(-(((map_r - radius) / 0.06) ** 2)),
    }
    image = rng.normal(100, 3, (size_px, size_px))
    along = np.arange(size_px)
    for cy, cx, d in zip(y, x, diameter, strict=True):
        rows, columns = (np.exp(-(((along - c) / (d / 2 / PIXEL_SIZE_NM)) ** 2)) for c in (cy, cx))
        image += 40 * np.outer(rows, columns)
    turn = np.linspace(0, 2 * np.pi, 24)
    circle = np.column_stack([np.sin(turn), np.cos(turn)])
    return Analysis(
        Micrograph(image, PIXEL_SIZE_NM, name),
        conform(table, CLASSES),
        [
            np.array([cy, cx]) + circle * d / 2 / PIXEL_SIZE_NM
            for cy, cx, d in zip(y, x, diameter, strict=True)
        ],
        patches={"raw": raw.astype(np.float32), "LCN": lcn.astype(np.float32)},
        embedding=rng.normal(size=(n, 8)).astype(np.float32),
        class_maps={k: v.astype(np.float32) for k, v in maps.items()},
        field_of_view_nm=2.8,
        parameters={"model": {"model_id": "made-up", "classes": CLASSES}, "device": "cpu"},
    )
