"""The network: from local-contrast channels to the logit that an annotator marks an atom.

Fully convolutional, so that an image of any size is one pass. The first convolution halves the
sampling, and the last layer restores it by pixel shuffle [1]_. Between them is a small U-Net [2]_,
whose deepest features cover the texture within some nm.

References
----------
.. [1] W. Shi et al., CVPR 2016.
.. [2] O. Ronneberger et al., MICCAI 2015.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDE = 16
"""Images are padded to multiples of this."""
PRIOR_LOGIT = -4.0
"""Initial bias of the output: atoms cover a small part of an image."""


def _block(inputs: int, outputs: int, dropout: float = 0.0) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Dropout2d(dropout),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _upsample(features: Tensor) -> Tensor:
    return functional.interpolate(features, scale_factor=2.0, mode="nearest")


class AtomNet(nn.Module):
    """A U-Net of four levels.

    Parameters
    ----------
    channels : int, default 3
        Number of channels of the input.
    width : int, default 16
        Number of features of the first level; the next have twice and four times as many.
    dropout : float, default 0.1
        Dropout probability in the two deepest levels.
    """

    def __init__(self, channels: int = 3, width: int = 16, dropout: float = 0.1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 6, stride=2, padding=2)
        self.down = nn.ModuleList(
            [
                _block(width, width),
                _block(width, 2 * width),
                _block(2 * width, 4 * width, dropout),
                _block(4 * width, 4 * width, dropout),
            ]
        )
        self.up = nn.ModuleList(
            [
                _block(8 * width, 4 * width, dropout),
                _block(6 * width, 2 * width),
                _block(3 * width, width),
            ]
        )
        self.head = nn.Conv2d(width, 4, 1)
        nn.init.constant_(self.head.bias, PRIOR_LOGIT)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, C, Y, X) channels to (B, Y, X) logits; Y and X are multiples of `STRIDE`."""
        features = self.stem(image)
        levels: list[Tensor] = []
        for i, block in enumerate(self.down):
            features = block(functional.max_pool2d(features, 2) if i else features)
            levels.append(features)
        for block, skipped in zip(self.up, levels[-2::-1], strict=True):
            features = block(torch.cat([_upsample(features), skipped], 1))
        return functional.pixel_shuffle(self.head(features), 2)[:, 0]


def pad_to_stride(image: Tensor) -> Tensor:
    """Pad an image (B, C, Y, X) by reflection at its far edges to multiples of `STRIDE`."""
    height, width = image.shape[-2:]
    bottom, right = -height % STRIDE, -width % STRIDE
    while bottom or right:  # reflection is limited by the size of the image
        step = min(bottom, image.shape[-2] - 1), min(right, image.shape[-1] - 1)
        mode = "reflect" if (step[0] or not bottom) and (step[1] or not right) else "replicate"
        step = step if mode == "reflect" else (bottom, right)
        image = functional.pad(image, (0, step[1], 0, step[0]), mode=mode)
        bottom, right = bottom - step[0], right - step[1]
    return image
