import keras
import pytest
from keras import layers

from erkeras.errors import InputError
from erkeras.models.networks.checks import check_networks, code_size


def network(*inner):
    return keras.Sequential(list(inner))


def encoder(size=3):
    return network(keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(size))


def classifier(size=3, *last):
    return network(keras.Input((size,)), layers.Dense(2), *last)


class Subclassed(keras.Model):
    """Does not know its shapes."""

    def __init__(self, units):
        super().__init__()
        self.dense = layers.Dense(units)
        self.built = True

    def call(self, inputs):
        return self.dense(inputs)


def test_networks_that_fit_pass():
    check_networks(encoder(), classifier())
    check_networks(encoder(), classifier(3, layers.Activation("linear")))
    check_networks(Subclassed(3), Subclassed(2))


@pytest.mark.parametrize(
    ("networks", "given"),
    [
        ((network(layers.Dense(3)), classifier()), "the encoder is not built: give it an Input"),
        ((encoder(), network(layers.Dense(3))), "the classifier is not built"),
        ((encoder(), classifier(3, layers.Softmax())), "ends in a softmax: let it end in logits"),
        ((encoder(), classifier(3, layers.Activation("softmax"))), "ends in a softmax"),
        ((encoder(), classifier(3, layers.Dense(2, "softmax"))), "ends in a softmax"),
    ],
)
def test_networks_that_are_not_built_or_end_in_a_softmax_are_refused(networks, given):
    with pytest.raises(InputError, match=given):
        check_networks(*networks)


@pytest.mark.parametrize(
    "networks", [(encoder(5), classifier(5)), (Subclassed(5), classifier(5)), (encoder(5), Subclassed(2))]
)
def test_the_size_of_the_codes_is_that_of_whichever_network_knows_it(networks):
    assert code_size(*networks) == 5


def test_networks_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="gives codes of size 3 and the classifier takes 5: make them fit"):
        code_size(encoder(3), classifier(5))


def test_a_size_that_neither_knows_is_refused():
    with pytest.raises(InputError, match="size of the codes is unknown: give a Sequential or Functional"):
        code_size(Subclassed(3), Subclassed(2))
