"""The network: a branch per channel, pooled features joined, one linear layer.

Because the head is linear on averaged feature maps, Grad-CAM of any class is the weighted sum of
those maps (Selvaraju et al., ICCV 2017; equal to HiResCAM for such heads): it comes with the
forward pass, without gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..core.model_card import ModelCard
from ..core.patches import PatchSettings

# ---- the eight symmetries of the square: four quarter turns, each mirrored or not

NUMBER = 8


def apply_symmetry(image: Tensor, view: int) -> Tensor:
    """Transform an image (..., Y, X) by one of the symmetries: quarter turns, + 4 if mirrored."""
    image = image.flip(-1) if view >= 4 else image
    return image.rot90(view % 4, (-2, -1))


def undo_symmetry(image: Tensor, view: int) -> Tensor:
    """Invert `apply_symmetry`."""
    image = image.rot90(-(view % 4), (-2, -1))
    return image.flip(-1) if view >= 4 else image


RAW_UNIT_ATOMS_PER_NM2 = 20.0
"""About the projected density of a cluster: brings the raw channel near 1."""
LCN_UNIT = 2.0
BRIGHT_QUANTILE = 0.99
"""Unit of the raw channel of a patch whose image is not known. Mean and deviation of the patch
would also depend on how much of a neighbour is at its edge; the brightest hundredth is mostly that
of the cluster itself."""
_LEVELS = (0.15, 0.5, 1.2)


class Output(NamedTuple):
    """Of N patches: logits (N, C), embedding (N, D), maps: channel → (N, D/channels, h, w)."""

    logits: Tensor
    embedding: Tensor
    maps: dict[str, Tensor]


class Branch(nn.Module):
    """Convolutions of one channel, (N, 1, P, P) → (N, 4 × width, P/4, P/4), non-negative.

    Group normalisation does not depend on which classes share a batch. It also removes absolute
    brightness, which counts atoms. The raw channel therefore enters through saturating curves at
    several levels too, whose extent keeps the brightness, and once more before the last
    convolution: a pooled map can then be an integrated intensity.
    """

    def __init__(self, width: int, absolute: bool) -> None:
        super().__init__()
        self.absolute = absolute
        w = width
        # Even kernels where the grid is halved: the cell j of a map then lies on the patch pixels
        # 4j to 4j + 3, and class maps are in register with the patch.
        self.stem = nn.Conv2d(1 + len(_LEVELS) if absolute else 1, w, 6, stride=2, padding=2)
        self.blocks = nn.Sequential(
            nn.Conv2d(w, 2 * w, 3, padding=1),
            nn.GroupNorm(4, 2 * w),
            nn.SiLU(),
            nn.Conv2d(2 * w, 3 * w, 4, stride=2, padding=1),
            nn.GroupNorm(4, 3 * w),
            nn.SiLU(),
            nn.Conv2d(3 * w, 4 * w, 3, padding=1),
            nn.GroupNorm(4, 4 * w),
            nn.SiLU(),
        )
        self.last = nn.Conv2d(4 * w + (1 if absolute else 0), 4 * w, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the feature maps of one channel."""
        brightness = functional.avg_pool2d(x, 4)
        if self.absolute:
            levels = [torch.tanh(x / level) for level in _LEVELS]
            x = torch.cat([x, *levels], dim=1)
        x = functional.silu(self.stem(x))
        x = self.blocks(x)
        if self.absolute:
            x = torch.cat([x, brightness], dim=1)
        # no normalisation after the last convolution: the maps are what is explained
        return functional.relu(self.last(x))


def _averaged(branch: nn.Module, x: Tensor) -> Tensor:
    """Its maps of patches (N, 1, P, P) in all symmetries, turned back."""
    views = (undo_symmetry(branch(apply_symmetry(x, view)), view) for view in range(NUMBER))
    return reduce(torch.add, views) / NUMBER


class AtomicityNet(nn.Module):
    """Patches of one or more channels to class logits."""

    def __init__(
        self,
        channels: Sequence[str],  # "raw" and "LCN"
        n_classes: int,
        width: int = 16,  # features of the first layer; the embedding has 4 × width per channel
        raw_unit: str = PatchSettings.raw_unit,
    ) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.raw_unit = raw_unit
        self.branches = nn.ModuleDict({c: Branch(width, c == "raw") for c in self.channels})
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(4 * width * len(self.channels), n_classes)

    def forward(
        self,
        patches: dict[str, Tensor],
        symmetries: bool = False,  # whether to average over the symmetries of the square
    ) -> Output:
        """Compute logits, embedding and feature maps.

        Notes
        -----
        With ``symmetries`` the feature maps are averaged over the symmetries of the square, each
        turned back. Embedding and logits are linear in them, so they are averages too. A class map
        is what is positive of a sum of the averaged maps, which the average of eight is not.
        """
        maps = {}
        for channel in self.channels:
            x = self._in_unit(patches[channel], channel).clamp(-10, 50)[:, None]
            branch = self.branches[channel]
            maps[channel] = _averaged(branch, x) if symmetries else branch(x)
        embedding = torch.cat([maps[c].mean(dim=(2, 3)) for c in self.channels], dim=1)
        return Output(self.head(self.dropout(embedding)), embedding, maps)

    def _in_unit(self, x: Tensor, channel: str) -> Tensor:
        if channel != "raw":
            return x / LCN_UNIT
        if self.raw_unit == "atoms" or not len(x):  # a quantile of nothing is an error
            return x / RAW_UNIT_ATOMS_PER_NM2
        bright = torch.quantile(x.float().flatten(1), BRIGHT_QUANTILE, dim=1)[:, None, None]
        return x / bright.clamp(min=torch.finfo(x.dtype).tiny)

    def class_maps(
        self,
        maps: dict[str, Tensor],  # of the forward pass
        classes: Tensor,
    ) -> dict[str, Tensor]:
        """Grad-CAM of a class for every patch: channel → (N, h, w), non-negative.

        The gradient of a logit with respect to a pooled feature map is its head weight divided by
        the number of the map's pixels; so is the scale here.
        """
        out, start = {}, 0
        for channel in self.channels:
            features = maps[channel]
            n = features.shape[1]
            weight = self.head.weight[classes, start : start + n]
            area = features.shape[2] * features.shape[3]
            out[channel] = functional.relu(torch.einsum("nd,ndhw->nhw", weight, features)) / area
            start += n
        return out


def new_network(card: ModelCard) -> AtomicityNet:
    """Return the network that a card describes, with random weights."""
    patches = card.patches
    return AtomicityNet(patches.channels, len(card.classes), card.width, patches.raw_unit)
