"""The layers of a model file, and what they answer."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from service.inference.classifier import Classifier
from tests.images import random_pixels
from tests.training.conftest import TrainedModel
from tests.training.report.nets import colour_filters, one_pixel
from training.data.dataset import Split
from training.export import familiarity
from training.report.layers import Network


@pytest.fixture(scope="module")
def network(trained_model: TrainedModel) -> Network:
    return Network.load(trained_model.path)


def test_values_end_in_what_the_service_answers(
    trained_model: TrainedModel, network: Network
) -> None:
    values = network.values(trained_model.images, ["probabilities"])

    expected = Classifier.load(trained_model.path).predict(trained_model.images)
    np.testing.assert_allclose(values["probabilities"], expected, atol=1e-6)


def test_the_layers_of_the_tutorials_network(network: Network) -> None:
    assert [(layer.title, layer.shape) for layer in network.layers] == [
        ("convolution 1", (32, 30, 30)),
        ("convolution 2", (32, 28, 28)),
        ("pooling 1", (32, 14, 14)),
        ("convolution 3", (64, 12, 12)),
        ("convolution 4", (64, 10, 10)),
        ("pooling 2", (64, 5, 5)),
        ("fully connected 1", (256,)),
        ("fully connected 2", (3,)),
    ]


def test_familiarity_is_no_layer(
    trained_model: TrainedModel,
    network: Network,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(familiarity, "LEAST_HELD_BACK", 3)
    images = trained_model.images
    known = Split(images, np.arange(len(images)) % 3)
    model, _ = familiarity.with_familiarity(onnx.load(trained_model.path), known, images)
    onnx.save(model, tmp_path / "model.onnx")
    assert Network.load(tmp_path / "model.onnx").layers == network.layers


def test_learned_numbers_are_weights_and_what_is_added_to_them() -> None:
    (conv, pool) = Network(colour_filters()).layers
    (connected,) = Network(one_pixel(0, 0)).layers

    assert (conv.learned, pool.learned, connected.learned) == (81 + 3, 0, 192 * 2 + 2)
    assert conv.is_spatial
    assert not pool.is_spatial
    assert not connected.is_spatial


def test_a_layer_is_shown_behind_its_activation(network: Network) -> None:
    layer = network.layers[0]
    image = np.full((1, 32, 32, 3), 90, np.uint8)

    found = network.values(image, [layer.answer])[layer.answer]

    assert found.min() == 0
    assert found.max() > 0


def test_maps_are_means_of_the_colour_around() -> None:
    image = random_pixels(8, 8, 3)
    network = Network(colour_filters())
    answer = network.layers[0].answer

    maps = network.values(image[None], [answer])[answer][0]

    assert maps.shape == (3, 6, 6)
    expected = max(0.0, image[2:5, 3:6, 1].mean() / 255 - 0.1)
    assert maps[1, 2, 3] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_first_filters_are_the_files_own(order: tuple[int, int, int]) -> None:
    """In the colours that they see, also where the network takes blue first."""
    found = Network(colour_filters(order)).first_filters()

    assert found is not None
    assert found.shape == (3, 3, 3, 3)
    assert found[1, 1] == pytest.approx(np.full((3, 3), 1 / 9 / 255))
    assert not found[1, [0, 2]].any()
    assert found[0, 0].all()


def test_a_value_sees_what_the_layers_before_it_see(network: Network) -> None:
    """The tutorial's network: 3x3 filters, and pools of 2x2 that double the step."""
    spatial = [layer for layer in network.layers if layer.is_spatial]

    assert [(layer.seen, layer.step) for layer in spatial] == [
        (3, 1),
        (5, 1),
        (6, 2),
        (10, 2),
        (14, 2),
        (16, 4),
    ]


def test_no_other_pixel_changes_a_value(network: Network) -> None:
    layer = network.layers[4]
    black = np.zeros((1, 32, 32, 3), np.uint8)
    changed = np.full_like(black, 255)
    middle = layer.shape[1] // 2
    place = slice(middle * layer.step, middle * layer.step + layer.seen)
    changed[:, place, place] = 0

    before, after = (network.values(x, [layer.answer])[layer.answer] for x in (black, changed))

    np.testing.assert_array_equal(before[..., middle, middle], after[..., middle, middle])
    assert (before != after)[..., middle + 1, middle + 1].any()


def test_an_unknown_operator_does_not_stop_the_look() -> None:
    graph = colour_filters()
    relu = next(node for node in graph.graph.node if node.op_type == "Relu")
    relu.op_type = "Sin"

    conv, pool = Network(graph).layers

    assert (conv.title, conv.shape, conv.seen) == ("convolution 1", (3, 6, 6), 3)
    assert pool.title == "pooling 1"
