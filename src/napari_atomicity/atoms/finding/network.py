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


class JoiningConvolution(nn.Conv2d):
    """A 3 × 3 convolution of upsampled features and of others at the full sampling."""

    def __init__(
        self,
        coarse: int,  # number of features at half the sampling
        fine: int,  # number of those at the full sampling
        outputs: int,  # number of features of the output
    ) -> None:
        super().__init__(coarse + fine, outputs, 3, padding=1, bias=False)
        self.coarse = coarse

    def forward(self, joined: tuple[Tensor, Tensor]) -> Tensor:  # type: ignore[override]
        """Map features (B, C, Y / 2, X / 2) and (B, C', Y, X) to (B, C'', Y, X)."""
        coarse, fine = joined
        upsampled = functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
        return super().forward(torch.cat([upsampled, fine], 1))


class TransposedJoin(nn.Module):
    """A trained `JoiningConvolution` with fewer operations.

    A 3 × 3 convolution of upsampled features is a transposed convolution of the features with a
    4 × 4 kernel: each of them contributes to 4 × 4 pixels.
    """

    def __init__(self, convolution: JoiningConvolution) -> None:
        super().__init__()
        weight = convolution.weight.detach()
        coarse, fine = weight[:, : convolution.coarse], weight[:, convolution.coarse :]
        kernel = sum(
            functional.pad(coarse.flip(2, 3), (x, 1 - x, y, 1 - y)) for x in (0, 1) for y in (0, 1)
        )
        self.kernel = nn.Parameter(torch.as_tensor(kernel).transpose(0, 1), requires_grad=False)
        self.fine = nn.Parameter(fine.clone(), requires_grad=False)
        self.bias = convolution.bias

    def forward(self, joined: tuple[Tensor, Tensor]) -> Tensor:
        """Map features as `JoiningConvolution`."""
        coarse, fine = joined
        out = functional.conv2d(fine, self.fine, self.bias, padding=1)
        return out.add_(functional.conv_transpose2d(coarse, self.kernel, stride=2, padding=1))


def _block(first: nn.Conv2d, dropout: float = 0.0) -> nn.Sequential:
    outputs = first.out_channels
    return nn.Sequential(
        first,
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Dropout2d(dropout),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _down(inputs: int, outputs: int, dropout: float = 0.0) -> nn.Sequential:
    return _block(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), dropout)


class AtomNet(nn.Module):
    """A U-Net of four levels."""

    def __init__(
        self,
        channels: int = 3,
        width: int = 16,  # features of the first level; the next have twice and four times as many
        dropout: float = 0.1,  # probability in the two deepest levels
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 6, stride=2, padding=2)
        self.down = nn.ModuleList(
            [
                _down(width, width),
                _down(width, 2 * width),
                _down(2 * width, 4 * width, dropout),
                _down(4 * width, 4 * width, dropout),
            ]
        )
        self.up = nn.ModuleList(
            [
                _block(JoiningConvolution(4 * width, 4 * width, 4 * width), dropout),
                _block(JoiningConvolution(4 * width, 2 * width, 2 * width)),
                _block(JoiningConvolution(2 * width, width, width)),
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
            features = block((features, skipped))
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
