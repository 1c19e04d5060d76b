import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from benchmarks.serving.faults.rich_files import tiff
from glimpse.images import pixels

RGB = np.random.default_rng(0).integers(0, 256, (12, 20, 3)).astype(np.uint8)
GREY = RGB[..., :1]


def encode(picture: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, file_format, **options)
    return stream.getvalue()


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_rgb_comes_back_as_it_was(file_format):
    options = {"lossless": True} if file_format == "WEBP" else {}
    np.testing.assert_array_equal(pixels.decode(encode(Image.fromarray(RGB), file_format, **options)), RGB)


def test_jpeg_comes_back_nearly_as_it_was():
    ramp = np.linspace(0, 255, 64).astype(np.uint8)[None, :, None].repeat(48, axis=0)
    decoded = pixels.decode(encode(Image.fromarray(ramp[..., 0]), "JPEG", quality=95))
    assert decoded.shape == (48, 64, 1)
    assert np.abs(decoded.astype(int) - ramp).max() <= 4


def test_paths_and_bytes_give_the_same(tmp_path):
    data = encode(Image.fromarray(RGB))
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    for source in (path, str(path), data):
        np.testing.assert_array_equal(pixels.decode(source), RGB)


def test_grey_stays_one_channel():
    np.testing.assert_array_equal(pixels.decode(encode(Image.fromarray(GREY[..., 0]))), GREY)


def test_one_bit_is_black_and_white():
    bits = GREY[..., 0] > 127
    np.testing.assert_array_equal(pixels.decode(encode(Image.fromarray(bits)))[..., 0], bits * 255)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_composited_on_black(mode):
    colour = {"LA": (200, 102), "RGBA": (200, 100, 50, 102)}[mode]
    decoded = pixels.decode(encode(Image.new(mode, (3, 2), colour)))
    expected = [round(value * 102 / 255) for value in colour[:-1]]
    assert decoded.shape == (2, 3, len(expected))
    assert decoded[0, 0].tolist() == expected


def test_a_palette_becomes_its_colours_and_its_transparent_entry_black():
    picture = Image.new("P", (2, 1))
    picture.putpalette([250, 10, 20, 30, 240, 50])
    picture.putdata([0, 1])
    assert pixels.decode(encode(picture)).tolist() == [[[250, 10, 20], [30, 240, 50]]]
    assert pixels.decode(encode(picture, transparency=1)).tolist() == [[[250, 10, 20], [0, 0, 0]]]


def test_a_transparent_grey_value_becomes_black():
    picture = Image.fromarray(np.array([[200, 90]], np.uint8))
    assert pixels.decode(encode(picture, transparency=200)).tolist() == [[[0], [90]]]


