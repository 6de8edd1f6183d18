from keras import layers

from erkeras.models.networks import build_mnist_large_classifier, build_networks, build_stl10_classifier


def test_large_mnist_network_is_the_authors():
    encoder, classifier = build_networks("mnist-large", (28, 28, 1), 4, 10)
    convolutions = [layer for layer in encoder.layers if isinstance(layer, layers.Conv2D)]
    assert [(layer.filters, layer.kernel_size, layer.strides, layer.use_bias) for layer in convolutions] == [
        (filters, (4, 4), (2, 2), False) for filters in (128, 256, 512, 1024)
    ]
    kinds = [type(layer) for layer in encoder.layers]
    assert kinds[1:3] == [layers.Conv2D, layers.ReLU]
    assert kinds.count(layers.BatchNormalization) == 3
    assert [layer.units for layer in classifier.layers if isinstance(layer, layers.Dense)] == [500, 256, 10]
    assert sum(isinstance(layer, layers.BatchNormalization) for layer in classifier.layers) == 2


def test_stl10_network_is_the_authors():
    encoder, _ = build_networks("stl10", (96, 96, 3), 16, 10)
    convolutions = [layer for layer in encoder.layers if isinstance(layer, layers.Conv2D)]
    assert [(layer.filters, layer.kernel_size[0], layer.strides[0], layer.padding) for layer in convolutions] == [
        *((filters, 4, 2, "same") for filters in (128, 256, 512, 1024, 2048)),
        (2048, 3, 2, "valid"),
    ]
    assert not any(layer.use_bias for layer in convolutions)
    assert convolutions[-1].output.shape == (None, 1, 1, 2048)


def test_the_smallest_image_of_the_stl10_network():
    assert build_networks("stl10", (65, 65, 3), 4, 10)[0].output_shape == (None, 4)


def test_the_classifier_of_stl10_is_that_of_mnist():
    one, other = (
        build(16, 7).get_config()["layers"] for build in (build_stl10_classifier, build_mnist_large_classifier)
    )
    kinds = [[(layer["class_name"], layer["config"].get("units")) for layer in part] for part in (one, other)]
    assert kinds[0] == kinds[1]
