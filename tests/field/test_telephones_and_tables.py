"""Issue 17, 26: what the photographs of a telephone and the data of a table need is said."""

import io
import zipfile
from pathlib import Path

import pytest

from tests.training.conftest import fill_folder, image_file
from training.cli import main
from training.data.folders import list_images
from training.errors import DataError

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
WAY_OUT = ("HEIC is not read here", "magick mogrify", "Most Compatible")


@pytest.mark.parametrize("suffix", [".HEIC", ".heif", ".hif"])
def test_a_label_of_heic_alone_names_the_format_and_the_way_out(
    tmp_path: Path, suffix: str
) -> None:
    folder = fill_folder(tmp_path / "photos", images=3)
    (folder / "phone").mkdir()
    for i in range(3):
        (folder / "phone" / f"IMG_{i}{suffix}").write_bytes(HEIC)

    with pytest.raises(DataError, match="phone has no images") as caught:
        list_images(folder)

    assert f"3 {suffix.lower()}" in str(caught.value)
    assert all(words in str(caught.value) for words in WAY_OUT)


def test_heic_among_others_is_said_with_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fill_folder(tmp_path / "photos", images=3)
    (folder / "red" / "IMG_1.HEIC").write_bytes(HEIC)

    list_images(folder)

    said = capsys.readouterr().err
    assert "1 .heic" in said
    assert all(words in said for words in WAY_OUT)


def test_heic_that_is_called_jpeg_is_said_with_the_way_out(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it comes from computers that rename instead of converting."""
    folder = fill_folder(tmp_path / "photos", images=3)
    (folder / "red" / "IMG_1.jpg").write_bytes(HEIC)

    assert main(["evaluate", str(tiny_model), "--data", str(folder)]) == 0

    said = capsys.readouterr().err
    assert "1 images are unreadable and left out" in said
    assert "red/IMG_1.jpg: HEIC is not read" in said
    assert all(words in said for words in WAY_OUT)


def test_other_formats_that_are_not_read_are_counted(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path / "photos", images=3)
    (folder / "raw").mkdir()
    (folder / "raw" / "1.NEF").write_bytes(b"MM\0*")

    with pytest.raises(DataError, match=r"raw has no images .* suffixes: 1 \.nef$"):
        list_images(folder)


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("cat/1.png", image_file("red", 0))
    return content.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "advice"),
    [
        ("photos.zip", zipped(), "unpack it"),
        ("photos.tar.gz", b"\x1f\x8b", "unpack it"),
        ("labels.csv", b"file,label\n1.png,cat\n", "tables are not read: move each image into"),
        ("labels.xlsx", zipped(), "tables are not read: move each image into"),
    ],
)
def test_a_file_as_data_gets_one_line_of_advice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, advice: str
) -> None:
    (tmp_path / name).write_bytes(content)
    output = str(tmp_path / "out" / "m.onnx")

    assert main(["--data", str(tmp_path / name), "--output", output]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: data folder {tmp_path / name} is not a folder")
    assert advice in line


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("labels.csv", "move each image into a folder that is named after its label"),
        ("photos.zip", "unpack photos.zip first"),
    ],
)
def test_a_folder_with_one_beside_the_images_gets_it_too(
    tmp_path: Path, name: str, advice: str
) -> None:
    (tmp_path / "1.png").write_bytes(image_file("red", 0))
    (tmp_path / name).write_bytes(b"")

    with pytest.raises(DataError, match=f"has no label folders; .*{advice}"):
        list_images(tmp_path)


def test_images_beside_label_folders_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fill_folder(tmp_path / "photos", images=3)
    for i in range(2):
        (folder / f"{i}.png").write_bytes(image_file("red", i))

    list_images(folder)

    said = capsys.readouterr().err
    assert f"{folder}: images passed over, as no label folder holds them: 2" in said
