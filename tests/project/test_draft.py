"""A project of a folder that is opened, before and after its first change."""

import threading

import pytest

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.project import Project, open_any, survey


@pytest.fixture
def draft(folder):
    """The project of a folder that has none."""
    with open_any(folder, draft=True).project as project:
        yield project


def files(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_nothing_is_written_beside_the_images(folder):
    before = files(folder)
    with open_any(folder, draft=True).project as project:
        survey(project, project.names)
        project.set_setting("window", {"zoom": 1}, in_draft=True)
        assert files(folder) == before
        assert project.setting("window") == {"zoom": 1}
    assert files(folder) == before


def test_the_first_change_creates_the_file_and_keeps_the_rest(folder, draft):
    survey(draft, draft.names)
    draft.set_setting("window", {"zoom": 1}, in_draft=True)
    name = draft.names[0]
    draft.image_files.set_pixel_size(name, 0.05)
    assert draft.path.is_file()
    draft.close()
    with Project(draft.path) as project:
        assert project.names == draft.names
        assert project.setting("window") == {"zoom": 1}
        assert project.images()[0].pixel_size_nm == 0.05
        assert project.load(name).micrograph.path.parent == folder


def test_a_second_window_finds_the_file_once_it_is_there(folder, draft):
    draft.set_setting("note", 1)
    with Project(draft.path) as other:
        assert other.read_only
    with open_any(folder, draft=True).project as other:
        assert other.read_only


def test_the_second_of_two_drafts_is_told_and_can_be_copied(folder, draft, tmp_path):
    with open_any(folder, draft=True).project as second:
        draft.set_setting("note", 1)
        with pytest.raises(AtomicityError, match="another window"):
            second.set_setting("note", 2)
        second.set_setting("note", 3, in_draft=True)
        second.copy(tmp_path / "kept.atomicity")
    assert draft.setting("note") == 1
    with Project(tmp_path / "kept.atomicity") as kept:
        assert kept.setting("note") == 3


def test_threads_go_on_while_the_file_is_created(folder, draft):
    stop, errors = threading.Event(), []

    def write():
        number = 0
        while not stop.wait(0.02):  # SQLite is not fair to the other thread
            number += 1
            try:
                draft.set_setting("number", number, in_draft=True)
                assert draft.setting("number") == number
            except Exception as error:
                errors.append(error)
                return

    thread = threading.Thread(target=write)
    thread.start()
    for i in range(3):
        draft.set_setting("other", i)
    stop.set()
    thread.join()
    assert not errors
    number = draft.setting("number")
    draft.close()
    with Project(draft.path) as project:
        assert project.setting("number") == number


def test_a_project_that_exists_is_opened_as_it_is(folder):
    with open_any(folder).project as project:
        path = project.path
        assert path.is_file()
    with open_any(folder, draft=True).project as project:
        assert not project.read_only
        project.set_setting("window", 1, in_draft=True)
    with Project(path) as project:
        assert project.setting("window") == 1
