"""Images are grouped into acquisition sessions, by what files contain and by what people enter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_atomicity.core.acquisition_session import (
    Recording,
    SessionEntry,
    check_classes,
    format_composition,
    group_images,
    match_known,
    parse_composition,
    parse_known,
)
from napari_atomicity.core.errors import ModelError, TableError
from napari_atomicity.core.micrograph import Micrograph


def sessions(recordings, entries=None, grouping="auto") -> dict[str, tuple[str, ...]]:
    return {s.name: s.images for s in group_images(recordings, entries, grouping)}


def test_images_of_one_folder_are_a_session():
    images = {name: Recording("/data/may/5", 0.04) for name in "abc"}
    assert sessions(images) == {"5": ("a", "b", "c")}
    assert sessions({}) == {}


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("voltage_kv", (200, 80), ("200 kV", "80 kV")),
        ("camera_length_mm", (115.0, 91.0), ("camera length 115 mm", "camera length 91 mm")),
        ("detector", ("HAADF", "DF4"), ("HAADF", "DF4")),
        ("gain", (26.0, 30.0), ("gain 26", "gain 30")),
        ("dwell_time_us", (10, 2.0), ("10 µs", "2 µs")),
    ],
)
def test_a_setting_that_differs_separates_and_names_sessions(name, values, words):
    images = {f"{i}": Recording("/may", 0.04, {name: v}) for i, v in enumerate(values)}
    assert sessions(images) == {f"may, {words[0]}": ("0",), f"may, {words[1]}": ("1",)}


def test_pixel_sizes_within_a_per_cent_are_the_same():
    sizes = {"a": 0.036, "b": 0.0361, "c": 0.072, "d": 0.0359}
    images = {name: Recording("/may", size) for name, size in sizes.items()}
    assert sessions(images) == {"may, 0.0359 nm/px": ("a", "b", "d"), "may, 0.072 nm/px": ("c",)}


def test_what_a_file_lacks_separates_only_if_it_is_ambiguous():
    images = {
        "a": Recording("/may", 0.04, {"gain": 26.0}),
        "b": Recording("/may", 0.04),
        "new": Recording("/may"),
    }
    assert sessions(images) == {"may": ("a", "b", "new")}
    images["c"] = Recording("/may", 0.04, {"gain": 30.0})
    found = sessions(images)
    assert found["may, unknown gain"] == ("b", "new")
    assert len(found) == 3


def test_folders_of_one_name_are_told_apart_and_images_without_file_go_together():
    images = {
        "a": Recording("/x/may/raw"),
        "b": Recording("/x/june/raw"),
        "c": Recording("/x/june"),
        "d": Recording(),
    }
    assert list(sessions(images)) == ["may/raw", "june/raw", "june", "images without a file"]


def test_none_and_all():
    images = {"a": Recording("/may", 0.04), "b": Recording("/june", 0.08)}
    assert sessions(images, grouping="none") == {"a": ("a",), "b": ("b",)}
    assert sessions(images, grouping="all") == {"all images": ("a", "b")}


def test_entries_take_precedence_and_others_are_ignored():
    images = {name: Recording("/may", 0.04) for name in "abcd"}
    entries = {
        "b": SessionEntry("evening"),
        "d": SessionEntry("evening", {"Pt19": 1, "Pt41": 3}),
        "elsewhere": SessionEntry("night"),
    }
    may, evening = group_images(images, entries)
    assert (may.images, evening.images) == (("a", "c"), ("b", "d"))
    assert evening.known == {"d": {"Pt19": 0.25, "Pt41": 0.75}}
    # A name that is also derived joins that session.
    entries = {"c": SessionEntry("may"), "a": SessionEntry(known={"Pt55": 1})}
    (one,) = group_images(images, entries)
    assert one.known == {"a": {"Pt55": 1.0}}


def test_a_micrograph_tells_how_it_was_recorded():
    metadata = {"gain": 26.0, "title": "HAADF", "voltage_kv": 200}
    image = Micrograph(np.zeros((4, 4)), 0.04, "a", Path("/may/a.tif"), metadata=metadata)
    assert Recording.of(image) == Recording("/may", 0.04, {"voltage_kv": 200, "gain": 26.0})
    assert Recording.of(Micrograph(np.zeros((4, 4)))) == Recording()


@pytest.mark.parametrize(
    ("text", "composition"),
    [
        ("Pt55", {"Pt55": 1}),
        ("Pt55:1", {"Pt55": 1}),
        (" Pt19:1, Pt41 : 2.5 ", {"Pt19": 1, "Pt41": 2.5}),
        ("Pt19 : Pt41 = 1 : 3", {"Pt19": 1, "Pt41": 3}),
    ],
)
def test_compositions_are_read_and_written(text, composition):
    assert parse_composition(text) == composition
    assert parse_composition(format_composition(composition)) == composition


@pytest.mark.parametrize(
    "text",
    ["", "Pt19,Pt41", "Pt19:1,Pt41", "Pt19:0", "Pt19:-1", "Pt19:nan", "Pt19:x", "Pt19:1,Pt19:2",
     "Pt19:Pt41=1", "Pt19:inf", ":1"],
)  # fmt: skip
def test_what_is_no_composition_is_refused(text):
    with pytest.raises(TableError, match="is not a composition"):
        parse_composition(text)


def test_known_samples_are_matched_by_name():
    samples = [parse_known("ref_*.tif=Pt55"), parse_known("mix.tif = Pt19:Pt41=1:1")]
    found = match_known(samples, ["ref_1.tif", "day2/ref_2.tif", "mix.tif", "other.tif"])
    assert found == {
        "ref_1.tif": {"Pt55": 1},
        "day2/ref_2.tif": {"Pt55": 1},
        "mix.tif": {"Pt19": 1, "Pt41": 1},
    }


def test_known_samples_that_do_not_fit_are_named():
    with pytest.raises(TableError, match=r"no image has a name like 'reff_\*'"):
        match_known([("reff_*", {"Pt55": 1})], ["ref_1.tif"])
    assert match_known([("reff_*", {"Pt55": 1})], ["ref_1.tif"], all_match=False) == {}
    with pytest.raises(TableError, match=r"a.tif has two known compositions, Pt55 and Pt19"):
        match_known([("a*", {"Pt55": 1}), ("*.tif", {"Pt19": 1})], ["a.tif"])
    with pytest.raises(TableError, match="not a known sample"):
        parse_known("Pt55")
    check_classes({"Pt55": 1}, ["Pt19", "Pt55"])
    with pytest.raises(ModelError, match="no class Pt54"):
        check_classes({"Pt54": 1}, ["Pt19", "Pt55"])
