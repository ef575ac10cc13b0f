"""The pages as a browser gets them."""

import html.parser
import re
import subprocess
import sys
from pathlib import Path

import jinja2
import pytest
from PIL import Image

from service.inference.contract import ResizeRule
from tests.images import random_pixels
from tests.tiny_model import make_card, make_graph, write_model
from tests.training.conftest import TrainedModel, fill_folder
from tests.training.report.nets import colour_filters, write
from training.cli import main
from training.report import rendering, results

ROOT = Path(__file__).parents[3]
TIMES = "\N{MULTIPLICATION SIGN}"
HOSTILE = ("<script>alert(1)<|script>", "a\nb & \"c\" 'd' {0} %s $x^2$", "\u202eقطة" + "W" * 190)


class Seen(html.parser.HTMLParser):
    """Tags, addresses and text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def seen(path: Path) -> Seen:
    parser = Seen()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


def words_of(found: Seen) -> str:
    return " ".join(" ".join(found.text).split()).replace(TIMES, "x")


def require_self_contained(found: Seen) -> None:
    addresses = [v for name, v in found.attributes if name in ("src", "srcset", "href")]
    assert addresses
    assert all(re.match(r"data:image/png;base64,[\w+/=]+$|#[\w-]+$", x) for x in addresses)
    assert not {"script", "link", "iframe", "object", "base"} & set(found.tags)
    style = next(text for text in found.text if "color-scheme" in text)
    assert "url(" not in style
    assert "@import" not in style
    assert any("default-src 'none'" in v for name, v in found.attributes if name == "content")


def test_a_report_of_a_trained_model(trained_model: TrainedModel, tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    folder = fill_folder(tmp_path / "photos", images=3)

    assert (
        main(["report", *map(str, (trained_model.path, "--data", folder, "--output", output))]) == 0
    )

    found = seen(output)
    text = words_of(found)
    require_self_contained(found)
    for words in ("Over time", "loss at the end", "as often as promised", "Surest mistakes"):
        assert words in text
    for words in ("Important pixels", "convolution 4", "excites a filter", "32 filters of"):
        assert words in text
    assert "Measured on all 9 images of" in text
    assert str(tmp_path) not in output.read_text(encoding="utf-8")


def test_several_models_are_compared_image_by_image(tmp_path: Path) -> None:
    labels = ("red", "green", "blue")
    mine, other = tmp_path / "a" / "m.onnx", tmp_path / "b" / "m.onnx"
    for path in (mine, other):
        path.parent.mkdir()
    write(mine, colour_filters(), labels)
    write(other, colour_filters(), ("green", "red", "blue"))
    folder = fill_folder(tmp_path / "photos", images=4)
    output = tmp_path / "report.html"

    words = ["report", mine, other, "--data", folder, "--output", output]
    assert main([str(word) for word in words]) == 0

    found = seen(output)
    text = words_of(found)
    require_self_contained(found)
    assert "2 models on the same images" in text
    assert "only it is right" in text
    anchors = [value for name, value in found.attributes if name == "id"]
    assert len(anchors) == len(set(anchors)) == 9
    assert {"compared", "results-1", "results-2", "weights-2"} <= {*anchors}
    assert "from m.onnx , m.onnx alone" in text


def test_a_run_belongs_to_one_model(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *[str(tiny_model)] * 2, "--data", "x", "--run", "y"]) == 2

    assert "--run: with several models" in capsys.readouterr().err


def test_names_from_outside_stay_text(tmp_path: Path) -> None:
    labels = tuple(sorted(HOSTILE))
    model = write_model(tmp_path / "m.onnx", make_card(labels=labels), make_graph())
    for label in labels:
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(2):
            name = f"<img src=x onerror=alert({i})>.png"
            pixels = random_pixels(9, 9, 3, seed=i)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / name)
    output = tmp_path / "report.html"

    words = ["report", model, "--data", tmp_path / "photos", "--output", output]
    assert main([str(word) for word in words]) == 0

    found = seen(output)
    require_self_contained(found)
    assert not any(name.startswith("on") for name, _ in found.attributes)
    assert "<script>alert(1)<|script>" in found.text
    assert any("onerror=alert(1)>.png" in text for text in found.text)
    assert "a\N{REPLACEMENT CHARACTER}b & \"c\" 'd' {0} %s $x^2$" in found.text
    assert "No curves" in words_of(found)
    assert "no convolutions" in words_of(found)


def test_many_labels_are_folded_and_unreadable_files_are_named(tmp_path: Path) -> None:
    labels = tuple(f"label-{i:02d}" for i in range(results.TABLE_LABELS + 1))
    model = write_model(tmp_path / "m.onnx", make_card(labels=labels), make_graph(len(labels)))
    folder = fill_folder(tmp_path / "photos", images=1)
    for old, new in zip(("blue", "green", "red"), labels, strict=False):
        (folder / old).rename(folder / new)
    (folder / labels[0] / "broken.jpg").write_bytes(b"no image")
    output = tmp_path / "report.html"

    words = ["report", model, "--data", folder, "--output", output]
    assert main([str(word) for word in words]) == 0

    found = seen(output)
    text = words_of(found)
    require_self_contained(found)
    assert "All 26 labels" in text
    assert found.tags.count("details") == 1
    assert "Numbers as in the table of labels" in text
    assert "Unreadable and left out: 1 label-00/broken.jpg:" in text


def test_labels_that_stand_alone_are_judged_by_the_most_probable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = make_card(activation="sigmoid")
    model = write_model(tmp_path / "m.onnx", card, make_graph(activation="sigmoid"))
    folder = fill_folder(tmp_path / "photos", images=2)
    output = tmp_path / "report.html"

    assert main(["report", str(model), "--data", str(folder), "--output", str(output)]) == 0

    assert "activation sigmoid" in capsys.readouterr().err
    text = words_of(seen(output))
    assert "a probability that stands alone" in text
    assert "accuracy 100.0 %" in text
    assert "on its card - nothing was measured" in text


def test_a_value_that_a_template_lacks_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="pairs"):
        rendering.render("comparison.html", figures=[])


def test_the_same_files_give_the_same_page(tmp_path: Path) -> None:
    model = write(tmp_path / "m.onnx", colour_filters(), ("red", "green", "blue"))
    folder = fill_folder(tmp_path / "photos", images=2)
    pages = [tmp_path / name for name in ("one.html", "two.html")]

    for output in pages:
        words = ["report", model, "--data", folder, "--output", output]
        assert main([str(word) for word in words]) == 0

    assert pages[0].read_bytes() == pages[1].read_bytes()


@pytest.mark.parametrize(
    ("size", "resize", "seen_part"),
    [
        ((3, 400), "stretch", "the whole image"),
        ((50, 40), "crop", "its centre"),
        ((50, 40), "crop-0.875", "87.5 % of each side of its centre"),
    ],
)
def test_an_image_is_explained(
    tmp_path: Path, size: tuple[int, int], resize: ResizeRule, seen_part: str
) -> None:
    card = make_card(resize=resize)
    model = write_model(tmp_path / "m.onnx", card, colour_filters())
    image = tmp_path / "a&b.bmp"
    Image.fromarray(random_pixels(*size, 3)).save(image)
    output = tmp_path / "deep" / "explain.html"

    assert main(["explain", str(model), str(image), "--output", str(output)]) == 0

    found = seen(output)
    text = words_of(found)
    require_self_contained(found)
    assert "a&b.bmp" in found.text
    assert found.text.count("Why ") == 2
    assert f"As the model sees it: 8x8, {seen_part}" in text
    assert "excites a filter" in text


def test_a_model_with_an_uncommon_operator_is_explained(tmp_path: Path) -> None:
    graph = colour_filters()
    relu = next(node for node in graph.graph.node if node.op_type == "Relu")
    relu.op_type = "Sin"
    model = write(tmp_path / "m.onnx", graph, ("red", "green", "blue"))
    image = tmp_path / "x.png"
    Image.fromarray(random_pixels(9, 9, 3)).save(image)
    output = tmp_path / "explain.html"

    assert main(["explain", str(model), str(image), "--output", str(output)]) == 0

    text = words_of(seen(output))
    assert "With these pixels alone" in text
    assert "convolution 1: 3 maps of 6x6" in text


def test_neither_page_starts_tensorflow(tmp_path: Path) -> None:
    model = write(tmp_path / "m.onnx", colour_filters(), ("red", "green", "blue"))
    folder = fill_folder(tmp_path / "photos", images=2)
    code = (
        "import sys; from training.cli import main\n"
        "model, data, image, out = sys.argv[1:]\n"
        "assert main(['report', model, '--data', data, '--output', out]) == 0\n"
        "assert main(['explain', model, image, '--output', out]) == 0\n"
        "assert not {'tensorflow', 'keras', 'tf2onnx'} & set(sys.modules), 'TensorFlow'\n"
    )
    words = [model, folder, folder / "red" / "0000.jpg", tmp_path / "page.html"]

    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["report", "{model}", "--data", "{tmp}/nowhere"], "nowhere does not exist"),
        (["report", "{model}", "--data", "{tmp}/photos", "--run", "{tmp}/photos"], "log.csv"),
        (["report", "{model}", "--data", "{tmp}/photos", "--output", "{tmp}"], "it is a folder"),
        (["report", "{tmp}/no.onnx", "--data", "{tmp}/photos"], "no.onnx"),
        (["report", "{model}", "{tmp}/no.onnx", "--data", "{tmp}/photos"], "no.onnx"),
        (["explain", "{model}", "{tmp}/nothing.jpg"], "nothing.jpg cannot be read"),
        (["explain", "{model}", "{model}"], "no image"),
    ],
)
def test_bad_input_is_one_line(
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    named: str,
) -> None:
    fill_folder(tmp_path / "photos", images=1)
    known = {"{tmp}": str(tmp_path), "{model}": str(tiny_model)}
    for short, long in known.items():
        words = [word.replace(short, long) for word in words]

    assert main(words) == 1

    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: ")
    assert named in message


def test_a_log_is_read_by_its_columns(tmp_path: Path) -> None:
    text = "epoch,loss,note,accuracy\n1,2.5,first,0.1\n2,1.5,second,0.25\n"
    (tmp_path / "log.csv").write_text(text)

    found = results.read_log(tmp_path)

    assert found == {"epoch": [1, 2], "loss": [2.5, 1.5], "accuracy": [0.1, 0.25]}


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0.9341, "93.4 %"),
        (0.99999, "> 99.9 %"),
        (0.0001, "< 0.1 %"),
        (1.0, "100.0 %"),
        (0.0, "0.0 %"),
        (0.9995, "> 99.9 %"),
        (0.9994, "99.9 %"),
    ],
)
def test_percentages_are_never_rounded_to_all_or_nothing(share: float, shown: str) -> None:
    assert rendering.percent(share).replace("\N{NO-BREAK SPACE}", " ") == shown
