"""Every format, mode and depth: the pixels are right, or the file is refused by name."""

import io
import itertools
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glimpse.images import kinds, pixels
from tests.support.encoders import Samples, bmp, gif, packed, png, tiff

HEIGHT, WIDTH = 11, 19
EXACT, HIGH_BYTE, LAYERED = 0.501, 1.0, 2.2
"""Differences: of rounding, of 16-bit colours of which the higher byte counts, and of such ones with alpha."""
REFUSED = r"expected the image 'it' with 8 bits a sample, .*, got {}.*, which can't be read right; convert it"


def drawn(count: int, bits: int, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).integers(0, 2**bits, (HEIGHT, WIDTH, count))


def is_right(data: bytes, expected: Any, tolerance: float = EXACT) -> bool:
    """Whether a file is decoded to pixels, which must then be the expected ones; False when it is refused."""
    try:
        found = pixels.decode(data, "it")
    except pixels.ImageError:
        return False
    if found.shape[2] == 1 and expected.shape[2] == 3:
        assert (expected == expected[..., :1]).all()
    assert np.abs(found - expected).max() <= tolerance
    return True


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_png_grey_and_its_transparent_value(bits, interlaced):
    grey = drawn(1, bits)
    expected = grey / (2**bits - 1) * 255
    assert is_right(png(grey, bits, 0, interlaced=interlaced), expected)
    for key in {0, 1, 2**bits - 1, int(grey[4, 5, 0])}:
        data = png(grey, bits, 0, [(b"tRNS", struct.pack(">H", key))], interlaced)
        assert is_right(data, np.where(grey == key, 0, expected))


def test_a_transparent_value_of_16_bits_spares_its_neighbours_of_the_same_high_byte():
    grey = np.arange(0x4400, 0x4400 + 12).reshape(1, 12, 1)
    data = png(grey, 16, 0, [(b"tRNS", struct.pack(">H", 0x4407))])
    assert pixels.decode(data)[0, :, 0].tolist() == [68] * 7 + [0] + [68] * 4


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_png_palettes_and_the_alpha_of_their_entries(bits, interlaced):
    entries, colours, alpha = (
        drawn(1, bits),
        drawn(3, 8, 1).reshape(-1, 3)[: 2**bits],
        drawn(1, 8, 2).ravel()[: 2**bits],
    )
    colours, alpha = np.resize(colours, (2**bits, 3)), np.resize(alpha, 2**bits)
    palette, expected = (b"PLTE", bytes(colours.ravel().tolist())), colours[entries[..., 0]]
    assert is_right(png(entries, bits, 3, [palette], interlaced), expected)
    data = png(entries, bits, 3, [palette, (b"tRNS", bytes(alpha.tolist()))], interlaced)
    assert is_right(data, expected * (alpha[entries] / 255))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("bits", "tolerance"), [(8, EXACT), (16, LAYERED)])
@pytest.mark.parametrize("colour_type", [2, 4, 6])
def test_png_colours_and_alpha(colour_type, bits, tolerance, interlaced):
    samples = drawn({2: 3, 4: 2, 6: 4}[colour_type], bits)
    scaled = samples / (2**bits - 1) * 255
    if colour_type == 2:
        tolerance, expected = min(tolerance, HIGH_BYTE), scaled
    else:
        expected = scaled[..., :-1] * scaled[..., -1:] / 255
    data = png(samples, bits, colour_type, interlaced=interlaced)
    assert is_right(data, expected, tolerance)
    assert pixels.decode(data).shape[2] == expected.shape[2]


def test_png_with_a_transparent_colour():
    colours = drawn(3, 8)
    data = png(colours, 8, 2, [(b"tRNS", struct.pack(">3H", *colours[3, 4]))])
    assert is_right(data, np.where((colours == colours[3, 4]).all(-1, keepdims=True), 0, colours))
    deep = png(drawn(3, 16), 16, 2, [(b"tRNS", struct.pack(">3H", 1, 2, 3))])
    with pytest.raises(pixels.ImageError, match=REFUSED.format("a 16-bit RGB PNG in which one colour is transparent")):
        pixels.decode(deep, "it")


def test_the_significant_bits_that_a_png_names_change_nothing():
    grey = drawn(1, 8)
    assert is_right(png(grey, 8, 0, [(b"sBIT", b"\5")]), grey)


COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}
"""Samples of a pixel by the photometric interpretation, without the extra ones."""
READ = {*((grey, bits) for grey in (0, 1) for bits in (1, 2, 4, 8, 16)), *((3, bits) for bits in (1, 2, 4, 8))}
READ |= {(2, 8), (2, 16), (5, 8), (5, 16), (6, 8)}
"""Interpretations and bits that are read, in the plainest form at least."""


def tiff_pixels(samples: Samples, bits: int, photometric: int, extra: tuple[int, ...], palette: Any) -> Any:
    """What the samples of a TIFF mean (TIFF 6.0, sections 3 to 6, 16, 18, 21), composited on black."""
    parts = samples / (2**bits - 1)
    colours, alpha = parts[..., : COLOURS[photometric]], parts[..., COLOURS[photometric] :]
    if photometric == 0:
        colours = 1 - colours
    elif photometric == 3:
        colours = palette[samples[..., 0] % len(palette)] / 65535
    elif photometric == 5:
        colours = (1 - colours[..., :3]) * (1 - colours[..., 3:])
    elif photometric == 6:
        luma, blue, red = (colours[..., index] * 255 - (0, 128, 128)[index] for index in range(3))
        mixed = (luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue)
        colours = np.stack(mixed, axis=-1).clip(0, 255) / 255
    return 255 * (colours * alpha if 2 in extra else colours)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("photometric", COLOURS)
def test_every_tiff_is_right_or_refused(photometric, bits):
    palette = np.random.default_rng(3).integers(0, 256, (2 ** min(bits, 8), 3)) * 257
    tags = {3: [(320, "H", palette.T.ravel().tolist())], 6: [(530, "H", [1, 1])]}.get(photometric, [])
    read = []
    for extra in ((), (0,), (1,), (2,)):
        samples = drawn(COLOURS[photometric] + len(extra), bits)
        if extra == (1,):  # is multiplied already
            samples[..., :-1] = np.minimum(samples[..., :-1], samples[..., -1:])
        expected = tiff_pixels(samples, bits, photometric, extra, palette)
        forms = itertools.product("<>", (False, True), (1, 8, 32773), (1, 2), (None, (16, 16)), (False, True))
        for order, planar, compression, fill_order, tile, predictor in forms:
            if (predictor and (compression != 8 or bits < 8)) or (planar and samples.shape[2] == 1):
                continue
            form: dict[str, Any] = {"order": order, "planar": planar, "compression": compression}
            form |= {"fill_order": fill_order, "tile": tile, "predictor": predictor, "extra": extra, "tags": tags}
            tolerance = (
                LAYERED if bits == 16 and photometric in (2, 5) else EXACT + 0.5 * (extra == (1,) or photometric == 6)
            )
            if is_right(tiff(samples, bits, photometric, **form), expected, tolerance):
                read.append((extra, *form.values()))
    plain = ((), "<", False, 1, 1, None, False)
    assert (plain in [each[:7] for each in read]) == ((photometric, bits) in READ)


@pytest.mark.parametrize("compression", [1, 8])
def test_white_is_zero_in_16_bits_too(compression):
    deep = np.array([[[0], [32768], [65535]]])
    assert pixels.decode(tiff(deep, 16, 0, compression=compression))[0, :, 0].tolist() == [255, 127, 0]


