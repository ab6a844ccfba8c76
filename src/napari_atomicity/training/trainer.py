"""Optimisation that the trainings of clusters and of atoms share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core.progress import Progress, Stop, check, report

MAX_GRADIENT_NORM = 1.0


class Trainer:
    """Fit a network with AdamW, a one-cycle schedule and a running average of its weights.

    Parameters
    ----------
    average : nn.Module
        Network of the same layers. Its weights follow those of ``network``.
    groups : iterable of parameters or of dict
        Parameters to optimise, or groups of them, see `torch.optim.AdamW`.
    learning_rate : float or sequence of float
        Highest learning rate, or one for each group.
    warmup : float
        Share of the steps in which the learning rate rises.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
    .. [2] L. N. Smith and N. Topin, "Super-Convergence: Very Fast Training of Neural Networks
       Using Large Learning Rates", Proc. SPIE 11006 (2019).
    .. [3] B. T. Polyak and A. B. Juditsky, "Acceleration of Stochastic Approximation by
       Averaging", SIAM J. Control Optim. 30, 838 (1992).
    """

    def __init__(
        self,
        network: nn.Module,
        average: nn.Module,
        groups: Iterable[Any],
        learning_rate: float | Sequence[float],
        *,
        total_steps: int,
        warmup: float,
        weight_decay: float,
        progress: Progress | None = None,
        stop: Stop | None = None,
    ) -> None:
        self.network = network
        self.average = average
        self.total_steps = total_steps
        self._progress, self._stop = progress, stop
        rates = [learning_rate] if isinstance(learning_rate, float) else list(learning_rate)
        self.optimiser = torch.optim.AdamW(groups, lr=rates[0], weight_decay=weight_decay)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser,
            rates[0] if len(rates) == 1 else rates,
            total_steps=total_steps,
            pct_start=warmup,
        )

    def steps(self, first: int, last: int) -> Iterator[int]:
        """Yield the numbers of steps; check ``stop`` before each and report progress after it.

        Yields
        ------
        int
            Number of the step, from 0.
        """
        for step in range(first, last):
            check(self._stop)
            yield step
            self.report(step + 1, "Training")

    def report(self, done: int, message: str) -> None:
        """Report progress."""
        report(self._progress, done, self.total_steps, message)

    def update(self, loss: Tensor, kept: float) -> None:
        """Take one step of the optimiser and update the average.

        Parameters
        ----------
        kept : float
            Share of the average that stays, between 0 and 1.
        """
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT_NORM)
        self.optimiser.step()
        self.schedule.step()
        update_average(self.average, self.network, kept)


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, kept: float) -> None:
    """Move the weights of an average towards those of a network, in place.

    Parameters
    ----------
    kept : float
        Share of the average that stays, between 0 and 1.
    """
    states = average.state_dict().values(), network.state_dict().values()
    for mean, current in zip(*states, strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(current, 1 - kept)
