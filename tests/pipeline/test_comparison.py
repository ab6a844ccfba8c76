"""Folders of results become a comparison of samples: tables, figures, sentences and record."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from napari_atomicity.cli import app
from napari_atomicity.core.acquisition_session import Sample
from napari_atomicity.core.errors import ReadError, TableError
from napari_atomicity.core.tables.cluster_table import conform
from napari_atomicity.io.provenance import Outcome, now, with_groups
from napari_atomicity.io.result_folder import ResultFolder
from napari_atomicity.io.tables import read_table, write_clusters, write_table
from napari_atomicity.pipeline.comparison import compare_results, write_comparison
from napari_atomicity.statistics.samples.sentences import comparison_lines, comparison_sentences

CLASSES = ["Pt19", "Pt41", "Pt55"]
SHARES = {"fresh": [0.2, 0.3, 0.5], "spent": [0.5, 0.3, 0.2], "spent2": [0.55, 0.3, 0.15]}


def clusters_of(image, sample, rng, n=60):
    label = rng.choice(CLASSES, n, p=SHARES.get(sample, SHARES["fresh"]))
    p = {f"p_{c}": np.where(label == c, 0.98, 0.01) for c in CLASSES}
    atoms = pd.Series(label).str[2:].astype(float) * np.exp(0.08 * rng.standard_normal(n))
    place = dict.fromkeys(["y_px", "x_px"], np.arange(float(n)))
    known = {"image": image, "cluster_id": np.arange(n), "label": label, "label_predicted": label}
    return conform(pd.DataFrame({**known, **place, **p, "n_atoms": atoms, "model_id": "m"}))


def write_results(folder, samples, n_images=4, seed=0, n=60, session=None, root="/d"):
    """Write results of `analyse`, as far as a comparison reads them."""
    rng = np.random.default_rng(seed)
    images = [(f"{s}_{i}.tif", s) for s in samples for i in range(n_images)]
    outcomes = [
        Outcome(
            name, f"{root}/{s}/{name}", "done", sha256=f"{seed} {name}",
            session=session or s, sample=s, parameters={"session": {"scale_error": 0.03}},
        )
        for name, s in images
    ]  # fmt: skip
    table = pd.concat([clusters_of(name, s, rng, n) for name, s in images], ignore_index=True)
    results = ResultFolder(folder, "analyse")
    results.add(write_clusters(with_groups(table, outcomes), folder / "clusters.csv"))
    found = [
        Sample(s, tuple(i for i, of in images if of == s), folder=f"{root}/{s}") for s in samples
    ]
    finish(results, outcomes, found)
    return folder


def finish(results, outcomes, samples):
    time = now()
    results.finish(
        outcomes, started=time, finished=time, parameters={}, model=None, device=None,
        samples=samples,
    )  # fmt: skip


def write_atoms(folder, densities, n_images=4):
    """Write results of `atoms`, as far as a comparison reads them."""
    rng, rows, outcomes = np.random.default_rng(3), [], []
    for sample, density in densities.items():
        for i in range(n_images):
            n = rng.poisson(200 * density)
            rows.append(
                {
                    "image": f"{sample}_{i}.tif", "n_atoms": n, "n_atoms_expected": float(n),
                    "support_nm2": 200.0, "density_per_nm2": n / 200, "level": 0.95,
                    "density_low_per_nm2": (n - 2 * n**0.5) / 200,
                    "density_high_per_nm2": (n + 2 * n**0.5) / 200,
                    "nearest_neighbour_mean_nm": 0.5, "nearest_neighbour_mean_low_nm": 0.45,
                    "nearest_neighbour_mean_high_nm": 0.55, "nearest_neighbour_median_nm": 0.5,
                    "nearest_neighbour_median_low_nm": 0.45,
                    "nearest_neighbour_median_high_nm": 0.55, "share_isolated": 0.8,
                    "share_dimer": 0.15, "share_multimer": 0.05, "share_cluster": 0.0,
                }
            )  # fmt: skip
            name = f"{sample}_{i}.tif"
            outcomes.append(Outcome(name, f"/d/{sample}/{name}", "done", sha256=f"0 {name}"))
    results = ResultFolder(folder, "atoms")
    results.add(write_table(pd.DataFrame(rows), folder / "dispersion.csv"))
    finish(results, outcomes, [])
    return folder


@pytest.mark.usefixtures("drawn_figures")
def test_two_samples_become_tables_figures_sentences_and_record(tmp_path):
    results = write_results(tmp_path / "r", ["fresh", "spent"])
    run = compare_results([results], tmp_path / "out", command=["atomicity", "compare"])
    table = read_table(tmp_path / "out" / "comparison.csv")
    assert list(table["quantity"].unique()) == ["share", "mean_atoms"]
    assert list(table["sample"].unique()) == ["fresh", "spent"] and len(table) == 8
    spent = table[table["sample"] == "spent"].set_index(["quantity", "class"])
    row = spent.loc[("share", "Pt55")]
    assert row["difference_low"] < -0.3 < row["difference_high"] < 0
    assert row["p"] <= row["p_holm"] < 0.001
    assert spent.loc[("share", "Pt41"), "p_holm"] > 0.05
    assert spent.loc[("mean_atoms", ""), "difference"] == pytest.approx(-10.8, abs=4)
    of_fresh = table[table["sample"] == "fresh"]
    assert (of_fresh["reference_sample"] == "").all() and of_fresh["p"].isna().all()
    assert (table["low"] < table["value"]).all() and (table["value"] < table["high"]).all()
    figures = {p.name for p in (tmp_path / "out" / "figures").iterdir()}
    columns = ("one_column", "two_columns")
    assert figures == {f"clusters_{c}.{s}" for c in columns for s in ("png", "svg", "pdf")}
    assert b"/FontFile2" in (tmp_path / "out" / "figures" / "clusters_one_column.pdf").read_bytes()
    lines = (tmp_path / "out" / "sentences.txt").read_text().splitlines()
    assert lines == run.sentences and len(lines) == 4
    assert lines[2].startswith("The share of Pt55 is ") and "percentage points" in lines[2]
    assert "no significant difference" in lines[1]
    (atoms,) = (line for line in lines if "number of atoms" in line)
    assert re.search(r" difference of −\d+ %, or −[\d.]+ atoms \(95 % interval ", atoms)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["kind"] == "compare" and record["parameters"]["reference"] == "fresh"
    assert record["parameters"]["notes"] == []
    assert {i["sample"] for i in record["images"]} == {"fresh", "spent"}
    assert [s["name"] for s in record["samples"]] == ["fresh", "spent"]
    # What limits the values is in the record too, as sentences are copied without it.
    write_comparison(replace(run.comparison, table=table.assign(note="few")), tmp_path / "noted")
    record = json.loads((tmp_path / "noted" / "run.json").read_text())
    assert record["parameters"] == {"reference": "fresh", "notes": ["fresh, spent: few"]}


def test_a_p_value_tells_on_which_side_of_the_limit_it_is(tmp_path):
    run = compare_results([write_results(tmp_path / "r", ["fresh", "spent"])], tmp_path / "out")
    of_fresh = run.comparison.table["sample"] == "fresh"
    for p, said in ((0.0504, "p = 0.0504"), (0.0496, "p = 0.0496"), (0.0123, "p = 0.012")):
        table = run.comparison.table.assign(p_holm=p)
        comparison = replace(run.comparison, table=table)
        assert all(said in line for line in comparison_sentences(comparison))
        lines = [line for line in comparison_lines(comparison) if line[3] != "–"]
        assert len(lines) == (~of_fresh).sum() and {line[3] for line in lines} == {said[4:]}


def test_the_reference_is_as_asked_and_signs_turn(tmp_path):
    results = write_results(tmp_path / "r", ["fresh", "spent"])
    one = compare_results([results], tmp_path / "a").comparison.tested
    other = compare_results([results], tmp_path / "b", "spent").comparison.tested
    np.testing.assert_allclose(one["difference"], -other["difference"])
    np.testing.assert_allclose(one["p"], other["p"], rtol=0.2)
    assert set(other["sample"]) == {"fresh"}


def test_samples_in_several_folders_have_own_sessions(tmp_path):
    folders = [
        write_results(tmp_path / "one", ["fresh"], seed=1, session="night"),
        write_results(tmp_path / "two", ["spent"], seed=2, session="night"),
    ]
    table = compare_results(folders, tmp_path / "out").comparison.table
    assert set(table["sessions"]) == {"one/night", "two/night"}


def test_a_common_session_narrows_the_difference(tmp_path):
    wide, narrow = (
        compare_results(
            [write_results(tmp_path / f"r{i}", ["fresh", "spent"], 12, session=session)],
            tmp_path / f"out{i}",
        ).comparison.tested.set_index("quantity")
        for i, session in enumerate([None, "night"])
    )
    width = [t.loc["mean_atoms", "difference_high"] - t.loc["mean_atoms", "difference_low"]
             for t in (wide, narrow)]  # fmt: skip
    assert width[0] > 1.3 * width[1]


def test_images_of_equal_names_stay_apart(tmp_path):
    folders = [
        write_results(tmp_path / "a", ["x"], seed=1, root="/d/first"),
        write_results(tmp_path / "b", ["x"], seed=2, root="/d/second"),
    ]
    run = compare_results(folders, tmp_path / "out")
    assert [s.name for s in run.comparison.samples] == ["first/x", "second/x"]
    with pytest.raises(TableError, match=r"^a: the image x_0.tif is also in other results"):
        compare_results([folders[0], folders[0]], tmp_path / "out2")


def test_a_table_names_samples_and_a_trend(tmp_path):
    results = write_results(tmp_path / "r", ["fresh", "spent", "spent2"])
    table = tmp_path / "samples.csv"
    table.write_text(
        "image,sample,time_h\nspent_*,after 5 h,5\nspent2_*,after 9 h,9\nfresh_*,before,0\n"
    )
    run = compare_results([results], tmp_path / "out", "before", table)
    assert [s.name for s in run.comparison.samples] == ["after 5 h", "after 9 h", "before"]
    trends = read_table(tmp_path / "out" / "trends.csv").set_index(["quantity", "class"])
    assert set(trends["along"]) == {"time_h"}
    slope = trends.loc[("share", "Pt55")]
    assert slope["slope_low"] < slope["slope"] < slope["slope_high"] and slope["slope"] < 0
    assert (tmp_path / "out" / "figures" / "trend_time_h_two_columns.pdf").exists()
    assert any("per unit of time_h" in line for line in run.sentences)


def test_atoms_are_compared_beside_clusters(tmp_path):
    folders = [
        write_results(tmp_path / "c", ["fresh", "spent"]),
        write_atoms(tmp_path / "a", {"fresh": 0.6, "spent": 0.3}),
    ]
    run = compare_results(folders, tmp_path / "out")
    table = run.comparison.tested.set_index("quantity")
    assert set(table.index) == {
        "share", "mean_atoms", "density", "neighbour_mean", "neighbour_median", "share_dimer",
        "share_larger",
    }  # fmt: skip
    density = table.loc["density"]
    assert density["difference_low"] < -0.3 < density["difference_high"] and density["p"] < 1e-3
    assert table.loc["share_dimer", "p"] > 0.5
    assert any(line.startswith("The density of the atoms") for line in run.sentences)
    assert (tmp_path / "out" / "figures" / "atoms_one_column.png").exists()


def test_one_image_takes_the_scatter_of_the_other_samples(tmp_path):
    results = write_results(tmp_path / "r", ["fresh"])
    one = write_results(tmp_path / "s", ["spent"], n_images=1, seed=1)
    table = compare_results([results, one], tmp_path / "out").comparison.tested
    assert len(table) == 4 and table["note"].str.startswith("one image").all()
    alone = write_results(tmp_path / "t", ["fresh", "spent"], n_images=1)
    with pytest.raises(TableError, match="each sample has one image"):
        compare_results([alone], tmp_path / "out2")


def test_bad_input_names_the_file_and_what_to_do(tmp_path):
    results = write_results(tmp_path / "r", ["fresh", "spent"])
    with pytest.raises(TableError, match=r"no sample 'old'. The samples are fresh, spent"):
        compare_results([results], tmp_path / "out", "old")
    single = write_results(tmp_path / "single", ["fresh"])
    with pytest.raises(TableError, match="only the sample fresh, and a comparison needs two"):
        compare_results([single], tmp_path / "out")
    table = tmp_path / "samples.csv"
    table.write_text("image,sample\nfresh_*,a\nsprent_*,b\n")
    with pytest.raises(TableError, match=r"samples.csv: no image .* the name sprent_\*. Correct"):
        compare_results([results], tmp_path / "out", samples=table)
    with pytest.raises(ReadError, match=r"gone: there is no such folder. Give folders"):
        compare_results([tmp_path / "gone"], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReadError, match=r"empty: there is no run.json"):
        compare_results([tmp_path / "empty"], tmp_path / "out")
    nothing = write_results(tmp_path / "nothing", ["fresh", "spent"], n=0)
    with pytest.raises(TableError, match=r"no sample has counted clusters \(whose .*\) or atoms"):
        compare_results([nothing], tmp_path / "out")
    (results / "clusters.csv").unlink()
    with pytest.raises(ReadError, match=r"^r: clusters.csv: there is no such file"):
        compare_results([results], tmp_path / "out")
    (results / "run.json").write_text("{")
    with pytest.raises(ReadError, match=r"^r: run.json is damaged"):
        compare_results([results], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_prints_sentences_and_json(tmp_path):
    results, out = write_results(tmp_path / "r", ["fresh", "spent"]), tmp_path / "out"
    arguments = ["compare", str(results), "--out", str(out), "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0 and "The share of Pt55 is" in done.stderr, done.output
    printed = json.loads(done.stdout)
    assert printed["reference"] == "fresh" and len(printed["comparison"]) == 8
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2 and "use --overwrite" in again.stderr
    assert CliRunner().invoke(app, [*arguments, "--overwrite"]).exit_code == 0
    other = CliRunner().invoke(app, ["compare", str(results), "--out", str(results)])
    assert other.exit_code == 2 and "results of another command" in other.stderr
    wrong = CliRunner().invoke(app, [*arguments, "--overwrite", "--reference", "x"])
    assert wrong.exit_code == 2 and "there is no sample 'x'" in wrong.stderr
