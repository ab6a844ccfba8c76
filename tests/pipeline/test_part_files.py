"""The files of parts: joined at the end of a run, which may be killed at any time."""

import json
import zipfile
from contextlib import nullcontext
from pathlib import Path

import duckdb
import pandas as pd
import polars
import pyarrow.parquet as pq
import pytest

from napari_atomicity.io import tables
from napari_atomicity.io.tables import read_clusters, write_clusters, write_data_set
from napari_atomicity.pipeline.runs import part_files
from napari_atomicity.pipeline.runs.part_files import PartFiles
from support import synthetic_analysis

STEMS = [f"{number:032x}-{number:012x}" for number in range(5)]


@pytest.fixture(autouse=True)
def two_in_a_file(monkeypatch):
    monkeypatch.setattr(part_files, "IMAGES_PER_FILE", 2)
    monkeypatch.setattr(tables, "IMAGES_PER_FILE", 2)


def fill(folder: Path, stems=STEMS) -> PartFiles:
    files = PartFiles(folder)
    for stem in stems:
        files.write(f"{stem}.npz", b"scale " + stem.encode())
        files.write(f"{stem}.parquet", b"table " + stem.encode())
    return files


def contents(files: PartFiles) -> dict[str, bytes]:
    return {stem: files.read(f"{stem}.parquet") for stem in files.stems()}


def on_disk(folder: Path) -> dict[str, tuple[int, bytes]]:
    paths = (folder / "parts").iterdir()
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def test_joined_files_are_few_and_those_of_the_parts_whatever_their_order(tmp_path):
    files, others = fill(tmp_path / "a"), fill(tmp_path / "b", STEMS[::-1])
    files.write(f"{STEMS[0]}.report.json", b"drawing")
    before = contents(files)
    for each in (files, others):
        each.join(STEMS)
    assert contents(files) == contents(PartFiles(tmp_path / "a")) == before
    assert files.read(f"{STEMS[4]}.npz") == b"scale " + STEMS[4].encode()
    drawing = on_disk(tmp_path / "a").pop(f"{STEMS[0]}.report.json")[1]
    archives = {name: data for name, (_, data) in on_disk(tmp_path / "b").items()}
    assert drawing == b"drawing" and len(archives) == 3
    assert archives.items() <= {n: data for n, (_, data) in on_disk(tmp_path / "a").items()}.items()
    stored = on_disk(tmp_path / "a")
    files.join(STEMS)
    assert on_disk(tmp_path / "a") == stored  # nothing is written again


def test_a_newer_file_counts_and_a_removed_part_stays_removed(tmp_path):
    files = fill(tmp_path)
    files.join(STEMS)
    files.write(f"{STEMS[1]}.parquet", b"new labels")
    files.remove(STEMS[2])
    for each in (files, PartFiles(tmp_path)):
        assert each.stems() == {*STEMS} - {STEMS[2]}
        assert each.read(f"{STEMS[1]}.parquet") == b"new labels"
        assert each.read(f"{STEMS[1]}.npz").startswith(b"scale")
        assert not each.has(f"{STEMS[2]}.npz")
    files.write(f"{STEMS[2]}.parquet", b"done again")
    expected = contents(PartFiles(tmp_path))
    files.join(STEMS)
    assert contents(files) == contents(PartFiles(tmp_path)) == expected and len(expected) == 5
    assert all(name.endswith(".zip") for name in on_disk(tmp_path))


