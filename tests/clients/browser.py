"""The page for trying a model, used in Chromium as people use it: python browser.py ARGUMENTS.

ARGUMENTS is JSON: the page's address, a key, the folder of images, the browser, and the folder for
pictures of the page.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import playwright
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Request, Route, expect, sync_playwright

NODE = Path(playwright.__file__).parent / "driver" / "node"
OPTIONS = [
    "--no-sandbox",  # it is root in containers
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]
ARRIVES = """([type, name, file, kind]) => {
    const bytes = Uint8Array.from(atob(file), (one) => one.charCodeAt(0));
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([bytes], name, { type: kind }));
    const event = new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true });
    document.querySelector("footer").dispatchEvent(event);
}"""
COPY_IMAGE = """async (file) => {
    const bytes = Uint8Array.from(atob(file), (one) => one.charCodeAt(0));
    const image = new Blob([bytes], { type: "image/png" });
    await navigator.clipboard.write([new ClipboardItem({ "image/png": image })]);
}"""
HIDE = """() => {
    Object.defineProperty(document, "hidden", { value: true, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


class Visit:
    """A page that is open, and what is known of the visit."""

    def __init__(self, page: Page, given: dict[str, Any]) -> None:
        self.page = page
        self.given = given
        self.images = Path(given["images"])
        self.failures: list[str] = []
        page.on("pageerror", lambda error: self.failures.append(str(error)))
        page.add_init_script(
            "addEventListener('securitypolicyviolation',"
            " (event) => console.error('policy: ' + event.violatedDirective))"
        )
        page.on("filechooser", lambda _chooser: None)  # from now on none opens outside the page
        page.on("console", lambda line: self._note(line.text))

    def _note(self, line: str) -> None:
        if "policy" in line.lower():
            self.failures.append(line)

    def base64(self, name: str) -> str:
        return (self.images / f"{name}.base64").read_text("ascii")

    def choose(self, *names: str) -> None:
        self.page.set_input_files("#files", [self.images / name for name in names])

    def expect_best(self, name: str, label: str) -> None:
        article = self.page.locator("article", has=self.page.get_by_role("heading", name=name))
        expect(article.locator(".best")).to_contain_text(label)

    def clear(self) -> None:
        self.page.get_by_role("button", name="Clear").click()
        expect(self.page.locator("article")).to_have_count(0)


def ask_for_the_key(visit: Visit) -> None:
    page = visit.page
    expect(page.locator("#key")).to_be_hidden()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "choose"
    visit.choose("red.png")
    expect(page.locator("article .problem")).to_contain_text("send a valid key")
    assert page.evaluate("document.activeElement.id") == "secret"
    page.keyboard.type("not-the-key")
    page.keyboard.press("Enter")
    expect(page.locator("#key")).to_be_visible()
    page.get_by_label("This service asks for an API key").fill(visit.given["key"])
    page.keyboard.press("Enter")
    visit.expect_best("red.png", "red")
    expect(page.locator("#key")).to_be_hidden()
    assert page.evaluate("localStorage.length + sessionStorage.length") == 0
    assert page.evaluate("document.cookie") == ""
    expect(page.locator("#model")).to_contain_text("knows 8 labels: red, green, blue")
    expect(page.locator("#status")).to_contain_text("red.png: red")
    visit.clear()


def choose_several(visit: Visit) -> None:
    page = visit.page
    visit.choose("red.png", "green.png", "blue's.png", "broken.png")
    for name, label in (("red.png", "red"), ("green.png", "green"), ("blue's.png", "blue")):
        visit.expect_best(name, label)
    names = page.locator("article h3").all_text_contents()
    assert names == ["red.png", "green.png", "blue's.png", "broken.png"]
    problem = page.locator("article .problem")
    expect(problem).to_contain_text("The image cannot be decoded: the PNG")
    expect(page.locator("#status")).to_contain_text("red.png: red, 68.4 %")
    expect(page.locator("#status")).to_contain_text("broken.png: The image cannot be decoded")
    first = page.locator("article").first
    assert first.locator("li .share").first.text_content() == "68.4 %"
    expect(first.get_by_text("64 in 100 were right (1,000 test images)")).to_be_visible()
    assert first.locator("li").count() == 5
    first.get_by_text("3 more labels").click()
    expect(first.locator("li")).to_have_count(8)
    expect(first.get_by_text("by tiny test-1")).to_be_visible()


def use_it_from_code(visit: Visit) -> None:
    """The programs that the page shows for an image, with the clipboard in between."""
    page = visit.page
    article = page.locator("article", has=page.get_by_role("heading", name="blue's.png"))
    article.get_by_text("Use it from code").click()
    interpreters = {"curl": ["sh", "-c"], "Python": [sys.executable, "-c"]}
    for title, interpreter in interpreters.items():
        article.get_by_role("button", name=f"Copy {title}").click()
        expect(page.locator("#status")).to_have_text("Copied.")
        assert "blue" in output_of(visit, [*interpreter, clipboard(page)]), title
    article.get_by_role("button", name="Copy JavaScript").click()
    script = visit.images / "program.mjs"
    script.write_text(clipboard(page), encoding="utf-8")
    assert "blue" in output_of(visit, [str(NODE), str(script)])
    article.get_by_text("JSON", exact=True).click()
    article.get_by_role("button", name="Copy JSON").click()
    assert json.loads(clipboard(page))["predictions"][0]["label"] == "blue"


def clipboard(page: Page) -> str:
    text: str = page.evaluate("navigator.clipboard.readText()")
    return text


def output_of(visit: Visit, command: list[str]) -> str:
    environ = {**os.environ, "API_KEY": visit.given["key"], "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        command, cwd=visit.images, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def words_of_a_curve(visit: Visit) -> None:
    """The bin of the very answer, its first where it is less sure than any; cards without one."""
    page = visit.page
    said = "([probability, card]) => meaning(probability, card)"
    card = page.evaluate("read(path('model'))")
    for probability, words in {
        0.2: "Of answers like this one, 64 in 100 were right (1,000 test images).",
        0.69: "Of answers like this one, 64 in 100 were right (1,000 test images).",
        0.7: "Of answers like this one, 80 in 100 were right (500 test images).",
        0.99: "Of answers like this one, more than 99 in 100 were right (500 test images).",
    }.items():
        assert page.evaluate(said, [probability, card]).startswith(words), probability
    del card["figures"]["reliability"]
    older = page.evaluate(said, [0.69, card])
    assert "about 69 in 100 were right on 2,000 test images" in older
    assert "give or take 1.0 points on average" in older
    assert page.evaluate(said, [0.69, {**card, "activation": "sigmoid"}]).startswith("Each label's")


def examples(visit: Visit) -> None:
    """Ten images of the model's own, by the keyboard; they come with the card, after the key."""
    page = visit.page
    group = page.get_by_role("group", name="test images")
    expect(group.get_by_role("button")).to_have_count(10)
    assert group.get_by_role("button").all_text_contents()[:4] == ["red", "green", "blue", "red"]
    expect(group.get_by_role("button", name="Test image: blue")).to_have_count(1)
    widths = group.locator("img").evaluate_all("(all) => all.map((one) => one.naturalWidth)")
    assert widths == [8] * 10
    page.get_by_role("button", name="Webcam").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    visit.expect_best("green-4.png", "green")
    expect(page.locator("#status")).to_contain_text("green-4.png: green")
    visit.clear()
    card = page.evaluate("read(path('model'))")
    del card["examples"]
    with answered(visit, "model", lambda _request: card):
        expect(group).to_be_hidden()
    page.evaluate("introduce()")
    expect(group).to_be_visible()


def another_version(visit: Visit) -> None:
    """What is chosen answers, and explains; what has answered before explains its own answer."""
    page = visit.page
    visit.choose("red.png")
    visit.expect_best("red.png", "red")
    choice = page.get_by_label("Model", exact=True)
    expect(choice).to_have_value('{"name":"","version":""}')
    (canary,) = [one for one in choice.inner_text().splitlines() if "canary" in one]
    choice.select_option(label=canary)
    expect(page.locator("#model")).to_contain_text("rouge")
    expect(page.locator("#examples")).to_be_hidden()
    visit.choose("green.png")
    visit.expect_best("green.png", "vert")
    for label in ("red", "vert"):
        page.locator("article").get_by_role("button", name=label).first.click()
        expect(page.get_by_label(f"Why {label}?")).to_be_visible()
    article = page.locator("article", has=page.get_by_role("heading", name="green.png"))
    expect(article).to_contain_text("/predict?version=2")
    choice.select_option(index=0)
    expect(page.locator("#examples")).to_be_visible()
    visit.clear()


def many(visit: Visit) -> None:
    visit.clear()
    visit.choose(*["red.png"] * 8, "broken.png")
    status = visit.page.locator("#status")
    expect(status).to_have_text("9 images, 1 without an answer.")
    visit.clear()


def drop(visit: Visit) -> None:
    for event in ("dragover", "drop"):
        visit.page.evaluate(ARRIVES, [event, "dropped.png", visit.base64("green.png"), "image/png"])
    visit.expect_best("dropped.png", "green")


def paste(visit: Visit) -> None:
    """With the keyboard, and with the button for those who have none."""
    page = visit.page
    page.evaluate(COPY_IMAGE, visit.base64("red.png"))
    page.keyboard.press("Control+v")
    visit.expect_best("pasted-1.png", "red")
    page.get_by_role("button", name="Paste").click()
    visit.expect_best("pasted-2.png", "red")
    page.evaluate("navigator.clipboard.writeText('words')")
    page.keyboard.press("Control+v")
    expect(page.locator("#status")).to_have_text("There is no image in the clipboard.")
    visit.clear()


def webcam(visit: Visit) -> None:
    page = visit.page
    flight = Flight(page)
    page.get_by_role("button", name="Webcam").click()
    expect(page.locator("#live li")).to_have_count(5)
    while flight.sent < 5:
        page.wait_for_timeout(50)
    assert flight.most == 1
    page.get_by_role("button", name="Keep this picture").click()
    expect(page.locator("article h3")).to_have_text("webcam-3.jpg")
    expect(page.locator("article .best")).to_be_visible()
    track = page.evaluate_handle("document.getElementById('video').srcObject.getTracks()[0]")
    page.evaluate(HIDE)
    expect(page.locator("#webcam")).to_be_hidden()
    expect(page.locator("#status")).to_contain_text("the page was hidden")
    assert track.evaluate("(track) => track.readyState") == "ended"
    page.wait_for_timeout(200)
    sent = flight.sent
    page.wait_for_timeout(500)
    assert flight.sent == sent
    visit.clear()


class Flight:
    """How many predictions have been asked for, and how many at the same time."""

    def __init__(self, page: Page) -> None:
        self.now = self.most = self.sent = 0
        page.on("request", self._leaves)
        page.on("requestfinished", self._lands)

    def _leaves(self, request: Request) -> None:
        if request.url.endswith("/predict"):
            self.sent += 1
            self.now += 1
            self.most = max(self.most, self.now)

    def _lands(self, request: Request) -> None:
        self.now -= request.url.endswith("/predict")


def explain(visit: Visit) -> None:
    page = visit.page
    visit.choose("green.png")
    page.locator("article").get_by_role("button", name="green").click()
    expect(page.get_by_label("Why green?")).to_be_visible()
    size = "(one) => [one.width, one.height]"
    assert page.locator("article canvas").evaluate(size) == [8, 8]
    visit.clear()


def why(visit: Visit) -> None:
    """The colours and the place of a map that is known."""
    page = visit.page
    row = [0.0, 0.5, -1.0, 0.25]
    importance = {"height": 2, "width": 4, "values": [row, row]}
    versions = iter(["test-1", "test-2", "test-1"])

    def explanation(_request: Request) -> object:
        return {"model": {"name": "tiny", "version": next(versions)}, "importance": importance}

    with answered(visit, "explain", explanation):
        visit.choose("red.png")
        article = page.locator("article")
        article.get_by_role("button", name="green").click()
        slider = page.get_by_label("Why green?")
        expect(slider).to_be_visible()
        canvas = page.locator("article canvas")
        assert canvas.evaluate("(one) => [one.width, one.height]") == [4, 2]
        colours = "(one) => [...one.getContext('2d').getImageData(1, 0, 2, 1).data]"
        assert canvas.evaluate(colours)[3::4] == [128, 255]
        left, width = canvas.evaluate("({ style }) => [style.left, style.width].map(parseFloat)")
        assert (round(left, 1), round(width, 1)) == (16.7, 66.7)  # the square that the model sees
        slider.fill("20")
        assert canvas.evaluate("(one) => one.style.opacity") == "0.2"
        article.get_by_role("button", name="green").click()
        expect(canvas).to_be_hidden()
        red = article.get_by_role("button", name="red")
        red.click()
        expect(article).to_contain_text("Another model answers by now")
        red.click()
        red.click()
        expect(page.get_by_label("Why red?")).to_be_visible()


def strange(visit: Visit) -> None:
    ranked = [{"label": "red", "probability": 0.96}, {"label": "green", "probability": 0.04}]
    model = {"name": "tiny", "version": "test-1"}
    answer = {"model": model, "predictions": ranked, "familiarity": 0.004, "unfamiliar": True}
    with answered(visit, "predict", lambda _request: answer):
        visit.choose("blue's.png")
        article = visit.page.locator("article").first
        expect(article.locator(".unfamiliar")).to_contain_text("unlike anything")
        expect(article.locator(".unfamiliar")).to_contain_text("about 4 would look as strange")
        assert "in 100 were right" not in (article.text_content() or "")


@contextmanager
def answered(visit: Visit, path: str, answer: Callable[[Request], object]) -> Iterator[None]:
    """Answer a route in the service's place; the page is told anew that there is one."""
    pattern = f"**/{path}*"

    def fulfil(route: Route) -> None:
        if route.request.method == "OPTIONS":
            route.fulfill(status=200)
        else:
            route.fulfill(json=answer(route.request))

    visit.page.route(pattern, fulfil)
    visit.page.evaluate("introduce()")
    yield
    visit.page.unroute(pattern)


def look(visit: Visit) -> None:
    """Light, dark and narrow: accessible, and nothing is cut off."""
    page, pictures = visit.page, Path(visit.given["pictures"])
    page.locator("summary").evaluate_all("(all) => all.forEach((one) => one.click())")
    looks: list[tuple[str, Any, int]] = [
        ("light", "light", 1280),
        ("dark", "dark", 1280),
        ("narrow", "light", 360),
    ]
    for name, scheme, width in looks:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.set_viewport_size({"width": width, "height": 800})
        page.screenshot(path=pictures / f"{name}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        transition = "getComputedStyle(document.querySelector('.bar')).transitionDuration"
        assert page.evaluate(transition) == "0s"
        found = Axe().run(page).response["violations"]
        told = [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]
        assert not told, (name, told)


def keyboard(visit: Visit) -> None:
    page = visit.page
    assert page.evaluate("document.activeElement.id") == "choose"  # since all was cleared
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(visit.images / "red.png")
    visit.expect_best("red.png", "red")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "paste"
    visit.clear()


STEPS = (
    *(ask_for_the_key, keyboard, choose_several, words_of_a_curve, use_it_from_code),
    *(many, drop, paste, webcam, examples, another_version, explain, why, strange, look),
)


def main() -> None:
    given = json.loads(sys.argv[1])
    expect.set_options(timeout=20_000)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=given["chromium"], args=OPTIONS)
        permissions = ["clipboard-read", "clipboard-write", "camera"]
        context = browser.new_context(permissions=permissions, color_scheme="light")
        context.set_default_timeout(20_000)
        visit = Visit(context.new_page(), given)
        visit.page.goto(given["address"])
        for step in STEPS:
            step(visit)
            assert not visit.failures, (step.__name__, visit.failures)
        browser.close()


if __name__ == "__main__":
    main()
