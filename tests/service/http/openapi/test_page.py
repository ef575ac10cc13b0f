"""The page that shows the description: whole, safe, and without anything from elsewhere."""

import base64
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from service.http.openapi.document import document
from service.http.openapi.page import content_security_policy, render
from service.settings import DEFAULT_MODEL, Settings
from tests.images import encode, photograph
from tests.server import start_server

ADDRESS = "http://127.0.0.1:8000"
DOCUMENT = document(Settings())
PAGE = render(DOCUMENT, ADDRESS)


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            yield path, operation


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
    assert f"curl '{ADDRESS}/model?version=1'" in lines
    (single,) = [line for line in lines if f"{ADDRESS}/predict?" in line]
    assert "--data-binary @cat.jpg" in single
    (batch,) = [line for line in lines if f"{ADDRESS}/predict/batch" in line]
    assert "-F images=@a.jpg" in batch


def test_each_line_with_curl_gets_its_answer(tmp_path: Path) -> None:
    """From the default model, as its reader would try it."""
    if shutil.which("curl") is None:
        pytest.skip("THE LINES WITH CURL ARE NOT TESTED: there is no curl")
    for name in ("cat.jpg", "a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(encode(photograph(1, 40, 60), "JPEG"))
    articles = r'<article id="([^"]+)">.*?<pre class="curl">(.*?)</pre>'
    lines = {name: unescape(line) for name, line in re.findall(articles, PAGE, re.DOTALL)}
    with start_server(DEFAULT_MODEL) as server:
        address = f"http://127.0.0.1:{server.port}"
        for path, operation in operations():
            line = lines[operation["operationId"].replace("_", "-")]
            words = shlex.split(line.replace(ADDRESS, address))
            told = subprocess.run(
                [*words, "--silent", "--output", "answer", "--write-out", "%{http_code}"],
                cwd=tmp_path,
                env={**os.environ, "NO_PROXY": "127.0.0.1"},
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
            answered = "200" if "200" in operation["responses"] else "400"
            assert told.stdout == ("404" if "{label}" in path else answered), line


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
