"""The documentation page: one HTML file without scripts and external resources."""

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from glimpse_serve.models.registry import LoadedModel
from glimpse_serve.openapi import examples

MAX_SHOWN = 8
"""Numbers of a list that an example shows, at most."""
_MISSING = "may be missing"
_PASTE = (
    "Paste this into a shell, beside an image <code>image.png</code>.",
    "Paste this into a shell. It writes a small image and classifies it.",
)
"""What the commands need, by whether the bundled models are served."""


def render_page(description: Mapping[str, Any], models: Sequence[LoadedModel], address: str, requires_key: bool) -> str:
    """Render the page.

    Args:
        description: The OpenAPI document.
        models: The served models.
        address: URL of the service, as the reader reaches it.
        requires_key: Whether requests need an API key.
    """
    info, schemas = description["info"], description["components"]["schemas"]
    prefix = description["servers"][0]["url"].rstrip("/")
    tags = [(tag, list(_operations_of(description, tag["name"]))) for tag in description["tags"]]
    bundled = examples.are_bundled(models)
    parts = "".join(
        f'<h2 id="{_anchor(tag["name"])}">{_escape(tag["name"])}</h2>{_paragraphs(tag["description"])}'
        + "".join(_operation(method, path, each) for method, path, each in operations)
        for tag, operations in tags
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_escape(info["title"])}: the interface</title>
<link rel="icon" href="data:,">
<style>{_style()}</style>
</head>
<body>
<div class="page">
<nav aria-label="Contents"><a class="brand" href="#top">{_LOGO}{_escape(info["title"])}</a>
{_contents(tags, prefix)}</nav>
<main id="top">
<h1>{_escape(info["title"])}<small>version {_escape(info["version"])}</small></h1>
<p class="lead">{_escape(info["summary"])}</p>
{_example_picture() if bundled else ""}
<h2 id="start">Try it</h2>
<p>{_PASTE[bundled]}</p>
<pre><code>{_escape(examples.curl(address, requires_key, bundled))}</code></pre>
<p>The same in Python, with the standard library alone.</p>
<pre><code>{_escape(examples.python(address, requires_key, bundled))}</code></pre>
{_by_triton(models, address, requires_key)}
<h2 id="models">Models</h2>
{_models(models)}
<h2 id="rules">Rules</h2>
{_paragraphs(info["description"])}
{parts}
<h2 id="schemas">Schemas</h2>
<p>The objects of requests and responses.</p>
{"".join(_schema(name, schema) for name, schema in sorted(schemas.items()))}
<footer>Generated from the <a href="{prefix}/openapi.json">OpenAPI document</a>.
{_recorded() if bundled else ""}</footer>
</main>
</div>
</body>
</html>
"""


def _operations_of(description: Mapping[str, Any], tag: str) -> Iterable[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"]:
                yield method, path, operation


def _contents(tags: Iterable[tuple[Mapping[str, Any], list[tuple[str, str, Mapping[str, Any]]]]], prefix: str) -> str:
    found = '<a href="#start">Try it</a><a href="#models">Models</a><a href="#rules">Rules</a>'
    for tag, operations in tags:
        links = "".join(
            f'<a href="#{_escape(operation["operationId"])}">{_inline(operation["summary"])}</a>'
            for _, _, operation in operations
        )
        found += f"<b>{_escape(tag['name'])}</b>{links}"
    return f'{found}<b>Reference</b><a href="#schemas">Schemas</a><a href="{prefix}/openapi.json">openapi.json</a>'


def _example_picture() -> str:
    """The picture of the example response with an explanation."""
    sample = examples.responses()["explained"]
    return (
        f'<div class="seen"><img alt="Where the model looked at a seven" src="{_escape(sample["picture"])}">'
        f"<p>A prediction comes with its glimpses: here <code>{_escape(examples.MODEL)}</code> predicts "
        f"<b>{_escape(sample['class'])}</b> with a confidence of {sample['confidence']:.2%}, after "
        f"{len(sample['glimpses'])} glimpses.</p></div>"
    )


def _recorded() -> str:
    return f" The responses are recorded ones of <code>{_escape(examples.MODEL)}</code>."


def _models(models: Sequence[LoadedModel]) -> str:
    rows = "".join(
        f"<tr><td><code>{_escape(loaded.model.name)}</code></td><td>{loaded.model.version}</td>"
        f"<td>{_escape(card.model)}, {card.channels} x {card.height} x {card.width}, {card.num_glimpses} glimpses</td>"
        f"<td>{_escape(', '.join(card.classes[:10]))}{' ...' * (len(card.classes) > 10)}</td>"
        f"<td>{_escape(card.data)}</td></tr>"
        for loaded in models
        for card in (loaded.model.card,)
    )
    if not rows:
        return "<p>No model is served at present.</p>"
    head = "<tr><th>Name</th><th>Version</th><th>Kind</th><th>Classes</th><th>Trained on</th></tr>"
    intro = "<p>Served now; the first is used unless a request names another.</p>"
    return f'{intro}<div class="wide"><table>{head}{rows}</table></div>'


def _by_triton(models: Sequence[LoadedModel], address: str, requires_key: bool) -> str:
    model = next((loaded.model for loaded in models if loaded.model.card.graph != "step"), None)
    if model is None:
        return ""
    return (
        "<p>Tensors, with any client of the Open Inference Protocol, such as NVIDIA's.</p>"
        f"<pre><code>{_escape(examples.triton(address, requires_key, model.name))}</code></pre>"
    )


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parts = [_paragraphs(operation.get("description", ""))]
    if operation["parameters"]:
        rows = "".join(
            f"<tr><td><code>{_escape(each['name'])}</code><span class='range'>{_escape(each['in'])}"
            f"{', required' * each.get('required', False)}</span></td>"
            f"<td>{_inline(each['description'])}<span class='range'>{_range(each['schema'])}</span></td></tr>"
            for each in operation["parameters"]
        )
        parts.append(f"<h3>Parameters</h3><table class='names'>{rows}</table>")
    if "requestBody" in operation:
        parts.append(f"<h3>Body</h3>{_media_types(operation['requestBody']['content'])}")
    rows = "".join(
        f'<tr><td><span class="{"good" if status < "4" else "bad"}">{status}</span></td>'
        f"<td>{_inline(response['description'])}{_media_types(response.get('content', {}), status < '4')}</td></tr>"
        for status, response in operation["responses"].items()
    )
    parts.append(f"<h3>Responses</h3><table class='statuses'>{rows}</table>")
    key = "<p>Needs an API key.</p>" if operation["security"] else ""
    opened = " open" if operation["operationId"] in ("classify", "infer") else ""
    return (
        f'<details class="operation" id="{_escape(operation["operationId"])}"{opened}><summary>'
        f'<span class="method {method}">{method.upper()}</span><span class="path">{_escape(path)}</span>'
        f'<span class="what">{_inline(operation["summary"])}</span></summary><div>{key}{"".join(parts)}</div></details>'
    )


def _media_types(content: Mapping[str, Any], named: bool = True) -> str:
    """Media types, schemas and examples of a body."""
    kinds = ", ".join(f"<code>{_escape(kind)}</code>{_schema_links(each['schema'])}" for kind, each in content.items())
    found = f"<span class='range'>{kinds}</span>" if named else ""
    for each in content.values():
        for name, example in each.get("examples", {}).items():
            summary = example.get("summary", "Example" if name != "refused" else "Such as")
            found += (
                f'<details class="example"><summary>{_escape(summary[:1].upper() + summary[1:])}</summary>'
                f"<pre><code>{_highlighted(example['value'])}</code></pre></details>"
            )
    return found


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    item = schema.get("items", {}) if schema.get("type") == "array" else schema
    required = item.get("required", ())
    rows = "".join(
        f"<tr><td><code>{_escape(field)}</code><span class='range'>{_MISSING * (field not in required)}</span></td>"
        f"<td>{_inline(each.get('description', ''))}<span class='range'>{_range(each)}</span></td></tr>"
        for field, each in item.get("properties", {}).items()
    )
    return (
        f'<details class="operation" id="form-{_escape(name)}"><summary><span class="path">{_escape(name)}</span>'
        f'<span class="what">{_inline(schema.get("description", ""))}</span></summary>'
        f'<div><table class="names">{rows}</table></div></details>'
    )


def _schema_links(schema: Mapping[str, Any]) -> str:
    """Links to the named schemas of a schema."""
    names = [each["$ref"].rpartition("/")[2] for each in (schema, *schema.get("anyOf", ())) if "$ref" in each]
    return " " + " or ".join(f'<a href="#form-{name}">{name}</a>' for name in names) if names else ""


def _range(schema: Mapping[str, Any]) -> str:
    """The type and the limits of a value, in words."""
    if "const" in schema:
        return f"always {_escape(json.dumps(schema['const']))}"
    links = _schema_links(schema)
    if links:
        return links
    kind = schema.get("type", "")
    parts = [" or ".join(kind) if isinstance(kind, list) else str(kind)]
    if kind == "array" and (items := schema.get("items")):
        parts = [f"list of {_range(items)}"]
    words = {
        "minimum": "from {}",
        "exclusiveMinimum": "above {}",
        "maximum": "up to {}",
        "minItems": "at least {} entries",
        "maxItems": "at most {} entries",
    }
    parts += [words[name].format(f"{limit:,}") for name, limit in schema.items() if name in words]
    if "enum" in schema:
        parts.append(f"one of {', '.join(f'<code>{_escape(str(value))}</code>' for value in schema['enum'])}")
    if "pattern" in schema:
        parts.append(f"as <code>{_escape(schema['pattern'])}</code>")
    return ", ".join(filter(None, parts))


def _highlighted(value: Any) -> str:
    """JSON with syntax highlighting, long lists cut."""
    written = json.dumps(_shortened(value), indent=2, ensure_ascii=False)
    flat = re.sub(
        r"\[[^\[\]{}]*\]", lambda found: re.sub(r"\s+", " ", found[0]).replace("[ ", "[").replace(" ]", "]"), written
    )
    parts = re.split(r'("(?:[^"\\]|\\.)*"(?:\s*:)?|-?\d[\d.e+-]*)', flat)
    return "".join(_highlight(part) if place % 2 else _escape(part) for place, part in enumerate(parts))


def _highlight(part: str) -> str:
    kind = "k" if part.endswith(":") else "s" if part.startswith('"') else "n"
    return f'<span class="{kind}">{_escape(part)}</span>'


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shortened(each) for name, each in value.items()}
    if isinstance(value, list):
        kept = [_shortened(each) for each in value[:MAX_SHOWN]]
        more = len(value) > MAX_SHOWN and not isinstance(value[0], dict)
        return [*kept, "..."] if more else [_shortened(each) for each in value]
    if isinstance(value, str) and len(value) > 200:
        return f"{value[:60]}..."
    return round(value, 6) if isinstance(value, float) else value


def _paragraphs(words: str) -> str:
    return "".join(f"<p>{_inline(each)}</p>" for each in words.split("\n\n") if each)


def _inline(words: str) -> str:
    """Markdown's code, links and strong emphasis as HTML."""
    coded = re.sub(r"`([^`]+)`", r"<code>\1</code>", _escape(words))
    coded = re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", coded)
    return re.sub(r"\[([^\]]+)\]\((https://[^)\s]+)\)", r'<a href="\2">\1</a>', coded)


def _anchor(name: str) -> str:
    return re.sub(r"\W+", "-", name.lower())


def _escape(words: object) -> str:
    return html.escape(str(words))


@cache
def _style() -> str:
    return resources.files("glimpse_serve.openapi").joinpath("page.css").read_text(encoding="utf-8")


_LOGO = (
    '<svg width="30" height="30" viewBox="0 0 30 30" fill="none" stroke="var(--accent)" aria-hidden="true">'
    '<rect x="1" y="1" width="28" height="28" rx="4" stroke-width="1.4" opacity=".45"/>'
    '<rect x="7" y="7" width="16" height="16" rx="3" stroke-width="1.8" opacity=".75"/>'
    '<rect x="11.5" y="11.5" width="7" height="7" rx="2" stroke-width="2.2"/></svg>'
)
