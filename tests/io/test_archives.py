"""Archives from other people: damaged names and lists of members end in a message."""

import zipfile

import pytest

from napari_atomicity.core.errors import ReadError
from napari_atomicity.project.packs.filled_packs import open_archive


def archive_with(path, old, new):
    """Write an archive with the members ``key`` and ``t/ab``; replace these bytes everywhere."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("key", "content")
        archive.writestr("t/ab", "table")
    path.write_bytes(path.read_bytes().replace(old, new))
    return path


@pytest.mark.parametrize("name", [b"\0/ab", b"t/\0b", b"t/..", b"t/~b", b"t///"])
def test_members_with_damaged_names_are_left_out(tmp_path, name):
    with open_archive(archive_with(tmp_path / "a.zip", b"t/ab", name), "key") as files:
        assert files.text("key") == "content"
        assert files.list_files("t/") == []


CENTRAL = b"PK\x01\x02\x14\x03\x14"


@pytest.mark.parametrize(
    "old, new",
    [
        (CENTRAL, CENTRAL[:-1] + b"\xff"),  # a version of the format that does not exist
        (b"\x00\x00\x00\x00t/ab", b"\x00\x00\x00\x00t/\xff\xff"),
        (b"PK\x01\x02", b"PK\x09\x09"),
        (b"PK\x05\x06", b"PK\x09\x09"),
    ],
)
def test_a_damaged_list_of_members_names_the_archive(tmp_path, old, new):
    path = archive_with(tmp_path / "a.zip", old, new)
    try:
        open_archive(path, "key").__exit__()
    except ReadError as error:
        assert error.path == path
