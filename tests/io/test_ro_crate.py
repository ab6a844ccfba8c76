"""The description of results as an RO-Crate: complete, and without dead references."""

import hashlib
import json

import napari_atomicity
from napari_atomicity.io.provenance import Outcome, now
from napari_atomicity.io.result_folder import ResultFolder
from napari_atomicity.io.ro_crate import METADATA, SOFTWARE


def references(value):
    """All ids that a document refers to."""
    if isinstance(value, list):
        return {one for part in value for one in references(part)}
    if not isinstance(value, dict):
        return set()
    if value.keys() == {"@id"}:
        return {value["@id"]}
    return {one for part in value.values() for one in references(part)}


def test_results_are_described_with_files_images_and_model(tmp_path):
    results = ResultFolder(tmp_path / "out", "analyse")
    results.add(results / "clusters.csv")
    (results / "clusters.csv").write_text("image,label\n")
    image = Outcome("a <b>.tif", "/data/a.tif", "done", sha256="ab" * 32, pixel_size_nm=0.04)
    model = {"model_id": "pt-dual-1", "sha256": "cd" * 32, "classes": ["Pt19"]}
    record = results.finish(
        [image], started=now(), finished=now(), parameters={}, model=model, device="cpu"
    )
    assert METADATA in record["outputs"]
    document = json.loads((tmp_path / "out" / METADATA).read_text())
    known = {one["@id"]: one for one in document["@graph"]}
    inside = {one for one in references(document["@graph"]) if not one.startswith("http")}
    assert inside <= known.keys()
    assert {one["@id"] for one in known["./"]["hasPart"]} == {"clusters.csv", "run.json"}
    assert known[METADATA]["about"] == {"@id": "./"}
    assert known["clusters.csv"]["sha256"] == hashlib.sha256(b"image,label\n").hexdigest()
    assert known["#image/a <b>.tif"]["sha256"] == "ab" * 32
    assert known["#model/pt-dual-1"]["keywords"] == ["Pt19"]
    assert known["#run"]["startTime"] == record["started"]
    version = napari_atomicity.__version__  # of a development version with its commit
    assert known[SOFTWARE]["version"] == record["version"] == version
    assert known["./"]["license"]["@id"] in known
