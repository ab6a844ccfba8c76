"""The optimisation that the trainings of clusters and of atoms share."""

import pytest
import torch
from torch import nn

from napari_atomicity.core.errors import Cancelled
from napari_atomicity.training.fit import Trainer, update_average


def trainer(steps: int = 20, **callbacks) -> Trainer:
    torch.manual_seed(0)
    network, average = nn.Linear(3, 1), nn.Linear(3, 1)
    average.load_state_dict(network.state_dict())
    return Trainer(
        network, average, network.parameters(), 0.1,
        total_steps=steps, warmup=0.25, weight_decay=0.0, **callbacks,
    )  # fmt: skip


def test_steps_lower_the_loss_and_report_progress():
    reported = []
    fit = trainer(progress=lambda *a: reported.append(a))
    x = torch.randn(32, 3, generator=torch.Generator().manual_seed(1))
    losses = []
    for _ in fit.steps(0, 20):
        loss = (fit.network(x) - x.sum(dim=1, keepdim=True)).square().mean()
        fit.update(loss, 0.5)
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
    assert reported[0] == (1, 20, "Training") and reported[-1] == (20, 20, "Training")
    assert not torch.equal(fit.average.weight, fit.network.weight)


def test_stop_ends_the_steps_before_the_next_one():
    done = []
    fit = trainer(stop=lambda: len(done) == 2)
    with pytest.raises(Cancelled):
        for step in fit.steps(0, 4):
            done.append(step)
    assert done == [0, 1]


def test_groups_have_their_own_learning_rates():
    network = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    groups = [{"params": list(part.parameters())} for part in network]
    fit = Trainer(
        network, network, groups, [1.0, 0.1], total_steps=10, warmup=0.5, weight_decay=0.0
    )
    first, second = (group["lr"] for group in fit.optimiser.param_groups)
    assert second == pytest.approx(0.1 * first)


def test_the_average_follows_weights_and_running_statistics_but_not_counters():
    average, network = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    with torch.no_grad():
        network.weight.fill_(3.0)
        network.running_mean.fill_(2.0)
        network.num_batches_tracked.fill_(7)
    update_average(average, network, 0.75)
    torch.testing.assert_close(average.weight, torch.full((2,), 1.5))
    torch.testing.assert_close(average.running_mean, torch.full((2,), 0.5))
    assert int(average.num_batches_tracked) == 0
