import pytest

from glimpse.data.folder.sizes import canvas_size

ROOM = 2**40


@pytest.mark.parametrize(
    ("sizes", "canvas"),
    [
        ([(26, 26), (44, 44), (190, 190)], (48, 48)),
        ([(480, 640)] * 3, (480, 640)),
        ([(3000, 4000)] * 2, (480, 640)),
        ([(4000, 1000)], (640, 160)),
        ([(8, 8)], (32, 32)),
        ([(1, 1)], (32, 32)),
        ([(20, 2000)], (32, 640)),
        ([(480, 640), (640, 480)], (544, 544)),  # half of them turned: a square of about their area
        ([(100, 200)] * 5 + [(900, 100)], (96, 192)),
        ([(63, 40)], (64, 48)),
    ],
)
def test_a_canvas_is_like_the_image_in_the_middle(sizes, canvas):
    assert canvas_size(sizes, ROOM)[:2] == canvas


def test_the_order_of_the_images_does_not_matter():
    sizes = [(30 + 7 * n, 90 + n) for n in range(9)]
    assert canvas_size(sizes, ROOM) == canvas_size(sizes[::-1], ROOM)


def test_a_canvas_is_reduced_until_it_has_room():
    height, width, reason = canvas_size([(480, 640)], 100_000)
    assert height * width <= 100_000
    assert width / height == pytest.approx(4 / 3, rel=0.15)
    assert reason.endswith(f"scaled to {height}x{width}, so that all of them fit into memory")
    assert canvas_size([(480, 640)], 10)[:2] == (32, 32)


def test_the_reason_says_what_was_found():
    sizes = [(26, 30), (44, 44), (190, 180)]
    assert canvas_size(sizes, ROOM).reason == "images of 26 to 190 pixels a side, 44x44 in the middle: scaled to 48x48"
    assert canvas_size([(900, 900)], ROOM).reason.endswith("scaled to 640x640, at most 640 a side")
