"""The page's maps of importance, on a network that looks at a single pixel."""

from pathlib import Path

import numpy as np

from service.inference.classifier import Classifier
from tests.training.report.nets import one_pixel, write
from training.report import importance
from training.report.images import Photograph


def test_the_most_important_pixels_alone_give_the_answer(tmp_path: Path) -> None:
    classifier = Classifier.load(write(tmp_path / "net.onnx", one_pixel(2, 5), ("no", "yes")))
    image = np.full((8, 8, 3), 40, np.uint8)
    image[2, 5, 0] = 200
    subject = importance.Subject(Photograph(image, image), 1)

    found = importance._explained(classifier, subject)

    before = classifier.predict(image[None])[0, 1]
    assert found["label"] == "yes"
    assert found["whole"] == before
    assert found["alone"] == before
    np.testing.assert_array_equal(found["best"][2, 5], image[2, 5])
    red, _, blue = found["heat"][2, 5].astype(int)
    assert red > blue + 50


def test_a_third_of_the_pixels_is_most_important() -> None:
    values = np.random.default_rng(0).permutation(np.arange(60.0)).reshape(6, 10)

    found = importance.most_important(values)

    assert found.sum() == 20
    assert values[found].min() > values[~found].max()
