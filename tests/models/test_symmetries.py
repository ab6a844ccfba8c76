"""The symmetries of the square."""

import pytest
import torch

from napari_atomicity.models.network import NUMBER, apply_symmetry, undo_symmetry

IMAGE = torch.arange(2 * 5 * 7).reshape(2, 5, 7)


@pytest.mark.parametrize("view", range(NUMBER))
def test_views_are_undone(view):
    assert torch.equal(undo_symmetry(apply_symmetry(IMAGE, view), view), IMAGE)


def test_all_views_differ():
    seen = {
        tuple(apply_symmetry(IMAGE[:, :, :5], view).flatten().tolist()) for view in range(NUMBER)
    }
    assert len(seen) == NUMBER
