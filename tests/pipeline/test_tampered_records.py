"""Records of earlier runs from anywhere: what they hold, or an error that says what is wrong."""

import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from napari_atomicity.core.errors import AtomicityError, ReadError
from napari_atomicity.io.provenance import Outcome, analysed_images, run_record
from napari_atomicity.io.result_folder import ResultFolder
from napari_atomicity.pipeline.acquisition_sessions import read_earlier_scale
from napari_atomicity.pipeline.live.watch import SessionReference
from napari_atomicity.pipeline.runs.dask_workers import address_of
from napari_atomicity.tracking.settings import MovieSettings
from tampering import DELETED, nested, tamper, tampered

SESSION = {
    "images": 3, "intensity_per_atom": 2.0, "intensity_per_atom_low": 1.9,
    "intensity_per_atom_high": 2.1,
}  # fmt: skip


def record(folder):
    table = folder / "atoms.csv"
    table.touch()
    model = {"kind": "atoms", "model_id": "m-0"}
    return json.loads(
        json.dumps(
            run_record(
                [Outcome("a.tif", "a.tif", "done"), Outcome("b.tif", "b.tif", "failed")],
                started="", finished="", parameters={}, model=model, device="cpu",
                kind="atoms", outputs=[table.name], sessions=[SESSION],
            )
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *(
            (("sessions", 0, f"intensity_per_atom{end}"), v)
            for end in ("", "_low", "_high")
            for v in (0, -1, "2", None, math.nan, math.inf, 10**400, True, DELETED)
        ),
        *((("sessions",), v) for v in ([], {}, "x", [1], [[]], nested(500), DELETED)),
    ],
    ids=lambda v: str(v)[:30],
)
def test_a_tampered_scale_of_a_session_is_refused(tmp_path, path, value):
    file = tmp_path / "run.json"
    file.write_text(tamper(record(tmp_path), path, value))
    with pytest.raises(ReadError, match="no scale of a session") as caught:
        read_earlier_scale(file)
    assert caught.value.path == file


def test_a_damaged_record_is_told_and_does_not_hide_the_table(tmp_path, caplog):
    file = tmp_path / "run.json"
    file.write_text(json.dumps(record(tmp_path)))
    assert analysed_images(tmp_path / "atoms.csv") == ["a.tif"]
    file.write_text('{"outputs": ' + "[" * 100_000)
    assert analysed_images(tmp_path / "atoms.csv") is None
    assert "run.json is damaged" in caplog.text


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_change_of_a_record_gives_what_it_holds_or_an_error(tmp_path, data):
    file = tmp_path / "run.json"
    file.write_bytes(data.draw(tampered(record(tmp_path))))
    try:
        scale = read_earlier_scale(file)
        assert np.isfinite([scale.intensity_per_atom, scale.log_sd]).all()
    except AtomicityError as error:
        assert error.path == file
    found = analysed_images(tmp_path / "atoms.csv")
    assert found is None or all(isinstance(name, str) for name in found)
    results = ResultFolder(tmp_path, "atoms")
    results.finish([], started="", finished="", parameters={}, model=None, device=None)
    assert file.exists()


@pytest.mark.parametrize("text", ["", "[]", '{"reference_since": 1e400}', "[" * 100_000, "null"])
def test_a_damaged_time_of_the_reference_is_none(tmp_path, text):
    reference = SessionReference(tmp_path)
    (tmp_path / "live.json").write_text(text)
    assert reference.since() == -np.inf
    reference.start_at(5.0)
    assert reference.since() == 5.0


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"address": 1}', "[" * 100_000])
def test_a_file_that_names_no_scheduler(tmp_path, text):
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(ValueError, match=r"names no scheduler"):
        address_of(str(tmp_path / "s.json"))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_change_of_movie_settings_gives_settings_or_an_error(data):
    values = data.draw(st.dictionaries(
        st.sampled_from(list(MovieSettings().to_dict())),
        st.one_of(st.integers(), st.floats(), st.text(), st.none(), st.booleans()),
    ))  # fmt: skip
    try:
        MovieSettings.from_dict(values)
    except (AtomicityError, ValueError) as error:
        assert len(str(error)) < 1000
