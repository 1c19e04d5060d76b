"""The description as a page for people: one HTML file without scripts, that loads nothing from anywhere."""

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
"""Elements of a list of numbers that an example shows."""
_MISSING = "may be missing"


def page(description: Mapping[str, Any], served: Sequence[LoadedModel], address: str, wants_key: bool) -> str:
    """Write the page.

    Args:
        description: In OpenAPI.
        served: The models.
        address: Of the service, as its reader reaches it.
        wants_key: Whether requests need an API key.
    """
    info, schemas = description["info"], description["components"]["schemas"]
    tags = [(tag, list(_of_tag(description, tag["name"]))) for tag in description["tags"]]
    parts = "".join(
        f'<h2 id="{_anchor(tag["name"])}">{_escape(tag["name"])}</h2>{_prose(tag["description"])}'
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
<nav aria-label="Contents"><a class="brand" href="#top">{_LOGO}{_escape(info["title"])}</a>{_contents(tags)}</nav>
<main id="top">
<h1>{_escape(info["title"])}<small>version {_escape(info["version"])}</small></h1>
<p class="lead">{_escape(info["summary"])}</p>
{_seen()}
<h2 id="start">Try it</h2>
<p>Paste this into a shell. It makes a small picture and asks what it shows.</p>
<pre><code>{_escape(examples.curl(address, wants_key))}</code></pre>
<p>The same in Python, with the standard library alone.</p>
<pre><code>{_escape(examples.python(address, wants_key))}</code></pre>
{_by_triton(served, address, wants_key)}
<h2 id="models">Models</h2>
{_models(served)}
<h2 id="rules">Rules</h2>
{_prose(info["description"])}
{parts}
<h2 id="schemas">Forms</h2>
<p>What requests and answers are made of.</p>
{"".join(_schema(name, schema) for name, schema in sorted(schemas.items()))}
<footer>Made by the service from its own <a href="/openapi.json">OpenAPI description</a>. The answers are those that
<code>{_escape(examples.MODEL)}</code> gave.</footer>
</main>
</div>
</body>
</html>
"""


def _of_tag(description: Mapping[str, Any], tag: str) -> Iterable[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"]:
                yield method, path, operation


def _contents(tags: Iterable[tuple[Mapping[str, Any], list[tuple[str, str, Mapping[str, Any]]]]]) -> str:
    found = '<a href="#start">Try it</a><a href="#models">Models</a><a href="#rules">Rules</a>'
    for tag, operations in tags:
        links = "".join(
            f'<a href="#{_escape(operation["operationId"])}">{_inline(operation["summary"])}</a>'
            for _, _, operation in operations
        )
        found += f"<b>{_escape(tag['name'])}</b>{links}"
    return f'{found}<b>Reference</b><a href="#schemas">Forms</a><a href="/openapi.json">openapi.json</a>'


def _seen() -> str:
    """The picture that came with an example's answer."""
    said = examples.answers()["explained"]
    return (
        f'<div class="seen"><img alt="Where the model looked at a picture of a seven" src="{_escape(said["picture"])}">'
        f"<p>An answer comes with the way that led to it: here <code>{_escape(examples.MODEL)}</code> says "
        f"<b>{_escape(said['class'])}</b> with a confidence of {said['confidence']:.2%}, after "
        f"{len(said['glimpses'])} glimpses.</p></div>"
    )


def _models(served: Sequence[LoadedModel]) -> str:
    rows = "".join(
        f"<tr><td><code>{_escape(entry.model.name)}</code></td><td>{entry.model.version}</td>"
        f"<td>{_escape(card.model)}, {card.channels} x {card.height} x {card.width}, {card.num_glimpses} glimpses</td>"
        f"<td>{_escape(', '.join(card.classes[:10]))}{' ...' * (len(card.classes) > 10)}</td>"
        f"<td>{_escape(card.data)}</td></tr>"
        for entry in served
        for card in (entry.model.card,)
    )
    if not rows:
        return "<p>None is served at present.</p>"
    head = "<tr><th>Name</th><th>Version</th><th>Kind</th><th>Classes</th><th>Trained on</th></tr>"
    said = "<p>Served now; the first is asked unless a request names another.</p>"
    return f'{said}<div class="wide"><table>{head}{rows}</table></div>'


def _by_triton(served: Sequence[LoadedModel], address: str, wants_key: bool) -> str:
    model = next((entry.model for entry in served if entry.model.card.graph != "step"), None)
    if model is None:
        return ""
    return (
        "<p>Tensors, by any client of the Open Inference Protocol, such as NVIDIA's.</p>"
        f"<pre><code>{_escape(examples.triton(address, wants_key, model.name))}</code></pre>"
    )


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parts = [_prose(operation.get("description", ""))]
    if operation["parameters"]:
        rows = "".join(
            f"<tr><td><code>{_escape(each['name'])}</code><span class='range'>{_escape(each['in'])}"
            f"{', required' * each.get('required', False)}</span></td>"
            f"<td>{_inline(each['description'])}<span class='range'>{_range(each['schema'])}</span></td></tr>"
            for each in operation["parameters"]
        )
        parts.append(f"<h3>Parameters</h3><table class='names'>{rows}</table>")
    if "requestBody" in operation:
        parts.append(f"<h3>Body</h3>{_contents_of(operation['requestBody']['content'])}")
    rows = "".join(
        f'<tr><td><span class="{"good" if status < "4" else "bad"}">{status}</span></td>'
        f"<td>{_inline(answer['description'])}{_contents_of(answer.get('content', {}), status < '4')}</td></tr>"
        for status, answer in operation["responses"].items()
    )
    parts.append(f"<h3>Answers</h3><table class='statuses'>{rows}</table>")
    key = "<p>Needs an API key.</p>" if operation["security"] else ""
    opened = " open" if operation["operationId"] in ("classify", "infer") else ""
    return (
        f'<details class="operation" id="{_escape(operation["operationId"])}"{opened}><summary>'
        f'<span class="method {method}">{method.upper()}</span><span class="path">{_escape(path)}</span>'
        f'<span class="what">{_inline(operation["summary"])}</span></summary><div>{key}{"".join(parts)}</div></details>'
    )


def _contents_of(content: Mapping[str, Any], named: bool = True) -> str:
    """Media types, forms and examples of a body."""
    kinds = ", ".join(f"<code>{_escape(kind)}</code>{_form(each['schema'])}" for kind, each in content.items())
    found = f"<span class='range'>{kinds}</span>" if named else ""
    for each in content.values():
        for name, example in each.get("examples", {}).items():
            summary = example.get("summary", "Example" if name != "refused" else "Such as")
            found += (
                f'<details class="example"><summary>{_escape(summary[:1].upper() + summary[1:])}</summary>'
                f"<pre><code>{_coloured(example['value'])}</code></pre></details>"
            )
    return found


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    listed = schema.get("items", {}) if schema.get("type") == "array" else schema
    required = listed.get("required", ())
    rows = "".join(
        f"<tr><td><code>{_escape(entry)}</code><span class='range'>{_MISSING * (entry not in required)}</span></td>"
        f"<td>{_inline(each.get('description', ''))}<span class='range'>{_range(each)}</span></td></tr>"
        for entry, each in listed.get("properties", {}).items()
    )
    return (
        f'<details class="operation" id="form-{_escape(name)}"><summary><span class="path">{_escape(name)}</span>'
        f'<span class="what">{_inline(schema.get("description", ""))}</span></summary>'
        f'<div><table class="names">{rows}</table></div></details>'
    )


def _form(schema: Mapping[str, Any]) -> str:
    """Links to the named forms of a schema."""
    names = [each["$ref"].rpartition("/")[2] for each in (schema, *schema.get("anyOf", ())) if "$ref" in each]
    return " " + " or ".join(f'<a href="#form-{name}">{name}</a>' for name in names) if names else ""


def _range(schema: Mapping[str, Any]) -> str:
    """The type of a value and its limits, in words."""
    if "const" in schema:
        return f"always {_escape(json.dumps(schema['const']))}"
    forms = _form(schema)
    if forms:
        return forms
    kind = schema.get("type", "")
    said = [" or ".join(kind) if isinstance(kind, list) else str(kind)]
    if kind == "array" and (items := schema.get("items")):
        said = [f"list of {_range(items)}"]
    words = {
        "minimum": "from {}",
        "exclusiveMinimum": "above {}",
        "maximum": "up to {}",
        "minItems": "at least {} entries",
        "maxItems": "at most {} entries",
    }
    said += [words[name].format(f"{limit:,}") for name, limit in schema.items() if name in words]
    if "enum" in schema:
        said.append(f"one of {', '.join(f'<code>{_escape(str(value))}</code>' for value in schema['enum'])}")
    if "pattern" in schema:
        said.append(f"as <code>{_escape(schema['pattern'])}</code>")
    return ", ".join(filter(None, said))


def _coloured(value: Any) -> str:
    """JSON for people: long lists cut, and its parts in colours."""
    written = json.dumps(_shortened(value), indent=2, ensure_ascii=False)
    flat = re.sub(
        r"\[[^\[\]{}]*\]", lambda found: re.sub(r"\s+", " ", found[0]).replace("[ ", "[").replace(" ]", "]"), written
    )
    parts = re.split(r'("(?:[^"\\]|\\.)*"(?:\s*:)?|-?\d[\d.e+-]*)', flat)
    return "".join(_painted(part) if place % 2 else _escape(part) for place, part in enumerate(parts))


def _painted(part: str) -> str:
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


def _prose(words: str) -> str:
    return "".join(f"<p>{_inline(each)}</p>" for each in words.split("\n\n") if each)


def _inline(words: str) -> str:
    """Markdown's code, links and stress."""
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
