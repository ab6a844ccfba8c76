"""The analyses of several images: a folder, a list, sessions."""

import re

import numpy as np
import pandas as pd
import pytest
import tifffile

from napari_atomicity import Analyses, ImageAnalysis, Session, analyse
from napari_atomicity.core.errors import ModelError, ReadError, TableError
from napari_atomicity.core.tables.cluster_table import ALL
from napari_atomicity.io.tables import read_clusters
from napari_atomicity.simulation.example_data import lattice_pieces
from napari_atomicity.simulation.field_settings import FieldSettings
from napari_atomicity.simulation.fields import simulate_field
from support import synthetic_analysis

pytestmark = pytest.mark.usefixtures("blank_figures")


@pytest.fixture(scope="module")
def fields() -> dict[str, np.ndarray]:
    library = lattice_pieces((19, 70), 2)
    found = {}
    for i, (name, label) in enumerate({"a.tif": "Pt19", "ref.tif": "Pt70"}.items()):
        settings = FieldSettings(shape_px=(256, 256), clusters_per_nm2=0.07, mixture={label: 1.0})
        found[name] = simulate_field(library, settings, i).micrograph.data
    return found


@pytest.fixture(scope="module")
def folder(fields, tmp_path_factory):
    path = tmp_path_factory.mktemp("day")
    for name, pixels in fields.items():
        calibration = {"resolution": (25, 25), "metadata": {"unit": "nm"}}
        tifffile.imwrite(path / name, pixels.astype(np.uint16), imagej=True, **calibration)
    (path / "bad.tif").write_bytes(b"no image")
    return path


@pytest.fixture(scope="module")
def analyses(folder, tiny_model) -> Analyses:
    return analyse(folder, str(tiny_model), "cpu", known=["ref.tif=Pt70"])


def test_a_folder_gives_its_images_in_order(analyses):
    assert isinstance(analyses, Analyses)
    assert analyses.images == ["a.tif", "ref.tif"]
    assert len(analyses) == 2
    assert all(isinstance(one, ImageAnalysis) for one in analyses)
    assert analyses["ref.tif"].micrograph.name == analyses[1].micrograph.name == "ref.tif"


def test_images_that_fail_are_named(analyses):
    assert set(analyses.failed) == {"bad.tif"}
    assert "1 failed" in repr(analyses)


def test_tables_are_joined(analyses):
    assert len(analyses.table) == sum(len(one.table) for one in analyses)
    assert set(analyses.table["image"]) == {"a.tif", "ref.tif"}
    ratios = analyses.ratios()
    assert list(ratios["scope"].unique()) == ["a.tif", "ref.tif", ALL]


def test_images_recorded_alike_are_a_session(analyses):
    (session,) = analyses.sessions.values()
    assert isinstance(session, Session)
    assert session.images == analyses.images
    assert session.known == {"ref.tif": {"Pt70": 1.0}}
    assert session.recording.pixel_size_nm == pytest.approx(0.04)
    assert list(session.intensity_per_atom.index) == session.images


def test_every_image_may_be_a_session_of_its_own(fields, tiny_model):
    images = list(fields.values())
    alone = analyse(images, str(tiny_model), "cpu", pixel_size_nm=0.04, session="none", umap=False)
    assert len(alone.sessions) == len(alone) == 2


def test_arrays_without_names_get_different_ones(fields, tiny_model, tmp_path):
    images = [np.asarray(x) for x in fields.values()]
    found = analyse(images, str(tiny_model), "cpu", pixel_size_nm=0.04, umap=False)
    assert len(set(found.images)) == 2
    assert set(found.table["image"]) == set(found.images)
    names = [path.name for path in found.save(tmp_path)]
    assert "clusters.csv" in names


def test_a_correction_concerns_one_image(analyses):
    cluster = int(analyses["a.tif"].table["cluster_id"].iloc[0])
    corrected = analyses.correct("a.tif", cluster, "Pt70")
    assert (corrected.table["label_corrected"] != "").sum() == 1
    assert (analyses.table["label_corrected"] == "").all()
    with pytest.raises(TableError, match="no image"):
        analyses.correct("z.tif", 1, "Pt70")


def test_the_files_are_those_of_the_command(analyses, folder, tiny_model, tmp_path):
    from napari_atomicity.pipeline.run_request import RunRequest
    from napari_atomicity.pipeline.runs.engine import analyse_images

    names = [path.name for path in analyses.save(tmp_path / "python")]
    request = RunRequest(model=str(tiny_model), device="cpu", known=("ref.tif=Pt70",))
    run = analyse_images([folder], tmp_path / "command", request)
    assert names == [path.name for path in run.files]
    for name in ("clusters.csv", "ratios.csv"):
        python, command = (pd.read_csv(tmp_path / which / name) for which in ("python", "command"))
        pd.testing.assert_frame_equal(python, command)


