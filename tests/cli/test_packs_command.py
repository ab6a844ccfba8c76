"""Packs for browsers on the command line, and the consensus of what comes back."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from answered import answers_to, write_answers
from bench import write_image
from typer.testing import CliRunner

from napari_atomicity.cli import commands as cli
from napari_atomicity.io.tables import read_table, write_clusters
from napari_atomicity.project.packs.browser_packs import BrowserPack, read_manifest
from napari_atomicity.training.atoms.labelled import read_labelled
from support import synthetic_analysis

SITES = [(20.0, 20.0), (20.0, 60.0), (60.0, 20.0), (60.0, 60.0), (90.0, 120.0)]


def atomicity(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def pack_in(page: Path) -> BrowserPack:
    return BrowserPack(read_manifest(page.read_text("utf-8")), [])


@pytest.fixture
def images(tmp_path):
    return [write_image(tmp_path / f"{name}.tif", seed=i) for i, name in enumerate("ab")]


def table_of(path: Path, places, images=("a.tif", "b.tif")) -> Path:
    rows = [(i, *place, *(np.array(place) * 0.1)) for i in images for place in places]
    columns = ["image", "y_px", "x_px", "y_nm", "x_nm"]
    path.parent.mkdir(exist_ok=True)
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    return path


def test_a_page_is_written_and_its_size_is_said_before(images, tmp_path):
    out = tmp_path / "p"
    text = tmp_path / "how.txt"
    text.write_text("Mark <b>all</b>.")
    result = atomicity("pack", *images, "--html", "--out", out, "--instructions", text, "--json")
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert said["files"] == [f"{out}.html"]
    assert re.search(r"2 images, 0 asked twice; \d\.\d MB\n.*p\.html", result.stderr)
    manifest = read_manifest((tmp_path / "p.html").read_text("utf-8"))
    assert manifest.instructions == "Mark <b>all</b>." and manifest.sha256 == said["hashes"][0]
    refused = atomicity("pack", *images, "--html", "--out", out)
    assert refused.exit_code == 2 and "--overwrite" in refused.stderr
    assert atomicity("pack", *images, "--html", "--out", out, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    "wrong",
    [
        ("--bits", "16"),
        ("--html", "--port", "80"),
        ("--html", "--serve"),
        ("--html", "--black", "50", "--white", "40"),
        ("--html", "--instructions", "none.txt"),
        ("--html", "--clusters", "none.csv"),
    ],
)
def test_options_that_do_not_fit_are_wrong_usage(images, tmp_path, wrong):
    result = atomicity("pack", *images, "--out", tmp_path / "p", *wrong)
    assert result.exit_code == 2 and "Traceback" not in result.output
    assert not (tmp_path / "p").exists() and not (tmp_path / "p.html").exists()


def answered(images, tmp_path) -> Path:
    """A page and the answers of three people, each of whom misses one atom."""
    assert atomicity(
        "pack", *images, "--html", "--out", tmp_path / "p", "--repeats", "0.5", "--no-examples"
    ).exit_code == 0  # fmt: skip
    pack = pack_in(tmp_path / "p.html")
    folder = tmp_path / "back"
    folder.mkdir()
    for i, who in enumerate(("Ada", "Bo", "Cy")):
        places = [tuple(p) for p in np.delete(SITES, i, axis=0) + 0.3 * i]
        marks = {0: places, 1: places, 2: places[:-1]}
        write_answers(folder / f"{who}.json", pack, who, marks)
    return folder


def test_answers_become_a_consensus_beside_models(images, tmp_path):
    folder = answered(images, tmp_path)
    good = table_of(tmp_path / "good" / "atoms.csv", SITES)
    bad = table_of(tmp_path / "bad" / "atoms.csv", SITES[:1])
    out = tmp_path / "agreed"
    result = atomicity(
        "consensus", folder, tmp_path / "p.html", "--out", out, "--model-atoms", good,
        "--model-atoms", bad, "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert said == json.loads((out / "agreement.json").read_text())
    assert said["annotators"] == ["Ada", "Bo", "Cy"] and said["sites_believed"] == 10
    assert [row["f1"] for row in said["pairs"]] == pytest.approx([0.75] * 3)
    assert [row["f1"] for row in said["self"]] == pytest.approx([6 / 7] * 3)
    assert said["models"]["good"]["against_consensus"]["f1"] == 1
    assert said["models"]["bad"]["one_more_expert"]["difference"] < 0
    assert said["model"] == said["models"]["good"]
    assert "Ada with themselves: F1 0.857" in result.stderr


def test_no_verdict_on_a_model_while_the_marks_of_somebody_are_in_doubt(images, tmp_path):
    folder, good = answered(images, tmp_path), table_of(tmp_path / "good" / "atoms.csv", SITES)
    away = [(y + 15, x + 15) for y, x in SITES]
    pack = pack_in(tmp_path / "p.html")
    write_answers(folder / "Cy.json", pack, "Cy", dict.fromkeys(range(3), away))
    result = atomicity(
        "consensus", folder, tmp_path / "p.html", "--model-atoms", good, "--out", tmp_path / "o"
    )
    assert "Cy are in doubt" in result.stderr


def test_the_consensus_can_be_learnt_with_its_certainties(images, tmp_path):
    out = tmp_path / "agreed"
    assert atomicity("consensus", answered(images, tmp_path), "--out", out).exit_code == 0
    sites = read_table(out / "consensus.csv")
    (out / "images").mkdir()
    for path in images:
        path.rename(out / "images" / path.name)
    first, _ = read_labelled(out)
    own = sites[sites["image"] == "a.tif"]
    places, certainty = first.learnt
    np.testing.assert_allclose(places, own[["y_px", "x_px"]])
    np.testing.assert_allclose(certainty, own["posterior"], atol=1e-4)
    assert len(first.points) == (own["posterior"] >= 0.5).sum() == 5


def test_one_bad_file_is_named_and_the_others_are_merged(images, tmp_path):
    folder = answered(images, tmp_path)
    text = (folder / "Cy.json").read_text()
    (folder / "Cy.json").write_text(text.replace('"x_px": 120.6', '"x_px": 1206'))
    result = atomicity("consensus", folder, "--out", tmp_path / "agreed")
    assert result.exit_code == 1
    assert "Cy.json: line" in result.stderr and "x_px is 1206, outside a.tif" in result.stderr
    said = json.loads((tmp_path / "agreed" / "agreement.json").read_text())
    assert said["annotators"] == ["Ada", "Bo"] and len(said["refused"]) == 1


def test_clusters_are_labelled_and_compared_with_a_model(tmp_path):
    write_image(tmp_path / "field.tif")
    table = synthetic_analysis(seed=0, name="field.tif").table
    write_clusters(table, tmp_path / "clusters.csv")
    result = atomicity(
        "pack", tmp_path / "field.tif", "--html", "--out", tmp_path / "p", "--clusters",
        tmp_path / "clusters.csv", "--no-examples", "--repeats", "0.25",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "12 clusters, 3 asked twice" in result.stderr
    pack = pack_in(tmp_path / "p.html")
    truth = table["label"].tolist()
    files = []
    for i, who in enumerate(("Ada", "Bo", "Cy")):
        labels = {k: ("Pt70" if k % 6 == i else label) for k, label in enumerate(truth)}
        labels |= {12: "Pt19", 13: labels[pack.manifest.items[13].cluster]}
        files.append(write_answers(tmp_path / f"{who}.json", pack, who, labels=labels))
    out = tmp_path / "agreed"
    result = atomicity(
        "consensus", *files, "--out", out, "--model-clusters", tmp_path / "clusters.csv", "--json"
    )
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)["labels"]
    assert said["clusters"] == 12 and [row["clusters"] for row in said["self"]] == [2] * 3
    assert said["raters"][-1]["who"] == tmp_path.name and said["raters"][-1]["share"] == 1
    labels = read_table(out / "labels.csv")
    assert labels["label"].tolist() == truth
    assert labels["certainty"].between(0.2, 1).all() and (labels["n_labels"] == 3).all()


@pytest.mark.skipif(os.name == "nt", reason="needs signals of POSIX")
def test_a_page_is_served_until_the_command_is_stopped(images, tmp_path):
    out = tmp_path / "answers"
    command = [sys.executable, "-m", "napari_atomicity.cli", "pack", *map(str, images)]
    options = ["--serve", "--port", "0", "--no-examples", "--out", str(out)]
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            link = process.stdout.readline().strip()
            assert link.startswith("http://127.0.0.1:")
            page = urllib.request.urlopen(link, timeout=10).read().decode()
            pack = BrowserPack(read_manifest(page), [])
            body = json.dumps(answers_to(pack, "Ada", {0: [(1, 2)]}, session="a" * 32)).encode()
            request = urllib.request.Request(
                f"{link}answers", body, {"Content-Type": "application/json"}
            )
            assert urllib.request.urlopen(request, timeout=10).status == 200
        finally:
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=20)
    assert "Ada: 1 image\n" in said and "Traceback" not in said, said
    assert len(list(out.glob("*.json"))) == 1
