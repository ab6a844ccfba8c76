"""Number of processes that a run for atoms starts by itself."""

import pytest

from napari_atomicity.pipeline import atom_runs
from napari_atomicity.pipeline.atom_runs import IMAGES_PER_WORKER, choose_workers

GIB = 2**30


@pytest.mark.parametrize(
    ("n_images", "cores", "free_gib", "workers"),
    [
        (1, 8, 64, 1),
        (2 * IMAGES_PER_WORKER - 1, 8, 64, 1),
        (2 * IMAGES_PER_WORKER, 8, 64, 2),
        (1000, 8, 64, 8),
        (1000, 8, 7, 3),
        (1000, 8, 0.5, 1),
        (1000, 1, 64, 1),
    ],
)
def test_processes_have_enough_images_cores_and_memory(
    monkeypatch, n_images, cores, free_gib, workers
):
    monkeypatch.setattr(atom_runs, "thread_count", lambda: cores)
    monkeypatch.setattr(atom_runs, "free_memory_bytes", lambda: int(free_gib * GIB))
    assert choose_workers(n_images, on_cpu=True) == workers
    assert choose_workers(n_images, on_cpu=False) == 1
