"""The file in a real browser: the page of docs/deployment.md, onnxruntime-web, and the answers of onnxruntime."""

import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from PIL import Image

from glimpse.contract.card import CARD_KEY, ModelCard
from glimpse.contract.tensors import BOXES, GLIMPSES, INPUT, PROBABILITIES
from tests.support.chromium import Chromium

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = "onnxruntime-web@1.30.0"
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
TOLERANCE = 1e-4

pytestmark = pytest.mark.slow


def examples(language: str) -> list[str]:
    """The examples of the manual in a language."""
    text = (REPOSITORY / "docs" / "deployment.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of onnxruntime-web that a page needs."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm to get onnxruntime-web with")
    folder = tmp_path_factory.mktemp("package")
    command = [
        npm,
        "pack",
        PACKAGE,
        "--silent",
        "--ignore-scripts",
        "--fetch-retries=0",
        "--pack-destination",
        str(folder),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=180, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not bring {PACKAGE} within three minutes")
    archives = list(folder.glob("*.tgz"))
    if done.returncode or not archives:
        pytest.skip(f"npm can't get {PACKAGE} here")
    with tarfile.open(archives[0]) as archive:
        for name in FILES:
            content = archive.extractfile(f"package/dist/{name}")
            assert content is not None
            (folder / name).write_bytes(content.read())
    return folder


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and tells a browser what a module is whatever the machine's own table says."""

    extensions_map = {  # noqa: RUF012  # as the class it comes from has it
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # as the class it comes from has it
        pass


class Site(NamedTuple):
    """The page in a browser, and the file that it runs."""

    browser: Chromium
    folder: Path
    session: Any
    card: ModelCard
    images: npt.NDArray[np.uint8]
    """Real ones, (8, channels, height, width)."""

    def expect(self, images: npt.NDArray[Any], **options: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """What onnxruntime answers in Python, by name."""
        names = list(self.card.outputs)
        return dict(zip(names, self.session.run(names, {INPUT: images, **options}), strict=True))

    def look(self, images: npt.NDArray[Any], options: str = "{}") -> Any:
        """What the page answers, by name."""
        height, width = images.shape[2:]
        pixels = json.dumps(images.reshape(-1).tolist())
        return self.ask(f"look(Uint8Array.from({pixels}), {height}, {width}, {options})")

    def ask(self, expression: str) -> Any:
        told = (
            "Object.fromEntries(Object.entries(found).map(([name, tensor]) =>"
            " [name, { type: tensor.type, dims: tensor.dims, data: Array.from(tensor.data, Number) }]))"
        )
        self.browser.script("globalThis.told = undefined")
        self.browser.script(
            f"(async () => {{ const found = await {expression}; told = JSON.stringify({told}); }})()"
            ".catch((error) => { told = JSON.stringify({ error: String(error) }); })"
        )
        self.browser.until("globalThis.told !== undefined", 60)
        found = json.loads(self.browser.script("told"))
        if "error" in found:
            raise RuntimeError(found["error"])
        return {
            name: np.array(tensor["data"], tensor["type"]).reshape(tensor["dims"]) for name, tensor in found.items()
        }


def agree(got: dict[str, npt.NDArray[Any]], expected: dict[str, npt.NDArray[Any]]) -> None:
    assert got.keys() == expected.keys()
    for name, values in expected.items():
        assert got[name].dtype == values.dtype
        np.testing.assert_allclose(got[name], values, atol=TOLERANCE, rtol=TOLERANCE, err_msg=name)
    answers = got[PROBABILITIES][:, -1].argmax(1)
    assert answers.tolist() == expected[PROBABILITIES][:, -1].argmax(1).tolist()


@pytest.fixture(scope="module")
def site(package: Path, exported: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None or shutil.which("bash") is None:
        pytest.skip("there is no Chromium to try the page in")
    folder = tmp_path_factory.mktemp("site")
    for name in FILES:
        shutil.copyfile(package / name, folder / name)
    (page,) = examples("html")
    (folder / "index.html").write_text(page, encoding="utf-8")
    shutil.copyfile(exported.path, folder / "model.onnx")
    session = onnxruntime.InferenceSession(str(exported.path), providers=["CPUExecutionProvider"])
    card = ModelCard.from_json(session.get_modelmeta().custom_metadata_map[CARD_KEY])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        with Chromium(program, tmp_path_factory.mktemp("profile")) as browser:
            browser.ask("Page.navigate", url=f"http://127.0.0.1:{server.server_address[1]}/")
            browser.until("globalThis.look !== undefined", 60)
            yield Site(browser, folder, session, card, exported.images.numpy())
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_page_reads_the_card_out_of_the_file(site):
    assert json.loads(site.browser.script("JSON.stringify(card)")) == json.loads(site.card.to_json())


def test_a_batch_is_answered_as_in_python(site):
    expected = site.expect(site.images)
    agree(site.look(site.images), expected)
    assert expected[PROBABILITIES][:, -1].std(0).max() > 1e-3, "the answer should depend on the image"
    assert site.browser.complaints == []


def test_an_image_on_its_own_is_answered_as_in_python(site):
    for image in site.images[:, None]:
        agree(site.look(image), site.expect(image))


def test_images_of_other_sizes_are_too(site):
    if not site.card.any_size:
        pytest.skip("the model takes images of one size")
    for height, width in ((29, 71), (7, 5), (130, 40)):
        images = np.random.default_rng(1).integers(0, 256, (2, site.card.channels, height, width), np.uint8)
        agree(site.look(images), site.expect(images))


def test_somebody_chooses_a_picture(site, tmp_path):
    image = site.images[3].transpose(1, 2, 0)
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(tmp_path / "digit.png")
    browser = site.browser
    browser.ask("DOM.enable")
    root = browser.ask("DOM.getDocument")["root"]["nodeId"]
    chooser = browser.ask("DOM.querySelector", nodeId=root, selector="input")["nodeId"]
    browser.ask("DOM.setFileInputFiles", nodeId=chooser, files=[str(tmp_path / "digit.png")])
    browser.until("document.getElementById('answer').textContent !== ''")
    belief = site.expect(site.images[3:4])[PROBABILITIES][0, -1]
    answer = site.card.classes[belief.argmax()]
    said = browser.script("document.getElementById('answer').textContent")
    told = re.fullmatch(r"(.*) \((.*) %\)", said)
    assert told is not None
    assert told[1] == answer
    assert float(told[2]) == pytest.approx(100 * float(belief.max()), abs=0.06)
    assert browser.script("document.querySelector('canvas').width") == site.card.width
    if BOXES in site.card.outputs:
        red = "Array.from(document.querySelector('canvas').getContext('2d').getImageData(0, 0, {}, {}).data)"
        drawn = np.array(browser.script(red.format(site.card.width, site.card.height)))
        colours = drawn.reshape(site.card.height, site.card.width, 4).astype(int)
        left, top, right, bottom = site.expect(site.images[3:4])[BOXES][0, 0, 0].astype(int)
        assert (colours[top, left:right, 0] == 255).all()
        assert (colours[bottom - 1, left:right, 1] == 0).all()
    assert browser.complaints == []


def test_a_copy_without_defaults_stops_early(site):
    if site.card.graph != "adaptive":
        pytest.skip("the model does not stop early")
    *_, copy = examples("python")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n{copy}"],
        capture_output=True,
        text=True,
        cwd=site.folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with pytest.raises(RuntimeError, match="invalid input 'confidence'"):
        site.look(site.images, "{ confidence: 1 }")
    (options,) = examples("js")
    found = re.search(r"look\(pixels, height, width, (\{.*\})\);", options, re.DOTALL)
    assert found is not None
    site.browser.script(
        "(async () => { globalThis.ort = await import('./ort.wasm.min.mjs');"
        " globalThis.early = await ort.InferenceSession.create('browser.onnx', { executionProviders: ['wasm'] }); })()"
    )
    site.browser.until("globalThis.early !== undefined", 60)
    batch, channels, height, width = site.images.shape
    pixels = json.dumps(site.images.reshape(-1).tolist())
    confidence = float(np.median(site.expect(site.images)[PROBABILITIES][:, 0].max(1)))
    given = found[1].replace("[0.9]", f"[{confidence!r}]")
    images = f"new ort.Tensor('uint8', Uint8Array.from({pixels}), [{batch}, {channels}, {height}, {width}])"
    got = site.ask(f"early.run({{ images: {images}, ...{given} }})")
    expected = site.expect(site.images, confidence=np.array(confidence, np.float32))
    assert len(set(expected[GLIMPSES].tolist())) > 1, "some images should be told earlier than others"
    agree(got, expected)
