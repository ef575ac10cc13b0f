"""Numbers of JSON and bytes as pixels, against the plain way; limits on what is hostile."""

import json
import os
import time
import tracemalloc
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.http.tensors import binary_tensor, json_batch, json_tensor
from service.serving.errors import BadTensor, TooManyFiles

EXAMPLES = int(os.environ.get("LABELSERVE_FUZZ_EXAMPLES", "200"))
SHAPE = (2, 2, 3)

WHOLE = st.integers(0, 255)
# Now and then something that is no pixel.
ANY = st.one_of(
    *[WHOLE] * 5,
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([None, True, "1", "[,,]", [], [[1]], {}, {"a": 1}, "\\", '"']),
)


def nested(leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Arrays of nearly any nesting, among them those of the right one."""
    some = leaf
    for size in reversed(SHAPE):
        some = st.one_of(
            st.lists(some, min_size=size, max_size=size), st.lists(some, max_size=size + 1)
        )
    return st.one_of(some, st.lists(leaf, min_size=12, max_size=12), st.lists(leaf, max_size=13))


def has_shape(found: Any, shape: tuple[int, ...]) -> bool:
    """Whether it is lists nested so, of whole numbers from 0 to 255."""
    if not shape:
        return type(found) is int and 0 <= found <= 255
    if not isinstance(found, list) or len(found) != shape[0]:
        return False
    return all(has_shape(one, shape[1:]) for one in found)


def raw(text: bytes) -> msgspec.Raw:
    """Text as a request's reader leaves it: checked, and not decoded."""
    return msgspec.json.decode(text, type=msgspec.Raw)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.one_of(nested(WHOLE), nested(ANY)), st.sampled_from([None, 1]), st.booleans())
@example([[[0] * 3] * 2] * 2, None, False)
@example([0] * 12, None, True)
@example([[0] * 6] * 2, None, True)
def test_as_the_plain_reader_reads(found: Any, indent: int | None, flat: bool) -> None:
    """It takes what json.loads finds nested so, and nothing else."""
    text = json.dumps(found, indent=indent).encode()
    fits = has_shape(found, SHAPE) or (flat and has_shape(found, (12,)))
    try:
        pixels = json_tensor(raw(text), SHAPE, flat=flat)
    except BadTensor:
        assert not fits
    else:
        assert fits
        assert pixels.dtype == np.uint8
        assert pixels.tolist() == np.array(found).reshape(SHAPE).tolist()


@settings(max_examples=EXAMPLES // 2, deadline=None)
@given(st.lists(nested(WHOLE), max_size=4))
@example([[[[1, 2, 3]] * 2] * 2] * 3)
def test_a_batch_has_as_many_images_as_there_are(found: list[Any]) -> None:
    fits = bool(found) and all(has_shape(one, SHAPE) for one in found)
    try:
        pixels = json_batch(raw(json.dumps(found).encode()), SHAPE, 4)
    except BadTensor:
        assert not fits
    else:
        assert pixels.tolist() == found


def test_more_images_than_allowed() -> None:
    text = json.dumps(np.zeros((5, *SHAPE), int).tolist()).encode()
    assert json_batch(raw(text), SHAPE, 5).shape == (5, *SHAPE)
    with pytest.raises(TooManyFiles, match="5 images, 4 are allowed"):
        json_batch(raw(text), SHAPE, 4)


def test_numbers_of_several_pieces() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    text = json.dumps(pixels.tolist()).encode()
    assert np.array_equal(json_tensor(raw(text), pixels.shape), pixels)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (b"[1,2,300]", "whole numbers from 0 to 255"),
        (b"[1,2,9999999999999999999999]", "whole numbers from 0 to 255"),
        (b"[1,2,3.0]", "whole numbers from 0 to 255"),
        (b"[1,2,-3]", "whole numbers from 0 to 255"),
        (b'[1,2,"3"]', "whole numbers from 0 to 255"),
        (b"[1,2]", "3 numbers are expected, 2 are there"),
        (b"[[1,2,3]]", r"nested as \[3\]"),
        (b"[]", "3 numbers are expected"),
        (b"{}", "3 numbers are expected"),
        (b'",,"', "whole numbers from 0 to 255"),
    ],
)
def test_the_refusal_says_what_is_expected(text: bytes, part: str) -> None:
    with pytest.raises(BadTensor, match=part):
        json_tensor(raw(text), (3,), flat=True)


@pytest.mark.parametrize("text", [b"[" + b"[]," * 20_000_000 + b"[]]", b"[" + b"0," * 10_000_000])
def test_a_large_hostile_array_takes_no_time(text: bytes) -> None:
    """It is refused by what is counted; lists of it would take seconds and gigabytes."""
    data = raw(text.removesuffix(b",") + b"]" if text.endswith(b",") else text)
    begun = time.process_time()
    with pytest.raises((BadTensor, TooManyFiles)):
        json_batch(data, (32, 32, 3), 64)
    with pytest.raises(BadTensor):
        json_tensor(data, (64, 32, 32, 3), flat=True)
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        (b"[1," + b" " * 20_000_000 + b"2,3]", True),
        (b"[1,2,3" + b"0" * 20_000_000 + b"]", False),
        (b'[1,2,"' + b"3" * 20_000_000 + b'"]', False),
    ],
    ids=["blanks", "digits", "text"],
)
def test_a_large_body_is_not_copied(text: bytes, fits: bool) -> None:
    data = raw(text)
    tracemalloc.start()
    try:
        if fits:
            assert json_tensor(data, (3,)).tolist() == [1, 2, 3]
        else:
            with pytest.raises(BadTensor):
                json_tensor(data, (3,))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000


def test_bytes_are_not_copied() -> None:
    body = b"{}" + bytes(range(12))
    pixels = binary_tensor(body, 2, SHAPE)
    assert pixels.tolist() == np.arange(12).reshape(SHAPE).tolist()
    assert np.shares_memory(pixels, np.frombuffer(body, np.uint8))
    for start in (0, 1, 3, 14, 15):
        with pytest.raises(BadTensor, match="has 12 bytes"):
            binary_tensor(body, start, SHAPE)
