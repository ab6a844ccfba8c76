"""Pieces of work side by side: in order, each in one thread, and nobody else's threads changed."""

from __future__ import annotations

import threading

import pytest
import torch

from napari_atomicity.core.threads import parallel_map


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_each_piece_has_one_thread_and_all_are_at_work_together(three_threads):
    together = threading.Barrier(3, timeout=60)

    def piece(i):
        together.wait()
        return i, torch.get_num_threads(), threading.get_ident()

    done = parallel_map(piece, range(3))
    assert [i for i, _, _ in done] == [0, 1, 2]
    assert [n for _, n, _ in done] == [1, 1, 1]
    assert len({thread for _, _, thread in done}) == 3


def test_other_threads_keep_their_number(three_threads):
    parallel_map(lambda _: None, range(4))
    seen = [torch.get_num_threads()]
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert seen == [3, 3]


def test_an_error_comes_out(three_threads):
    with pytest.raises(ZeroDivisionError):
        parallel_map(lambda i: 1 // i, range(2))
