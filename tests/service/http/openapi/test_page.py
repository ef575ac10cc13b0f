"""The page that shows the description: whole, safe, and without anything from elsewhere."""

import base64
import re
from hashlib import sha256
from html import unescape
from typing import Any

from service.http.openapi.document import document
from service.http.openapi.page import content_security_policy, render
from service.settings import Settings

ADDRESS = "http://127.0.0.1:8000"
DOCUMENT = document(Settings())
PAGE = render(DOCUMENT, ADDRESS)


def test_every_operation_status_parameter_and_field_is_there() -> None:
    text = unescape(re.sub(r"<[^>]+>", "", PAGE))
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            assert f"{method.upper()} {path}" in text
            beginning = f'<article id="{operation["operationId"].replace("_", "-")}">'
            section = PAGE.partition(beginning)[2].partition("</article>")[0]
            for status in operation["responses"]:
                assert f">{status}</" in section, (path, status)
    for schema in DOCUMENT["components"]["schemas"].values():
        for field in schema.get("properties", {}):
            assert f"<code>{field}</code>" in PAGE


def test_every_operation_has_its_line_with_curl() -> None:
    lines = [unescape(line) for line in re.findall(r'<pre class="curl">(.*?)</pre>', PAGE)]
    assert len(lines) == sum(map(len, DOCUMENT["paths"].values()))
    assert f"curl {ADDRESS}/model" in lines
    (single,) = [line for line in lines if "/predict?" in line]
    assert "--data-binary @cat.jpg" in single
    (batch,) = [line for line in lines if "/predict/batch" in line]
    assert "-F images=@a.jpg" in batch


def test_links_lead_somewhere() -> None:
    names = set(re.findall(r' id="([^"]+)"', PAGE))
    targets = set(re.findall(r'href="([^"]+)"', PAGE))
    assert {target[1:] for target in targets if target.startswith("#")} <= names
    assert {target for target in targets if not target.startswith("#")} == {"openapi.json"}


def test_its_style_is_all_that_a_browser_may_use() -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", PAGE, re.DOTALL)
    digest = base64.b64encode(sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in content_security_policy()
    assert content_security_policy().startswith("default-src 'none'")
    assert "prefers-color-scheme: dark" in style
    assert not re.search(r"<script|<img|<link|\bsrc=|\bstyle=|\bon\w+=|url\(|@import", PAGE)


def test_text_of_the_description_is_escaped() -> None:
    hostile = "</style><script>alert(1)</script>`<b>`&amp;"

    def poisoned(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {inner: poisoned(of, inner) for inner, of in value.items()}
        if isinstance(value, list):
            return [poisoned(inner) for inner in value]
        return hostile if name in ("description", "summary", "detail", "title") else value

    page = render(poisoned(DOCUMENT), "http://<b>")
    assert page.count("&lt;script&gt;") > 20
    assert "<script" not in page
    assert "<b>`" not in page
    assert "<code>&lt;b&gt;</code>" in page