def test_cmyk_becomes_rgb():
    cyan, black = (255, 0, 0, 0), (0, 0, 0, 255)
    picture = Image.new("CMYK", (16, 8), cyan)
    picture.paste(black, (8, 0, 16, 8))
    decoded = pixels.decode(encode(picture, "TIFF"))
    assert decoded[0, 0].tolist() == [0, 255, 255]
    assert decoded[0, 15].tolist() == [0, 0, 0]
    assert pixels.decode(encode(picture, "JPEG")).shape == (8, 16, 3)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(file_format):
    deep = np.array([[0, 128, 257, 32768, 65535]], np.uint16)
    assert pixels.decode(encode(Image.fromarray(deep), file_format))[..., 0].tolist() == [[0, 0, 1, 128, 255]]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bits_a_pixel_are_refused_because_nobody_says_what_is_white(dtype):
    data = encode(Image.fromarray(np.ones((4, 4), dtype)), "TIFF")
    with pytest.raises(pixels.ImageError, match=r"'deep.tif' has 32 bits a pixel.*expected 8 or 16 bits"):
        pixels.decode(data, "deep.tif")


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "JPEG"])
@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda image: image),
        (2, lambda image: image[:, ::-1]),
        (3, lambda image: image[::-1, ::-1]),
        (4, lambda image: image[::-1]),
        (5, lambda image: image.swapaxes(0, 1)),
        (6, lambda image: np.rot90(image, -1)),
        (7, lambda image: image[::-1, ::-1].swapaxes(0, 1)),
        (8, lambda image: np.rot90(image, 1)),
    ],
)
def test_the_exif_orientation_is_applied_once(file_format, orientation, turn):
    blocks = np.kron(np.array([[0, 80, 160], [240, 40, 120]], np.uint8), np.ones((16, 16), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = pixels.decode(encode(Image.fromarray(blocks), file_format, exif=exif))[..., 0]
    expected = turn(blocks)
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(int) - expected).max() <= 4


@pytest.mark.parametrize("place", ["eXIf", "Raw profile type exif", "exif"])
def test_the_orientation_of_a_png_is_found_wherever_it_stands(place):
    exif = Image.Exif()
    exif[0x0112] = 8
    block = exif.tobytes()
    image = Image.fromarray(RGB)
    if place == "eXIf":
        data = encode(image, exif=block)
    else:
        text = PngImagePlugin.PngInfo()
        text.add_text(place, block if place == "exif" else f"\nexif\n{len(block):8}\n{block.hex()}\n")
        data = encode(image, pnginfo=text)
    np.testing.assert_array_equal(pixels.decode(data), np.rot90(RGB, 1))


def test_the_rest_of_the_metadata_is_not_written_anew(monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 3

    def refuse(*_: object) -> None:
        raise AssertionError

    files = [encode(Image.fromarray(RGB), form, exif=exif) for form in ("PNG", "WEBP", "JPEG")]
    monkeypatch.setattr(Image.Exif, "tobytes", refuse)
    for data in files:
        assert np.abs(pixels.decode(data).astype(int) - RGB[::-1, ::-1]).mean() < 60


def test_a_sentence_never_holds_the_file():
    for kind, data in ((7, bytes(100_000)), (2, b"a" * 100_000)):
        for tag in (258, 259, 262):
            with pytest.raises(pixels.ImageError) as error:
                pixels.decode(tiff((tag, kind, len(data), data)))
            assert len(str(error.value)) < 500


def test_16_bit_grey_can_be_rotated_too():
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = np.array([[0, 65535, 32768]], np.uint16)
    assert pixels.decode(encode(Image.fromarray(deep), exif=exif)).tolist() == [[[0]], [[255]], [[128]]]


def test_of_an_animation_the_first_frame_counts():
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
    decoded = pixels.decode(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert (decoded == [255, 0, 0]).all()


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
def test_a_truncated_image_is_refused_by_name(file_format):
    data = encode(Image.fromarray(RGB), file_format)
    with pytest.raises(pixels.ImageError, match=r"'half' (is damaged or cut short|is no image).*expected"):
        pixels.decode(data[: len(data) // 2], "half")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "PPM", "BMP"])
def test_damaged_bytes_give_pixels_or_an_image_error_but_nothing_else(file_format):
    generator = np.random.default_rng(7)
    sound = np.frombuffer(encode(Image.fromarray(RGB), file_format), np.uint8)
    for _ in range(60):
        damaged = sound.copy()
        damaged[generator.integers(8, min(len(sound), 200), 6)] = generator.integers(0, 256, 6)
        try:
            decoded = pixels.decode(damaged.tobytes(), max_pixels=10_000)
        except pixels.ImageError:
            continue
        pixels.check_image(decoded, "what was decoded")


def test_what_is_no_image_is_refused(tmp_path):
    path = tmp_path / "notes.png"
    path.write_text("not an image at all")
    with pytest.raises(pixels.ImageError, match=r"notes\.png' is no image that can be read, .*; expected a PNG, JPEG"):
        pixels.decode(path)


def test_a_format_outside_the_allow_list_is_refused():
    with pytest.raises(pixels.ImageError, match=r"is no image that can be read, .*; expected a PNG, JPEG"):
        pixels.decode(encode(Image.fromarray(RGB), "ICO"))


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "nothing.png"
    path.touch()
    with pytest.raises(pixels.ImageError, match=r"nothing\.png' is empty \(0 bytes\); copy or download it again"):
        pixels.decode(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(pixels.ImageError, match=r"there is no image file '.*gone\.png'; check the path"):
        pixels.decode(tmp_path / "gone.png")


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(pixels.ImageError, match=r"got the directory '.*'; pass the images inside it one by one"):
        pixels.decode(tmp_path)


def test_what_is_no_regular_file_is_refused():
    with pytest.raises(pixels.ImageError, match="'/dev/null' is no regular file"):
        pixels.decode("/dev/null")


def test_the_errors_use_the_name_given():
    with pytest.raises(pixels.ImageError, match=r"'upload 3' is no image"):
        pixels.decode(b"x", "upload 3")


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds almost nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_000, 12_000, 60_000])
def test_a_decompression_bomb_is_refused_from_its_header(side):
    with pytest.raises(pixels.ImageError, match=r"'bomb' announces .*more .*pixels than|'bomb' .* more than the"):
        pixels.decode(png_header(side, side), "bomb")


def test_the_pixel_limit_is_the_callers():
    data = encode(Image.fromarray(RGB))
    np.testing.assert_array_equal(pixels.decode(data, max_pixels=240), RGB)
    with pytest.raises(
        pixels.ImageError, match="announces 20 x 12 pixels, more than the 239 allowed; scale it down or"
    ):
        pixels.decode(data, max_pixels=239)


def test_an_image_of_the_canvas_size_keeps_its_pixels():
    np.testing.assert_array_equal(pixels.fit(RGB, 12, 20, 3), RGB)
    np.testing.assert_array_equal(pixels.fit(GREY, 12, 20, 1), GREY)


def test_fitting_keeps_proportions_and_centres_on_black():
    white = np.full((10, 30, 1), 255, np.uint8)
    fitted = pixels.fit(white, 60, 60, 1)
    assert (fitted[20:40] == 255).all()
    assert not fitted[:20].any()
    assert not fitted[40:].any()
    assert pixels.placement(10, 30, 60, 60) == (0, 20, 60, 20)


def test_a_tall_image_gets_black_at_its_sides():
    fitted = pixels.fit(np.full((400, 100, 3), 90, np.uint8), 28, 28, 3)
    columns = fitted.any(axis=(0, 2))
    assert columns.tolist() == [False] * 10 + [True] * 7 + [False] * 11
    assert set(np.unique(fitted)) == {0, 90}


def test_scaling_down_averages_where_dropping_pixels_would_not():
    stripes = np.zeros((64, 64, 1), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(pixels.fit(stripes, 8, 8, 1).astype(int) - 127).max() <= 16


def test_scaling_up_is_smooth():
    edge = np.array([[[0], [255]]], np.uint8)
    row = pixels.fit(edge, 8, 16, 1)[4, :, 0].astype(int)
    assert (np.diff(row) >= 0).all()
    assert len(set(row.tolist())) > 4


@pytest.mark.parametrize("shape", [(1, 4000), (4000, 1), (1, 1), (3, 5)])
def test_any_proportions_leave_something_to_see(shape):
    fitted = pixels.fit(np.full((*shape, 1), 255, np.uint8), 28, 40, 3)
    assert fitted.shape == (28, 40, 3)
    assert (fitted == 255).any()


def test_channels_are_converted():
    np.testing.assert_array_equal(pixels.fit(GREY, 12, 20, 3), GREY.repeat(3, axis=2))
    luma = RGB @ [0.299, 0.587, 0.114]
    assert np.abs(pixels.fit(RGB, 12, 20, 1)[..., 0] - luma).max() <= 1


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        ([[1]], "got list; decode a file"),
        (RGB / 255, r"got float64 \(12, 20, 3\); scale values to 0\.\.255"),
        (RGB[..., 0], r"got shape \(12, 20\); a grey image needs a last axis of 1"),
        (np.zeros((4, 4, 4), np.uint8), r"got shape \(4, 4, 4\); .* alpha must be composited"),
        (np.zeros((0, 4, 3), np.uint8), r"got shape \(0, 4, 3\); it has no pixels"),
    ],
)
def test_what_is_no_image_array_is_refused(image, sentence):
    with pytest.raises(pixels.ImageError, match=r"expected it as a uint8 array \(height, width, .*" + sentence):
        pixels.check_image(image, "it")


def test_an_impossible_canvas_is_refused():
    with pytest.raises(ValueError, match="1 or 3 channels; got height=28, width=28, channels=4"):
        pixels.fit(RGB, 28, 28, 4)
    with pytest.raises(ValueError, match="at least 1 x 1 pixels"):
        pixels.fit(RGB, 0, 28, 3)


def tiled(side: int, tile: int) -> bytes:
    """A grey TIFF of one tile, which may be far larger than the image."""
    packed = zlib.compress(bytes(min(tile * tile, 2**20)))
    tags = ((256, side), (257, side), (258, 8), (259, 8), (262, 1), (277, 1), (322, tile), (323, tile))
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in (*tags, (324, 8), (325, len(packed)))]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + directory


def test_a_tile_that_is_larger_than_its_image_counts_as_what_it_is():
    assert pixels.decode(tiled(100, 128)).shape == (100, 100, 1)
    with pytest.raises(pixels.TooManyPixelsError, match="announces 32768 x 32768 pixels"):
        pixels.decode(tiled(100, 32768))


@pytest.mark.parametrize(("mode", "bands"), [("RGBA", 4), ("LA", 2)])
def test_an_image_higher_than_a_strip_is_composited_all_over(mode, bands):
    layers = np.random.default_rng(1).integers(0, 256, (2 * pixels.STRIP + 7, 5, bands)).astype(np.uint16)
    expected = (layers[..., :-1] * layers[..., -1:] + 127) // 255
    decoded = pixels.decode(encode(Image.fromarray(layers.astype(np.uint8), mode)))
    np.testing.assert_array_equal(decoded, expected)


def test_an_image_of_16_bits_higher_than_a_strip_is_scaled_all_over():
    wide = np.random.default_rng(1).integers(0, 65536, (2 * pixels.STRIP + 7, 5)).astype(np.uint16)
    decoded = pixels.decode(encode(Image.fromarray(wide)))
    np.testing.assert_array_equal(decoded[..., 0], np.rint(wide / 257))


@pytest.mark.parametrize("shape", [(10, 40, 3), (40, 10, 1), (5, 5, 3), (300, 7, 3)])
def test_a_squashed_image_covers_its_canvas(shape):
    image = np.full(shape, 9, np.uint8)
    image[:, shape[1] // 2 :] = 200
    squashed = pixels.fit(image, 30, 20, 3, "squash")
    assert squashed.shape == (30, 20, 3)
    assert squashed.min() == 9
    assert (squashed[:, -5:] == 200).all()
    assert pixels.placement(shape[0], shape[1], 30, 20, "squash") == (0, 0, 20, 30)


def test_an_unknown_size_policy_is_refused():
    with pytest.raises(ValueError, match=r"expected a size policy out of \('fit', 'squash'\), got 'crop'; choose one"):
        pixels.fit(np.zeros((4, 4, 1), np.uint8), 8, 8, 1, "crop")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM"])
def test_the_size_is_read_from_the_header(tmp_path, file_format):
    path = tmp_path / "image"
    path.write_bytes(encode(Image.new("RGB", (30, 20)), file_format))
    assert pixels.upright_size(path) == (20, 30)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_upright_image(tmp_path, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / "image.jpg"
    path.write_bytes(encode(Image.new("RGB", (30, 20)), "JPEG", exif=exif))
    assert pixels.upright_size(path) == pixels.decode(path).shape[:2]


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n"])
def test_a_header_that_can_not_be_read_is_an_image_error(tmp_path, content):
    (tmp_path / "image").write_bytes(content)
    with pytest.raises(pixels.ImageError, match=r"the header of the image '.*image' can't be read"):
        pixels.upright_size(tmp_path / "image")
