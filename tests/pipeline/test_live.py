"""Figures of a live session: conditions, running ratios, the log."""

import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.core.tables.cluster_table import concatenate
from napari_atomicity.models.domain_shift import domain_shift
from napari_atomicity.pipeline.live import live
from napari_atomicity.pipeline.live.control_chart import SESSION_CHANGED, Reading
from napari_atomicity.pipeline.live.live import (
    Conditions,
    Log,
    Running,
    conditions_of,
    read_log,
    row_of,
)
from napari_atomicity.statistics.ratios.ratios import class_ratios
from support import CLASSES, synthetic_analysis

CARD = ModelCard("fake", CLASSES, drift_limit=3.0)
TENSORS = {"ood.mean": np.zeros((5, 8), np.float32), "ood.whitening": np.eye(8, dtype=np.float32)}


def classified(n=20, shift=0.0, far=0, name="a.tif"):
    made = synthetic_analysis(n, name)
    score = np.where(np.arange(n) < far, 2.0, 0.5)
    table = made.table.assign(ood_score=score, touches_border=np.arange(n) == n - 1)
    return replace(made, table=table, embedding=made.embedding + np.float32(shift))


def test_conditions_are_those_of_whole_and_known_clusters():
    made = classified(far=4)
    found = conditions_of(made, CARD, TENSORS)
    ours = np.arange(20) % 20 != 19
    ours[:4] = False
    p = made.table[[f"p_{c}" for c in CLASSES]].to_numpy()
    assert found.drift == pytest.approx(
        domain_shift(made.embedding[ours], p.argmax(axis=1)[ours], TENSORS)
    )
    assert (found.clusters, found.counted) == (20, 19)
    assert found.ood_share == pytest.approx(4 / 19)
    # Neither the cut cluster nor an aggregate is one of which the model is unsure.
    assert found.mean_confidence == pytest.approx(made.table["confidence"][:-1].mean())
    table = made.table.copy()
    table.loc[:2, ["label_predicted", "confidence"]] = ["aggregate", 0.0]
    fewer = conditions_of(replace(made, table=table), CARD, TENSORS)
    assert fewer.mean_confidence == pytest.approx(made.table["confidence"][3:-1].mean())
    assert not found.conditions_differ and not any("conditions" in a for a in found.alarms)


def test_leaving_the_domain_is_an_alarm():
    shifted = conditions_of(classified(shift=1.0), CARD, TENSORS)
    assert shifted.drift > 3 and shifted.conditions_differ
    assert "the conditions are not those of the model's training" in shifted.alarms
    strange = conditions_of(classified(far=15), CARD, TENSORS)
    assert "most clusters are like nothing that the model has learnt" in strange.alarms
    without_limit = conditions_of(classified(shift=1.0), ModelCard("fake", CLASSES), TENSORS)
    assert np.isnan(without_limit.drift_limit) and not without_limit.conditions_differ


def test_unknown_clusters_are_among_those_of_which_the_model_is_unsure():
    made = classified(n=10)
    table = made.table.copy()
    unknown = table.index < 3
    table["confidence"] = np.where(unknown, 0.0, 0.6)
    table.loc[unknown, ["label", "label_predicted"]] = "unknown"
    found = conditions_of(replace(made, table=table), CARD, TENSORS)
    assert found.counted == 6 and found.mean_confidence == pytest.approx(3.6 / 9)
    assert "the model is unsure of most clusters" in found.alarms


def test_a_change_within_the_session_is_an_alarm_beside_the_others():
    found = conditions_of(classified(far=15), CARD, TENSORS)
    quiet, rings = found.read(Reading(2.0, 0.9, 12)), found.read(Reading(9.0, 1.1, 12))
    assert quiet.alarms == found.alarms and SESSION_CHANGED not in found.alarms
    assert rings.alarms == (*found.alarms, SESSION_CHANGED)
    numbers = {"images": 1, "waiting": 0, "analysis_s": 0.1, "latency_s": 0.2}
    line = row_of("a.tif", None, rings, ("Pt19",), None, **numbers)
    assert (line["session_drift"], line["session_change"], line["reference_images"]) == (9, 1.1, 12)


