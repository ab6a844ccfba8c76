"""The network and its class maps, against gradients and against captum."""

import numpy as np
import pytest
import torch

from napari_atomicity.models.network import AtomicityNet


@pytest.fixture
def network():
    torch.manual_seed(3)
    return AtomicityNet(("raw", "LCN"), 5, width=8).eval()


@pytest.fixture
def patches():
    generator = torch.Generator().manual_seed(1)
    return {c: 10 * torch.randn(6, 40, 40, generator=generator) for c in ("raw", "LCN")}


def test_class_maps_equal_captum(network, patches):
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")

    class Positional(torch.nn.Module):
        """captum gives tensors, our network takes a dictionary."""

        def __init__(self):
            super().__init__()
            self.inner = network

        def forward(self, raw, lcn):
            return self.inner({"raw": raw, "LCN": lcn}).logits

    wrapped = Positional()
    inputs = (patches["raw"], patches["LCN"])
    for index in range(5):
        ours = network.class_maps(network(patches).maps, torch.full((6,), index))
        for channel, branch in network.branches.items():
            # the maps are what comes out of the branch, after its last activation
            theirs = attr.LayerGradCam(wrapped, branch).attribute(
                inputs, target=index, relu_attributions=True
            )
            np.testing.assert_allclose(
                ours[channel].detach().numpy(), theirs[:, 0].detach().numpy(), rtol=1e-4, atol=1e-7
            )


def test_class_maps_add_up_to_the_logit(network, patches):
    """For a pooled linear head the unclipped maps, summed, are the logit without its bias."""
    output = network(patches)
    weight = network.head.weight
    total = torch.zeros(6)
    start = 0
    for channel in network.channels:
        features = output.maps[channel]
        n, area = features.shape[1], features.shape[2] * features.shape[3]
        total = total + torch.einsum("d,ndhw->n", weight[2, start : start + n], features) / area
        start += n
    torch.testing.assert_close(total + network.head.bias[2], output.logits[:, 2])


def test_shapes(network, patches):
    output = network(patches)
    assert output.logits.shape == (6, 5)
    assert output.embedding.shape == (6, 64)
    assert output.maps["raw"].shape == (6, 32, 10, 10)
    single = AtomicityNet(("raw",), 3, width=4)({"raw": patches["raw"]})
    assert single.embedding.shape == (6, 16)


def test_absolute_brightness_reaches_the_embedding(network, patches):
    """Group normalisation must not hide how many atoms a patch holds."""
    brighter = {"raw": patches["raw"].abs() * 1.5, "LCN": patches["LCN"]}
    plain = {"raw": patches["raw"].abs(), "LCN": patches["LCN"]}
    change = (network(brighter).embedding - network(plain).embedding)[:, :32].abs()
    assert float(change.max()) > 1e-3


def test_predictions_do_not_depend_on_the_batch(network, patches):
    together = network(patches).logits
    alone = torch.cat(
        [network({c: p[i : i + 1] for c, p in patches.items()}).logits for i in range(6)]
    )
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_maps_are_in_register_with_the_patch():
    """With kernels that are mirror images of themselves a mirrored patch has mirrored maps."""
    torch.manual_seed(0)
    network = AtomicityNet(("LCN",), 2, width=4).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            with torch.no_grad():
                module.weight.copy_((module.weight + module.weight.flip(2, 3)) / 2)
    patch = torch.randn(1, 32, 32)
    maps = network({"LCN": patch}).maps["LCN"]
    mirrored = network({"LCN": patch.flip(1, 2)}).maps["LCN"]
    torch.testing.assert_close(mirrored.flip(2, 3), maps, rtol=1e-4, atol=1e-5)