@pytest.mark.parametrize(
    ("count", "bits", "photometric", "options", "kind"),
    [
        (3, 16, 2, {"planar": True}, "a 16-bit planar uncompressed RGB TIFF"),
        (4, 16, 5, {"planar": True}, "a 16-bit planar uncompressed CMYK TIFF"),
        (3, 8, 2, {"planar": True, "fill_order": 2}, "an 8-bit planar uncompressed RGB TIFF with its bits reversed"),
        (
            2,
            8,
            1,
            {"planar": True, "compression": 8, "extra": (2,)},
            "an 8-bit planar deflated grey TIFF with 1 further",
        ),
        (2, 8, 3, {"planar": True, "compression": 8, "extra": (2,)}, "an 8-bit planar deflated palette TIFF with 1"),
        (3, 32, 2, {}, "a 32-bit uncompressed RGB TIFF"),
        (1, 16, 0, {"order": ">"}, "a 16-bit uncompressed white-is-zero grey TIFF"),
        (3, 8, 8, {}, "an 8-bit uncompressed Lab TIFF"),
        (4, 8, 5, {"tags": [(332, "H", [2])]}, "an 8-bit uncompressed CMYK TIFF whose inks are others"),
        (3, 8, 6, {}, "an 8-bit uncompressed YCbCr TIFF"),
        (1, 8, 3, {"tags": [(320, "H", [7] * 768)]}, "a TIFF whose palette has numbers of 8 bits where 16 belong"),
    ],
)
def test_a_tiff_that_would_come_out_wrong_is_refused_by_name(count, bits, photometric, options, kind):
    if photometric == 3:
        options = {"tags": [(320, "H", [700] * 768)]} | options
    with pytest.raises(pixels.ImageError, match=REFUSED.format(kind)):
        pixels.decode(tiff(drawn(count, bits), bits, photometric, **options), "it")


@pytest.mark.parametrize(
    ("tag", "number", "kind"), [(339, 2, "an 8-bit signed"), (258, 12, "a 12-bit uncompressed grey")]
)
def test_signed_numbers_and_12_bits_are_refused(tag, number, kind):
    sound, entry = tiff(drawn(1, 8), 8, 1), struct.pack("<HHI", tag, 3, 1)
    place = sound.index(entry) + len(entry)
    with pytest.raises(pixels.ImageError, match=REFUSED.format(kind)):
        pixels.decode(sound[:place] + struct.pack("<H", number) + sound[place + 2 :], "it")


@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize(("orientation", "turns", "mirrored"), [(1, 0, 0), (2, 0, 1), (3, 2, 0), (6, -1, 0), (8, 1, 0)])
def test_the_orientation_of_a_tiff_is_applied(orientation, turns, mirrored, tile):
    colours = drawn(3, 8)
    expected = np.rot90(colours[:, ::-1] if mirrored else colours, turns)
    assert is_right(tiff(colours, 8, 2, tile=tile, tags=[(274, "H", [orientation])]), expected)


def test_what_is_no_tiff_has_no_kind():
    assert kinds.unreadable_tiff(io.BytesIO(b"")) is None
    assert kinds.unreadable_tiff(io.BytesIO(b"II*\0" + b"\xff" * 90)) is None


@pytest.mark.parametrize("header", [12, 40, 108, 124])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_bmp_palettes(bits, header):
    entries = drawn(1, bits)
    ramp = np.linspace(0, 255, 2**bits).round().astype(int)[:, None].repeat(3, axis=1)
    for palette in (np.random.default_rng(1).integers(0, 256, (2**bits, 3)), ramp, ramp[::-1]):
        for top_down in (False, True)[: 1 + (header > 12)]:
            data = bmp(entries, bits, header=header, palette=palette, top_down=top_down)
            assert is_right(data, palette[entries[..., 0]])


@pytest.mark.parametrize(("bits", "greys"), [(4, [0, 255]), (8, [0, 255]), (4, range(16))])
def test_a_bmp_whose_greys_hide_its_depth_is_refused(bits, greys):
    palette = np.array(greys)[:, None].repeat(3, axis=1)
    data = bmp(drawn(1, bits) % len(palette), bits, palette=palette)
    with pytest.raises(pixels.ImageError, match=REFUSED.format(f"a {bits}-bit BMP whose palette is a row of greys")):
        pixels.decode(data, "it")


