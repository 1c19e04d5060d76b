"""Augmentation: deterministic by its generator, each image by itself, and the same map as torchvision's."""

from dataclasses import replace

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from glimpse.data.augmentation import AUGMENTATIONS, Augmentation, AugmentationPolicy, affine_maps, recolour, resample
from glimpse.errors import ArgumentError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(batch: int = 6, channels: int = 3, height: int = 24, width: int = 36) -> torch.Tensor:
    """Photograph-like images: smooth, not square."""
    coarse = torch.rand(batch, channels, 5, 7, generator=generator(1)) * 255
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name != "none"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_policy_changes_images_and_follows_from_its_generator(name: str, channels: int) -> None:
    images = smooth(channels=channels)
    before = images.clone()
    drawn = Augmentation(name).draw(images, generator())
    assert (drawn.shape, drawn.dtype) == (images.shape, torch.uint8)
    assert (drawn != images).flatten(1).any(1).all()
    torch.testing.assert_close(drawn, Augmentation(name).draw(images, generator()))
    assert not drawn.equal(Augmentation(name).draw(images, generator(1)))
    torch.testing.assert_close(images, before)


def test_each_image_of_a_batch_is_changed_in_its_own_way() -> None:
    drawn = Augmentation("strong", flips=True).draw(smooth(1).expand(20, -1, -1, -1), generator())
    assert len(drawn.flatten(1).unique(dim=0)) == 20


def test_without_a_policy_images_stay_and_flips_mirror_half_of_them() -> None:
    images = smooth(200)
    assert Augmentation().draw(images, generator()) is images
    flipped = Augmentation(flips=True).draw(images, generator())
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    assert (mirrored | (flipped == images).flatten(1).all(1)).all()
    assert 70 < int(mirrored.sum()) < 130


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_no_policy_mirrors_an_image(name: str) -> None:
    maps = affine_maps(AUGMENTATIONS[name], smooth(500), generator())
    assert (torch.linalg.det(maps[:, :, :2]) > 0).all()


def test_a_map_that_changes_nothing_reads_the_pixels_as_they_are() -> None:
    images = smooth()
    maps = affine_maps(AugmentationPolicy(), images, generator())
    ones = torch.ones(len(images))
    torch.testing.assert_close(recolour(resample(images, maps), ones, ones, ones), images)


def test_moves_sizes_and_turns_are_those_of_torchvision() -> None:
    images = smooth(8, height=40, width=60)
    maps = affine_maps(AugmentationPolicy(shift=0.05, scale=1.2, rotation=20.0), images, generator())
    read = resample(images, maps)
    for image, pixels, ((across, slope, right), (_, down, below)) in zip(images, read, maps.tolist(), strict=True):
        # The angle and the size of a map that turns pixels about the centre of an image of 40x60.
        angle = torch.tensor(-slope * 60 / 40).atan2(torch.tensor(down))
        size = float(angle.cos()) / across
        turn = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
        moved = -size * turn.T @ torch.tensor([right * 30, below * 20])
        same = reference.affine(
            image.float(),
            -float(torch.rad2deg(angle)),
            moved.tolist(),
            size,
            [0.0, 0.0],
            interpolation=v2.InterpolationMode.BILINEAR,
            fill=[-1e4],
        )
        inside = (same >= 0).all(0)
        assert inside.float().mean() > 0.5
        assert ((same - pixels).abs() < 0.01)[:, inside].float().mean() > 0.99


def test_a_crop_lies_within_the_image_and_keeps_its_share() -> None:
    policy = replace(AUGMENTATIONS["photographs"], least_area=0.4)
    maps = affine_maps(policy, smooth(1000), generator())
    sides = torch.stack([maps[:, 0, 0], maps[:, 1, 1]], 1)
    assert (sides + maps[:, :, 2].abs()).max() <= 1 + 1e-6
    assert (maps[:, 0, 1] == 0).all()
    areas = sides.prod(1)
    assert 0.3 < areas.min() < 0.45
    assert areas.max() > 0.95
    assert sides.max() <= 1


def test_colours_are_changed_as_torchvision_does() -> None:
    images = smooth(4) // 3 + 85
    brightness, contrast, saturation = torch.tensor([[0.8, 1.1, 1, 0.7], [1, 0.7, 1.2, 1.1], [0.5, 1, 1.3, 0.9]])
    changed = recolour(images.float(), brightness, contrast, saturation)
    for at, image in enumerate(images.float() / 255):
        one = reference.adjust_contrast(image * brightness[at], float(contrast[at]))
        expected = reference.adjust_saturation(one, float(saturation[at])).mul(255).round()
        assert (changed[at].float() - expected).abs().max() <= 1


def test_a_wrong_name_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="expected augmentation out of none, mild, strong, photographs; got 'wild'"):
        Augmentation("wild")


@pytest.mark.parametrize(("name", "flips"), [("none", True), ("mild", False), ("strong", True), ("photographs", False)])
def test_boxes_move_with_what_they_surround(name, flips):
    images = torch.zeros(40, 1, 64, 64, dtype=torch.uint8)
    images[:, :, 26:36, 24:42] = 255
    boxes = torch.tensor([[24, 26, 42, 36], [torch.nan] * 4]) / 64
    augmentation = Augmentation(name, flips)
    drawn = augmentation.draw(images, torch.Generator().manual_seed(3))
    moved = augmentation.draw_boxes(images, boxes.expand(40, 2, 4), torch.Generator().manual_seed(3))
    assert moved[:, 1].isnan().all()
    for image, box in zip(drawn[:, 0], moved[:, 0], strict=True):
        rows, columns = (image > 128).nonzero(as_tuple=True)
        if box.isnan().any():
            assert not len(rows)
            continue
        # Of a turned object the box is larger than the object by what the corners stick out.
        found = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        sign = torch.tensor([1, 1, -1, -1])
        slack = (found - 64 * box) * sign
        assert slack.min() > -2.5
        assert slack.max() < 7
