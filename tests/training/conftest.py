"""Size-selected images for the tests of the training."""

import pytest

from support import write_size_selected


@pytest.fixture(scope="session")
def folder(tmp_path_factory, library):
    """Three small size-selected images of each of two classes."""
    return write_size_selected(tmp_path_factory.mktemp("size-selected"), library)


@pytest.fixture
def no_umap(monkeypatch):
    """The map is not what is tested here, and its compilation takes seconds."""
    monkeypatch.setattr(
        "napari_atomicity.models.embedding.fit_map", lambda e, seed: e[:, :2].copy()
    )