def test_few_clusters_are_no_alarm():
    few = conditions_of(classified(n=4, far=4), CARD, TENSORS)
    assert few.alarms == () and np.isnan(few.drift)
    none = conditions_of(classified(n=0), CARD, TENSORS)
    assert none.clusters == 0 and np.isnan(none.ood_share) and none.alarms == ()


def test_running_ratios_are_those_of_all_images(monkeypatch):
    monkeypatch.setattr(live, "QUICK_S", np.inf)  # however busy the machine is
    running = Running(CARD)
    tables = {f"{i}.tif": synthetic_analysis(8, f"{i}.tif", seed=i).table for i in range(4)}
    for name, table in tables.items():
        running.set(name, table)
    running.ratios()
    running.set("1.tif", tables["2.tif"].assign(image="1.tif"))
    running.remove("3.tif")
    whole = concatenate([tables["0.tif"], tables["2.tif"].assign(image="1.tif"), tables["2.tif"]])
    expected = class_ratios(whole, scope="all", n_bootstrap=200)
    pd.testing.assert_frame_equal(running.ratios(), expected)
    assert running.images == 3


def test_running_ratios_of_a_stack_with_tracks_beside_images_and_a_copy(monkeypatch):
    monkeypatch.setattr(live, "QUICK_S", np.inf)  # however busy the machine is
    running = Running(CARD)
    image, later = (synthetic_analysis(8, f"{i}.tif", seed=i).table for i in range(2))
    frames = [synthetic_analysis(8, "stack.tif", seed=2).table.assign(frame=f) for f in range(3)]
    stack = pd.concat(frames, ignore_index=True)
    stack = stack.assign(track_id=stack["cluster_id"], cluster_id=np.arange(1, len(stack) + 1))
    tables = {"0.tif": image, "stack.tif": stack, "1.tif": later, "copy.tif": image}
    for name, table in tables.items():
        running.set(name, table.assign(image=name), sha256="same" if table is image else name)
        found = running.ratios()
        assert np.isfinite(found["fraction"]).all() and found["fraction"].sum() == pytest.approx(1)
    assert running.images == 3


def test_ratios_that_take_long_or_in_a_hurry_are_left_out(monkeypatch):
    monkeypatch.setattr(live, "QUICK_S", 60.0)
    running = Running(CARD)
    running.set("a.tif", synthetic_analysis(8, "a.tif").table)
    assert running.ratios(hurry=True) is not None
    running._took_s = 50.0
    running._found_at = time.monotonic()
    assert running.ratios(hurry=True) is None and running.ratios() is not None
    running._took_s = 70.0
    running._found_at = time.monotonic()
    assert running.ratios(hurry=True) is None and running.ratios() is None
    running._found_at -= 701
    assert running.ratios() is not None


def row(image="a.tif", classes=("Pt19",)):
    found = Conditions(1, 1, 0.9, 0.0, 1.0, 3.0, False, ("one", "two"))
    numbers = {"images": 1, "waiting": 0, "analysis_s": 0.1, "latency_s": 0.2}
    return row_of(image, "0" * 64, found, classes, None, **numbers)


def test_the_log_goes_on_and_mends_what_a_crash_has_cut(tmp_path):
    Log(tmp_path).add(row("=a.tif"))
    with (tmp_path / "live.csv").open("a") as file:
        file.write("2026-01-01T00:00:00+00:00,b.t")
    log = Log(tmp_path)
    log.add(row("c.tif"))
    log.add(row("d.tif"))
    rows = read_log(tmp_path / "live.csv")
    assert list(rows["image"]) == ["=a.tif", "c.tif", "d.tif"]
    assert rows["alarm"][0] == "one|two" and rows["latency_s"].tolist() == [0.2] * 3
    assert rows["fraction_Pt19"].isna().all()


def test_a_log_of_other_classes_is_put_aside(tmp_path):
    Log(tmp_path).add(row())
    Log(tmp_path).add(row(classes=("Au20",)))
    assert "fraction_Au20" in read_log(tmp_path / "live.csv").columns
    assert "fraction_Pt19" in read_log(tmp_path / "live-1.csv").columns
