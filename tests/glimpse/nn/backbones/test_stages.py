import pytest
import torch
from torch import nn
from torchvision.models import convnext_tiny, mobilenet_v3_small, resnet18
from torchvision.models.feature_extraction import create_feature_extractor

from glimpse.nn.backbones.stages import stages_of

BLACK = torch.zeros(1, 3, 64, 64)


def names_of(network: nn.Module) -> list[set[str]]:
    names = {part: name for name, part in network.named_modules()}
    return [{names[part].split(".")[0] for part in stage} for stage in stages_of(network.eval(), BLACK)]


def test_a_residual_networks_stages_are_its_layers():
    network = create_feature_extractor(resnet18(weights=None), {"layer4": "map"})
    assert names_of(network) == [{"conv1", "bn1"}, {"layer1"}, {"layer2"}, {"layer3"}, {"layer4"}]


def test_a_pooled_map_within_a_block_begins_no_stage():
    network = create_feature_extractor(mobilenet_v3_small(weights=None), {"features": "map"})
    stages = stages_of(network.eval(), BLACK)
    assert len(stages) == 5
    squeeze = network.get_submodule("features.1.block.1.fc1")
    assert any(squeeze is part for part in stages[1])


def test_every_tensor_is_in_one_stage():
    # The blocks of this one have tensors of their own, which a traced graph reads without calling the block.
    network = create_feature_extractor(convnext_tiny(weights=None), {"features.3": "map"})
    stages = stages_of(network.eval(), BLACK)
    found = [id(part) for stage in stages for each in stage for part in each.parameters(recurse=False)]
    assert sorted(found) == sorted(id(part) for part in network.parameters())
    block = network.get_submodule("features.3.0")
    assert any(block is part for part in stages[-1])


@pytest.mark.parametrize("side", [32, 64])
def test_a_network_that_never_halves_is_one_stage(side):
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1))
    assert [len(stage) for stage in stages_of(network.eval(), torch.zeros(1, 3, side, side))] == [3]