def test_saving_twice_gives_the_same(analyses, tmp_path):
    first, second = (pd.read_csv(analyses.save(tmp_path / n)[0]) for n in ("1", "2"))
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.usefixtures("drawn_figures")
def test_plots_are_saved_at_the_size_of_a_publication(analyses, tmp_path):
    files = {path.name: path for path in analyses.plot.save(tmp_path / "figures")}
    assert {"diameter.csv", "ratios_one_column.pdf", "ratios_two_columns.svg"} <= files.keys()
    for image in analyses.images:
        table = pd.read_csv(files[f"{image} clusters.csv"])
        assert len(table) == (analyses.table["image"] == image).sum()
        assert f"{image} clusters_two_columns.pdf" in files
    assert "class_maps_one_column.pdf" in files
    assert pd.read_csv(files["class_maps.csv"])["label"].is_unique
    widths_cm = []
    for column in ("one_column", "two_columns"):
        svg = files[f"diameter_{column}.svg"].read_text()
        widths_cm.append(float(re.search(r'width="([\d.]+)pt"', svg)[1]) / 72 * 2.54)
    assert widths_cm == pytest.approx([8.5, 17.5], rel=0.01)
    pdf = files["diameter_one_column.pdf"].read_bytes()
    assert b"/FontFile2" in pdf  # fonts are embedded as TrueType
    assert "diameter_from_nm" in pd.read_csv(files["diameter.csv"]).columns


def test_plots_and_html_of_all_images(analyses):
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    assert len(analyses.plot().axes) == 2
    assert "%" in analyses.plot_ratios().get_ylabel()
    assert "nm" in analyses.plot.diameter().get_xlabel()
    assert "embedding" in dir(analyses.plot)
    with pytest.raises(AttributeError, match="the plots are diameter"):
        analyses.plot.diametre()
    plt.close("all")
    html = analyses._repr_html_()
    assert "ref.tif" in html
    assert "bad.tif" in html


def test_analyses_of_single_images_are_joined(analyses):
    joined = Analyses.of([analyses[0], analyses[0]])
    assert len(set(joined.images)) == 2
    assert len(joined.table) == 2 * len(analyses[0].table)


def test_analyses_without_a_model_are_not_joined():
    with pytest.raises(ModelError):
        Analyses.of([synthetic_analysis()])


def test_a_known_sample_that_matches_no_image_is_an_error(folder, tiny_model):
    with pytest.raises(TableError):
        analyse(folder, str(tiny_model), "cpu", known=["nothing_*.tif=Pt70"])


def test_a_table_of_samples_is_used_as_by_the_command(folder, tiny_model, tmp_path):
    table = tmp_path / "samples.csv"
    table.write_text("image,sample,time_h\na*,small,1\nref*,large,2\n")
    found = analyse(folder, str(tiny_model), "cpu", samples=table)
    out = tmp_path / "out"
    found.save(out)
    clusters = read_clusters(out / "clusters.csv")
    sample = clusters.groupby(clusters["image"].astype(str))["sample"].first()
    assert sample["a.tif"] == "small" and sample["ref.tif"] == "large"
    scopes = set(pd.read_csv(out / "ratios.csv")["scope"])
    assert {"sample: small", "sample: large"} <= scopes
    assert found.compare().reference == "small"
    with pytest.raises(TableError, match="no image"):
        analyse(folder, str(tiny_model), "cpu", samples=_table_of(tmp_path, "z*"))
    with pytest.raises(ReadError):
        analyse(folder, str(tiny_model), "cpu", samples=tmp_path / "none.csv")
    for wrong in (5, {"a.tif": "small"}):
        with pytest.raises(TypeError, match="samples"):
            analyse(folder, str(tiny_model), "cpu", samples=wrong)


def _table_of(folder, pattern):
    path = folder / "other.csv"
    path.write_text(f"image,sample\n{pattern},small\n")
    return path


def test_samples_are_compared_and_written(analyses, tmp_path):
    with pytest.raises(TableError, match="a comparison needs two"):
        analyses.compare()
    samples = {"a.tif": "small", "ref.tif": "large"}
    found = analyses.compare("large", samples=samples, folder=tmp_path / "out")
    assert found.reference == "large" and set(found.table["sample"]) == {"small", "large"}
    assert found.table["note"].str.contains("one image").any()
    assert (tmp_path / "out" / "comparison.csv").exists()
    with pytest.raises(TableError, match="no sample 'x'"):
        analyses.compare("x", samples=samples)
    with pytest.raises(TableError, match="no image has such a name"):
        analyses.compare(samples={"z.tif": "small"})


def test_copies_of_images_are_compared(analyses):
    copies = Analyses.of([one for one in analyses for _ in range(2)])
    a, b, *rest = copies.images
    samples = {**dict.fromkeys((a, b), "small"), **dict.fromkeys(rest, "large")}
    found = copies.compare(samples=samples)
    # One content for each: without a second one there is nothing to test.
    assert found.tested.empty and set(found.table["images"]) == {1}
    assert found.table["note"].str.contains("1 file has the content of others").all()