@pytest.mark.parametrize("header", [40, 56, 108, 124])
@pytest.mark.parametrize(
    ("bits", "masks"),
    [
        (16, (0xF800, 0x7E0, 0x1F, 0)),
        (16, (0x7C00, 0x3E0, 0x1F, 0)),
        (16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
        (16, (0xF00, 0xF0, 0xF, 0xF000)),
        (24, (0xFF0000, 0xFF00, 0xFF, 0)),
        (32, (0xFF0000, 0xFF00, 0xFF, 0)),
        (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
        (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
        (32, (0x3FF00000, 0xFFC00, 0x3FF, 0)),
    ],
)
def test_bmp_bit_fields_are_right_or_refused(bits, masks, header):
    words = drawn(1, bits)

    def part(mask: int) -> Any:
        lowest = mask & -mask
        return (words & mask) // lowest / (mask // lowest) * 255

    expected = np.concatenate([part(mask) for mask in masks[:3]], axis=-1)
    has_alpha = masks[3] and header > 40
    if has_alpha:
        expected = expected * part(masks[3]) / 255
    data = bmp(words, bits, header=header, masks=masks[: 3 + (header > 40)])
    common = (bits, masks[0]) in [(16, 0xF800), (16, 0x7C00), (24, 0xFF0000), (32, 0xFF0000)]
    assert is_right(data, expected, HIGH_BYTE) or not common or (bits == 16 and has_alpha)


@pytest.mark.parametrize(
    ("form", "maxval"),
    [(1, 1), (4, 1), *((form, most) for form in (2, 3, 5, 6) for most in (1, 3, 100, 255, 256, 4095, 65535))],
)
def test_ppm(form, maxval):
    samples = np.random.default_rng(0).integers(0, maxval + 1, (HEIGHT, WIDTH, 3 if form in (3, 6) else 1))
    has_one_bit = form in (1, 4)
    head = f"P{form}\n# a comment\n{WIDTH} {HEIGHT}\n" + ("" if has_one_bit else f"{maxval}\n")
    plain = " ".join(map(str, samples.ravel().tolist())).encode() + b"\n"
    body = plain if form < 4 else packed(samples, 1 if form == 4 else 8 if maxval < 256 else 16)
    assert is_right(head.encode() + body, 255 - samples * 255.0 if has_one_bit else samples / maxval * 255)


@pytest.mark.parametrize("magic", [b"P0CMYK", b"PyCMYK", b"PyP", b"PyRGBA"])
def test_forms_of_ppm_that_only_pillow_knows_are_refused(magic):
    data = magic + f"\n{WIDTH} {HEIGHT}\n255\n".encode() + bytes(4 * WIDTH * HEIGHT)
    with pytest.raises(pixels.ImageError, match=REFUSED.format("a form of PPM that Pillow alone knows")):
        pixels.decode(data, "it")


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("transparent", [None, 3])
@pytest.mark.parametrize("background", [0, 7])
def test_a_first_frame_that_does_not_cover_the_screen_of_a_gif(background, transparent, local):
    frame, table, other = drawn(1, 8)[:6, :8, 0], drawn(3, 8, 1).reshape(-1, 3), drawn(3, 8, 2).reshape(-1, 3)
    table, other = np.resize(table, (256, 3)), np.resize(other, (256, 3))
    data = gif((HEIGHT, WIDTH), frame, (3, 2), table, background, transparent, other if local else None)
    expected = np.zeros((HEIGHT, WIDTH, 3)) + (table[background] if transparent is None else 0)
    colours = (other if local else table)[frame]
    expected[2:8, 3:11] = colours if transparent is None else np.where(frame[..., None] == transparent, 0, colours)
    assert is_right(data, expected) == (transparent is not None or (background, local) == (0, False))


def encoded(picture: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, **options)
    return stream.getvalue()


def test_inks_of_a_jpeg_are_inverted_where_it_says_so():
    inks = np.kron(
        np.array([[[255, 0, 0, 0], [0, 0, 255, 0]], [[0, 128, 0, 64], [0, 0, 0, 255]]], np.uint8),
        np.ones((16, 16, 1), np.uint8),
    )
    data = encoded(Image.fromarray(inks, "CMYK"), format="JPEG", quality=98, subsampling=0)
    parts = inks / 255
    assert is_right(data, 255 * (1 - parts[..., :3]) * (1 - parts[..., 3:]), 6)
    place = data.index(b"\xff\xee")
    length = 2 + struct.unpack(">H", data[place + 2 : place + 4])[0]
    with pytest.raises(pixels.ImageError, match=REFUSED.format("a CMYK JPEG that doesn't say whether its inks are")):
        pixels.decode(data[:place] + data[place + length :], "it")


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_lossless_webp(mode):
    layers = drawn(len(mode), 8).astype(np.uint8)
    data = encoded(Image.fromarray(layers, mode), format="WEBP", lossless=True, exact=True)
    assert is_right(data, layers[..., :3] * (layers[..., 3:] / 255 if mode == "RGBA" else 1.0))
