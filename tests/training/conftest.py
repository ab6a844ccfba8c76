"""Size-selected images for the tests of the training."""

import pytest

from support import write_size_selected


@pytest.fixture(scope="session")
def folder(tmp_path_factory, library):
    """Three small size-selected images of each of two classes."""
    return write_size_selected(tmp_path_factory.mktemp("size-selected"), library)