@pytest.mark.parametrize("steps", range(11))
def test_joining_can_be_killed_after_each_step(tmp_path, monkeypatch, steps):
    files = fill(tmp_path, STEMS[1:])
    files.join(STEMS[1:])
    fill(tmp_path, STEMS[:1])
    files.scan()
    files.write(f"{STEMS[3]}.parquet", b"new labels")
    files.remove(STEMS[2])
    expected, left = contents(files), steps

    def killed(step):
        def instead(*args, **kwargs):
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return step(*args, **kwargs)

        return instead

    order = [stem for stem in STEMS if stem != STEMS[2]]
    with monkeypatch.context() as patch:
        for name in ("replace", "unlink"):
            patch.setattr(Path, name, killed(getattr(Path, name)))
        with nullcontext() if steps == 10 else pytest.raises(KeyboardInterrupt):
            files.join(order)
    again = PartFiles(tmp_path)
    assert contents(again) == expected
    again.join(order)
    assert contents(again) == expected
    fresh = PartFiles(tmp_path / "fresh")
    for stem, table in expected.items():
        fresh.write(f"{stem}.npz", b"scale " + stem.encode())
        fresh.write(f"{stem}.parquet", table)
    fresh.join(order)
    names = [sorted(on_disk(folder)) for folder in (tmp_path, tmp_path / "fresh")]
    assert names[0] == names[1] and len(names[0]) == 2


@pytest.mark.parametrize("damage", ["cut", "within", "compressed"])
def test_a_damaged_archive_costs_its_images_only(tmp_path, damage):
    files = fill(tmp_path)
    files.join(STEMS)
    archive = min((tmp_path / "parts").iterdir())
    whole = archive.read_bytes()
    if damage == "cut":
        archive.write_bytes(whole[:-20])
    elif damage == "within":
        archive.write_bytes(whole.replace(b"table " + STEMS[0].encode(), b"x" * 51))
    else:  # the method of compression in the directory
        start = whole.index(b"PK\x01\x02")
        archive.write_bytes(whole[: start + 10] + b"\x08\x00" + whole[start + 12 :])
    files = PartFiles(tmp_path)
    if damage == "within":
        with pytest.raises(zipfile.BadZipFile):
            files.read(f"{STEMS[0]}.parquet")
        files.remove(STEMS[0])  # as the store does
    left = {*STEMS[2:]} if damage == "cut" else {*STEMS[1:]}
    assert files.stems() == left
    files.join(sorted(left))
    assert contents(files).keys() == left


@pytest.fixture
def data_set(tmp_path):
    """Clusters of five images, one without any, after a killed run of seven images."""
    table = pd.concat(
        [synthetic_analysis(seed=n).table.assign(image=f"{n}.tif") for n in range(7)],
        ignore_index=True,
    )
    images = [{"image": f"{n}.tif", "pixel_size_nm": 0.1 * (n + 1)} for n in range(7)]
    write_data_set(table, tmp_path / "clusters", images)
    (tmp_path / "clusters" / ".part-00000-killed.parquet").write_bytes(b"PAR1")
    table = table[~table["image"].isin(["3.tif", "5.tif", "6.tif"])].reset_index(drop=True)
    write_data_set(table, tmp_path / "clusters", images[:5])
    return tmp_path / "clusters", read_clusters(write_clusters(table, tmp_path / "all.parquet"))


def with_pandas(folder):
    return pd.read_parquet(folder)


def with_polars(folder):
    return pd.DataFrame(polars.read_parquet(folder).to_dict(as_series=False))


def with_duckdb(folder):
    return duckdb.sql(f"SELECT * FROM '{folder}/*.parquet'").df()


@pytest.mark.parametrize("read", [with_pandas, with_polars, with_duckdb])
def test_the_folder_of_clusters_is_a_data_set(data_set, read):
    folder, table = data_set
    assert len(list(folder.iterdir())) == 3
    found = tables.tables.conform(read(folder))
    pd.testing.assert_frame_equal(found, table, check_dtype=False)


def test_its_files_say_of_which_images_they_are(data_set):
    folder, _ = data_set
    said = []
    for path in sorted(folder.iterdir()):
        said += json.loads(pq.read_schema(path).metadata[b"atomicity"])["images"]
    assert [one["image"] for one in said] == [f"{n}.tif" for n in range(5)]
    assert said[3]["pixel_size_nm"] == pytest.approx(0.4)
