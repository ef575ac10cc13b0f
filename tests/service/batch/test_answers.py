"""Contents in, one answer each out."""

from pathlib import Path

import numpy as np
import pytest

from service.batch.answers import Ranked, answers
from service.inference.classifier import Classifier, Selection
from service.serving.problems import Problem
from service.settings import DEFAULT_MODEL
from tests.images import encode, photograph
from tests.tiny_model import write_with_familiarity

GOOD = [encode(photograph(seed, 40, 60), "JPEG") for seed in range(50)]


def test_one_answer_each_in_order(tiny_classifier: Classifier) -> None:
    """More than a batch, with what is broken in between."""
    contents = [GOOD[0], b"", GOOD[1], b"hello", GOOD[2][:300], *GOOD[3:]]
    found = answers(tiny_classifier, contents)
    assert len(found) == len(contents)
    kinds = [answer.reason for answer in found if isinstance(answer, Problem)]
    assert kinds == ["empty-image", "unsupported-format", "broken-image"]
    for content, answer in zip(contents, found, strict=True):
        assert answers(tiny_classifier, [content]) == [answer]


def test_none(tiny_classifier: Classifier) -> None:
    assert answers(tiny_classifier, []) == []
    (only,) = answers(tiny_classifier, [b""])
    assert isinstance(only, Problem)


def test_what_is_wanted(tiny_classifier: Classifier) -> None:
    (whole,) = answers(tiny_classifier, GOOD[:1])
    (first,) = answers(tiny_classifier, GOOD[:1], Selection(top_k=1))
    assert isinstance(whole, Ranked)
    assert isinstance(first, Ranked)
    assert whole.predictions[:1] == first.predictions
    assert whole.familiarity is whole.unfamiliar is None


def test_familiarity_that_is_no_number_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = Classifier.load(write_with_familiarity(tmp_path / "familiar.onnx"))
    (good,) = answers(classifier, GOOD[:1])
    assert isinstance(good, Ranked)
    assert good.familiarity is not None
    outputs = classifier.run(np.zeros((1, *classifier.input_size, 3), np.uint8))
    monkeypatch.setattr(classifier, "run", lambda _: outputs._replace(familiarity=[float("nan")]))
    (bad,) = answers(classifier, GOOD[:1])
    assert isinstance(bad, Problem)
    assert bad.reason == "invalid-answer"


def test_the_default_models_answers_do_not_depend_on_the_batch() -> None:
    """To the bit: /predict asks of one image or of some, a folder of many."""
    classifier = Classifier.load(DEFAULT_MODEL)
    together = answers(classifier, GOOD[:33])
    assert together == [answers(classifier, [content])[0] for content in GOOD[:33]]
