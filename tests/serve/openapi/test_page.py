"""The page for people."""

import html.parser
import re
from typing import Any

import pytest

from glimpse_serve.openapi.page import _highlighted
from glimpse_serve.settings import Settings
from tests.support.service import running, toy_files


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with running(Settings(models=toy_files(tmp_path_factory.mktemp("models")))) as made:
        yield made


@pytest.fixture(scope="module")
def written(service) -> str:
    render_page: str = service.request("GET", "/docs").body.decode()
    return render_page


class Reader(html.parser.HTMLParser):
    """Collects what a page holds, and sees that every element is ended in its turn."""

    EMPTY = frozenset(("meta", "link", "img", "rect"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.words = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_it_loads_nothing_and_runs_nothing(service, written):
    response = service.request("GET", "/docs")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "style-src 'unsafe-inline'" in policy
    for tag, attributes in Reader(written).tags:
        assert tag not in ("script", "iframe", "object", "form", "base")
        assert tag != "link" or attributes == {"rel": "icon", "href": "data:,"}
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("src", "data:image/png").startswith("data:image/png")
    assert "url(" not in written
    assert "@import" not in written


def test_every_link_leads_somewhere_and_every_name_is_there_once(written):
    tags = Reader(written).tags
    names = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(names) == len(set(names))
    links = [attributes["href"] for tag, attributes in tags if tag == "a"]
    assert len(links) > 30
    for link in links:
        assert link[1:] in names if link.startswith("#") else link.startswith(("https://", "/openapi.json"))


def test_it_shows_every_operation_with_its_statuses(service, written):
    words = Reader(written).words
    for path, methods in service.request("GET", "/openapi.json").json["paths"].items():
        assert path in words
        for operation in methods.values():
            assert operation["operationId"] in written
            assert operation["summary"].replace("`", "") in words


def test_it_lists_the_models_and_how_to_use_them(service, written):
    words = Reader(written).words
    assert "adaptive" in words
    assert "cat, dog, owl" in words
    assert f"{service.address}/v1/classify" in words
    assert "X-API-Key: $" not in words


@pytest.mark.parametrize("host", ["evil'; rm -rf / #", "a b", "<script>", "x" * 300, "a:b"])
def test_a_strange_host_does_not_get_into_the_commands(service, host):
    response = service.request("GET", "/docs", Host=host)
    assert response.status in (400, 421)
    assert "v1/classify" not in response.body.decode()


@pytest.mark.parametrize("host", ["app.localhost", "[::1]:8000", "10.0.0.1:80"])
def test_the_commands_use_the_host_of_the_request(service, host):
    assert f"http://{host}/v1/classify" in Reader(service.request("GET", "/docs", Host=host).body.decode()).words


def test_long_examples_are_cut_and_escaped():
    shown = _highlighted({"<b>": list(range(20)), "long": "x" * 300, "rows": [{"a": 1.23456789}] * 9})
    assert "<b>" not in shown
    words = re.sub("<[^>]+>", "", shown)
    assert "[0, 1, 2, 3, 4, 5, 6, 7, &quot;...&quot;]" in words
    assert "x" * 61 not in words
    assert words.count("1.234568") == 9
