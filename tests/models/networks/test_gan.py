import numpy as np
import pytest
from keras import layers

from erkeras.errors import InputError
from erkeras.models.networks import build_generator, build_image_critic


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 16, 3)])
def test_the_generator_makes_images_and_the_critic_takes_them(shape):
    made = build_generator(shape)(np.random.default_rng(0).normal(size=(2, 128)).astype(np.float32))
    assert made.shape == (2, *shape)
    assert 0 <= np.min(made) <= np.max(made) <= 1
    assert build_image_critic(shape)(made).shape == (2, 1)


@pytest.mark.parametrize("build", [build_generator, build_image_critic])
@pytest.mark.parametrize(("shape", "given"), [((10, 8, 1), "10 x 8 pixels"), ((8, 9, 1), "8 x 9 pixels")])
def test_sides_that_are_no_multiples_of_4_are_refused(build, shape, given):
    with pytest.raises(InputError, match=f"{given}: .*multiples of 4"):
        build(shape)


def test_an_image_s_score_and_image_do_not_depend_on_its_neighbours():
    """As a gradient penalty asks: nothing here knows the batch."""
    critic, generator = build_image_critic((8, 8, 1), 4), build_generator((8, 8, 1), 5, 4)
    latent = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    made = generator(latent, training=True).numpy()
    np.testing.assert_allclose(generator(latent[2:3], training=True), made[2:3], atol=1e-6)
    np.testing.assert_allclose(critic(made[2:3], training=True), critic(made, training=True)[2:3], atol=1e-5)


def test_latent_size_and_filters_are_as_asked_for():
    generator = build_generator((8, 12, 3), latent_size=7, filters=6)
    assert (generator.input_shape, generator.output_shape) == ((None, 7), (None, 8, 12, 3))
    transposed = [layer.filters for layer in generator.layers if isinstance(layer, layers.Conv2DTranspose)]
    assert transposed == [6, 3]
    assert generator.layers[1].target_shape == (2, 3, 12)
    critic = build_image_critic((8, 12, 3), filters=6)
    assert [layer.filters for layer in critic.layers if isinstance(layer, layers.Conv2D)] == [6, 12]
