"""Ratios and plots of images in any state, alone and beside any other."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from films import film

from napari_atomicity.core.tables.cluster_table import concatenate, conform, empty, settle_labels
from napari_atomicity.reporting.plots.registry import PLOTS
from napari_atomicity.statistics.ratios.ratios import class_ratios
from napari_atomicity.tracking import track_clusters
from support import synthetic_analysis

STATES = {
    "labelled": {},
    "of no class": {"label_predicted": "unknown", "confidence": 0.0},
    "not classified": {"label_predicted": "", "confidence": np.nan, "model_id": ""},
    "by hand": {"label_predicted": "", "label_corrected": "Pt19", "model_id": ""},
    "cut by the border": {"touches_border": True},
    "excluded": {"excluded": True},
    "of another model": {"model_id": "other"},
}


@pytest.fixture(scope="module")
def tables():
    """Cluster tables by a name: images, tracked movies and stacks in all states, and none."""
    image = synthetic_analysis(12)
    stack, _, _ = film(n_frames=5, n_clusters=6, seed=2)
    stack = replace(stack, table=stack.table.assign(model_id="made-0"))
    found = {"without clusters": empty(("Pt19", "Pt8")), "without classes": empty()}
    for kind, analysis in (("image", image), ("stack", stack), ("movie", track_clusters(stack))):
        known = analysis.table.drop(columns=["truth_id", "state", "merged"], errors="ignore")
        for state, columns in STATES.items():
            name = f"{kind} {state}"
            found[name] = settle_labels(conform(known.assign(**columns, image=name)))
    return found


def test_all_states_have_ratios_and_plots(tables):
    pairs = [*((name,) for name in tables), *combinations(tables, 2)]
    for names in pairs:
        table = concatenate([tables[name] for name in names])
        ratios = class_ratios(table, images=names, groups={"all of them": names}, n_bootstrap=10)
        assert {*ratios["scope"]} <= {*names, "all of them", "all"}, names
        of_all = ratios.loc[ratios["scope"] == "all", "count"].tolist()
        assert of_all == ratios.loc[ratios["scope"] == "all of them", "count"].tolist(), names
        if len(names) == 1 or names[0].startswith("without"):
            for plot in PLOTS.values():
                plot.data(table)
