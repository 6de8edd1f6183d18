"""An ERClassifier of a whole classifier: trained, attacked, watched by a detector, saved and loaded."""

import keras
import numpy as np
import pytest
from keras import layers

import erkeras
from erkeras.attacks.victim import Victim
from erkeras.errors import InputError
from erkeras.models import ERClassifier, WassersteinCritic
from erkeras.models.networks import build_critic

SHAPE = (8, 8, 1)
THREAT = erkeras.ThreatModel("l_inf", 0.1)


def cnn(last="softmax"):
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(6, 3, strides=2, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(8, activation="relu", name="code"),
            layers.Dense(3, activation=last),
        ]
    )


def functional():
    model = cnn()
    return keras.Model(model.inputs, model.outputs)


def backbone():
    inputs = keras.Input((None, None, 3))
    outputs = layers.BatchNormalization()(layers.Conv2D(4, 3, strides=2)(inputs))
    outputs = layers.add([outputs, layers.ReLU()(layers.Conv2D(4, 3, padding="same")(outputs))])
    return keras.Model(inputs, layers.ReLU()(outputs), name="backbone")


def behind_a_backbone():
    """As one fine-tunes: preprocessing by layers and by operations, a backbone as a layer, a head."""
    inputs = keras.Input((8, 8, 3))
    outputs = keras.applications.mobilenet_v2.preprocess_input(layers.Rescaling(255.0)(inputs))
    outputs = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(backbone()(outputs, training=False)))
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(outputs))


def data(model, count=30):
    random, shape = np.random.RandomState(0), model.input_shape[1:]
    labels = np.arange(count) % 3
    images = 0.5 * random.rand(count, *shape) + labels[:, None, None, None] / 6
    return images.astype(np.float32), labels


def alive(model):
    """The model with shifts that make its logits differ: without trained statistics those of a deep one are near 0."""
    random = np.random.RandomState(1)
    for weight in model.weights:
        if weight.path.endswith(("beta", "bias")):
            weight.assign(random.uniform(-1, 1, weight.shape))
    return model


def check_logits(model, robust, images):
    expected = Victim(model).outputs_for(images, "logits", len(images))
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(robust(images), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("build", [cnn, functional, behind_a_backbone])
def test_it_trains_is_attacked_watched_saved_and_loaded(build, tmp_path):
    model = alive(build())
    images, labels = data(model)
    robust = ERClassifier.from_classifier(
        model,
        regularizer=WassersteinCritic(0.1, build_critic(4 if build is behind_a_backbone else 8, units=(4,))),
        adversary=erkeras.PGD(THREAT, steps=1),
        name="robust",
    )
    assert robust.name == "robust"
    check_logits(model, robust, images[:4])

    before, given = robust.get_weights(), model.get_weights()
    robust.compile(keras.optimizers.Adam(1e-2))
    logs = robust.fit(images, labels, batch_size=15, verbose=0).history
    assert np.isfinite([values[-1] for values in logs.values()]).all()
    moved = [not np.array_equal(*pair) for pair in zip(before, robust.get_weights(), strict=True)]
    assert np.mean(moved) > 0.8
    assert all(np.array_equal(*pair) for pair in zip(given, model.get_weights(), strict=True))

    attacked = erkeras.PGD(THREAT, steps=2, restarts=1)(robust, images[:6], labels[:6])
    assert np.abs(attacked.images - images[:6]).max() <= 0.1 + 1e-6
    detector = erkeras.ERDetector(robust).fit(images[:24], labels[:24]).calibrate(images[24:], 1 - images[24:])
    found = detector.predict(images[:3])
    np.testing.assert_allclose(found.probabilities, keras.ops.softmax(robust(images[:3])), atol=1e-5)

    robust.save(tmp_path / "robust.keras")
    loaded = keras.models.load_model(tmp_path / "robust.keras")
    np.testing.assert_allclose(loaded(images), robust(images), atol=1e-6)
    assert loaded.encoder.output_shape == robust.encoder.output_shape


def test_a_backbone_of_keras_applications_gives_the_same_logits():
    model = alive(keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None, classes=3))
    robust = ERClassifier.from_classifier(model)
    assert robust.encoder.output_shape == (None, 1280)
    check_logits(model, robust, data(model, 4)[0])


def test_it_trains_in_bfloat16_too():
    model = cnn()
    images, labels = data(model)
    robust = ERClassifier.from_classifier(
        functional(), "code", adversary=erkeras.PGD(THREAT, steps=1), inner_bfloat16=True
    )
    robust.compile("adam")
    assert np.isfinite(robust.fit(images, labels, verbose=0).history["loss"]).all()


def test_an_er_classifier_is_no_whole_classifier(tiny_model):
    with pytest.raises(InputError, match="is an ERClassifier already: take its encoder and its classifier"):
        ERClassifier.from_classifier(tiny_model())
    with pytest.raises(InputError, match="no layer 'head'"):
        ERClassifier.from_classifier(cnn(), "head")
