import numpy as np
import pytest

from service.inference.classifier import Classifier
from tests.training.conftest import TrainedModel
from tests.training.report.nets import colour_filters, one_pixel
from training.report import importance
from training.report.network import Network


@pytest.fixture(scope="module")
def network(trained_model: TrainedModel) -> Network:
    return Network.load(trained_model.path)


def test_a_trace_ends_in_what_the_service_answers(
    trained_model: TrainedModel, network: Network
) -> None:
    values = network.trace(trained_model.images)

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


def test_learned_numbers_are_weights_and_what_is_added_to_them() -> None:
    (conv, pool) = Network(colour_filters()).layers
    (connected,) = Network(one_pixel(0, 0)).layers

    assert (conv.learned, pool.learned, connected.learned) == (81 + 3, 0, 192 * 2 + 2)
    assert conv.is_spatial
    assert not pool.is_spatial
    assert not connected.is_spatial


def test_a_layer_is_shown_behind_its_activation(network: Network) -> None:
    layer = network.layers[0]
    values = network.trace(np.full((1, 32, 32, 3), 90, np.float32), layer.answer)

    assert values[layer.linear].min() < 0
    np.testing.assert_array_equal(values[layer.answer], np.maximum(values[layer.linear], 0))


def test_gradients_are_those_of_keras(trained_model: TrainedModel, network: Network) -> None:
    """The same slope of a logit from the ONNX file as from a network rebuilt in TensorFlow."""
    import tensorflow as tf

    filters = network.first_filters()
    assert filters is not None
    pixels = trained_model.images[:2].astype(np.float32)
    layer = network.layers[1]
    values = network.trace(pixels, layer.linear)
    weights = np.random.default_rng(0).normal(size=values[layer.linear].shape).astype(np.float32)

    found = network.gradient(values, layer.linear, weights)

    mean = values["weights_0"]  # the rest of the normalisation is in the first filters
    kernels = [filters, values[layer.weights]]
    makers = [network._maker[item.linear] for item in network.layers[:2]]
    # Exporters leave biases out that are 0, as they are after so little training.
    biases = [values[node.input[2]] if len(node.input) > 2 else 0.0 for node in makers]
    x = tf.constant(pixels)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = x - mean
        y = tf.nn.relu(tf.nn.conv2d(y, kernels[0].transpose(2, 3, 1, 0), 1, "VALID") + biases[0])
        y = tf.nn.conv2d(y, kernels[1].transpose(2, 3, 1, 0), 1, "VALID") + biases[1]
        total = tf.reduce_sum(tf.transpose(y, [0, 3, 1, 2]) * weights)
    np.testing.assert_allclose(found, tape.gradient(total, x).numpy(), rtol=1e-3, atol=1e-4)


def test_the_score_is_log_odds_and_its_slope_is_right(
    trained_model: TrainedModel, network: Network
) -> None:
    pixels = trained_model.images[:1].astype(np.float32)
    p = trained_model.probabilities[:1].astype(np.float64)

    assert importance.score(network, pixels, 1) == pytest.approx(
        np.log(p[:, 1] / (1 - p[:, 1])), abs=1e-4
    )
    slope = importance.gradient(network, pixels, 1)
    way = 0.5 * np.sign(slope)
    there, back = (importance.score(network, pixels + s * way, 1)[0] for s in (1, -1))
    assert there - back == pytest.approx(float(2 * (slope * way).sum()), rel=0.05)


def test_first_filters_are_the_files_own() -> None:
    found = Network(colour_filters()).first_filters()

    assert found is not None
    assert found.shape == (3, 3, 3, 3)
    assert found[1, 1] == pytest.approx(np.full((3, 3), 1 / 9 / 255))
    assert not found[1, [0, 2]].any()


def test_other_sizes_fit_where_only_convolutions_are_on_the_way(network: Network) -> None:
    assert network.takes((20, 24), network.layers[3].linear)
    assert not network.takes((20, 24), network.layers[-1].linear)
