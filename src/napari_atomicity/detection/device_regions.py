"""Connected parts and watersheds on a GPU, by forests of pixels that grow together in rounds."""

from __future__ import annotations

import torch
from torch import Tensor

_NONE = -1


def components(mask: Tensor) -> Tensor:
    """Parts of each image that hang together along y or x.

    Parameters
    ----------
    mask
        (N, Y, X) bool.

    Returns
    -------
    Tensor
        (N, Y, X) int64: 1 + number of the part's first pixel among all pixels of the mask, 0
        outside.
    """
    number, neighbours = _graph(mask)
    root = torch.arange(neighbours.shape[1], device=mask.device)
    a, b = _edges(neighbours)
    while len(a):
        a, b = root[a], root[b]
        low, high = torch.minimum(a, b), torch.maximum(a, b)
        apart = low != high
        a, b = low[apart], high[apart]
        root = _to_the_end(root.scatter_reduce(0, b, a, "amin"))  # never upwards: no cycles
    return _painted(number, root + 1)


def flood(height: Tensor, mask: Tensor, seeds: Tensor) -> Tensor:
    """Watershed of seeds in a mask, from the heights down; 0 where no seed's flood comes.

    The minimum spanning forest rooted at the seeds (Cousty et al., IEEE Trans. PAMI 31, 1362
    (2009)) by Borůvka's rounds: a part without a seed joins the neighbour across its highest pass.
    What a queue does pixel by pixel, but where two floods meet at the same moment.

    Parameters
    ----------
    height
        (Y, X) float32.
    mask
        (Y, X) bool, true at the seeds.
    seeds
        (Y, X) int64: 0, or 1 + number of the seed that lies there.

    Returns
    -------
    Tensor
        (Y, X) int64 like ``seeds``.
    """
    number, neighbours = _graph(mask[None])
    label, value = seeds[mask], height[mask]
    seeded = label > 0
    # The pass to the highest neighbour is the highest of a pixel that has a higher one.
    itself = torch.arange(len(label), device=mask.device)
    top, parent = value.clone(), itself.clone()
    for one in neighbours:
        of_one = torch.where(one == _NONE, -torch.inf, value[one])
        parent = torch.where(of_one > top, one, parent)
        top = torch.maximum(top, of_one)
    root = _to_the_end(torch.where(seeded, itself, parent))
    a, b = _edges(neighbours)
    # Passes by their lower end, and of those the one that is reached first.
    low, high = (_ordered(end(value[a], value[b])) for end in (torch.minimum, torch.maximum))
    rank = (low << 32) + high + 2**31
    while True:
        a, b = root[a], root[b]
        apart = (a != b) & ~(seeded[a] & seeded[b])
        a, b, rank = a[apart], b[apart], rank[apart]
        if not len(a):
            return _painted(number, label[root])[0]
        ends, edge = torch.cat([a, b]), torch.arange(len(a), device=a.device).repeat(2)
        rank2 = rank.repeat(2)
        best = torch.full_like(itself, torch.iinfo(torch.int64).min)
        best.scatter_reduce_(0, ends, rank2, "amax")
        chosen = rank2 == best[ends]
        first = torch.full_like(itself, len(a))
        first.scatter_reduce_(0, ends[chosen], edge[chosen], "amin")
        joins = torch.nonzero((first < len(a)) & ~seeded)[:, 0]
        other = a[first[joins]] + b[first[joins]] - joins
        target = itself.scatter(0, joins, other)
        mutual = (target[target] == itself) & (itself < target)  # two that chose each other
        target = torch.where(mutual, itself, target)
        root = _to_the_end(target)[root]


def _graph(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of the pixels of masks (N, Y, X), and (4, P) those above, left, right and below."""
    inside = torch.nonzero(mask, as_tuple=True)
    number = torch.full(
        (mask.shape[0], mask.shape[1] + 2, mask.shape[2] + 2), _NONE, device=mask.device
    )
    image, y, x = inside[0], inside[1] + 1, inside[2] + 1
    number[image, y, x] = torch.arange(len(y), device=mask.device)
    beside = ((-1, 0), (0, -1), (0, 1), (1, 0))
    neighbours = torch.stack([number[image, y + down, x + across] for down, across in beside])
    return number[:, 1:-1, 1:-1], neighbours


def _edges(neighbours: Tensor) -> tuple[Tensor, Tensor]:
    """Both ends of each pair of neighbours, once."""
    pairs = [(torch.nonzero(one != _NONE)[:, 0], one[one != _NONE]) for one in neighbours[2:]]
    a, b = zip(*pairs, strict=True)
    return torch.cat(a), torch.cat(b)


def _to_the_end(parent: Tensor) -> Tensor:
    """Of each node the root, which is its own parent."""
    while True:
        further = parent[parent]
        if torch.equal(further, parent):
            return parent
        parent = further


def _painted(number: Tensor, values: Tensor) -> Tensor:
    """An image of the values of the numbered pixels, 0 elsewhere."""
    padded = torch.cat([values, values.new_zeros(1)])  # the last for the number -1
    return padded[number]


def _ordered(values: Tensor) -> Tensor:
    """Integers of 32 bits, as int64, in the order of the float32 values."""
    bits = values.view(torch.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(torch.int64)
