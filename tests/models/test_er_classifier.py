import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from erkeras.attacks import FGSM, PGD
from erkeras.errors import InputError
from erkeras.models import ERClassifier, WassersteinCritic
from erkeras.models.networks import build_critic
from erkeras.threat import ThreatModel
from helpers.training_state import assert_same, fit, state


@pytest.fixture
def stripes():
    """Dark images, and images with a bright first or second column: easy to tell apart under small perturbations."""
    labels = np.arange(60) % 3
    images = 0.2 * np.random.default_rng(0).uniform(size=(60, 4, 4, 1))
    for column in (0, 1):
        images[labels == column + 1, :, column] += 0.8
    return images.astype(np.float32), labels


def test_fit_learns_to_resist_its_adversary(tiny_model, stripes):
    images, labels = stripes
    model = tiny_model(initial=2, epsilon_warm_up=60)
    before = model.evaluate(images, labels, verbose=0, return_dict=True)
    model.fit(images, labels, batch_size=10, epochs=30, verbose=0)
    after = model.evaluate(images, labels, verbose=0, return_dict=True)
    assert before["adversarial_accuracy"] < 0.6
    assert after["clean_accuracy"] > 0.95
    assert after["adversarial_accuracy"] > 0.9
    attacked = PGD(ThreatModel("l_inf", 0.2), steps=10)(model, images, labels)
    assert attacked.robust_accuracy > 0.85


@pytest.mark.parametrize("adversary", [None, FGSM(ThreatModel("l_inf", 0.1))])
@pytest.mark.parametrize("regularized", [False, True])
def test_logs_name_what_was_measured(tiny_model, images, labels, adversary, regularized):
    model = tiny_model(adversary=adversary, **({} if regularized else {"regularizer": None}))
    history = fit(model, images, labels, 1, validation_data=(images, labels)).history
    measured = {"loss", "clean_accuracy"} | ({"adversarial_accuracy"} if adversary else set())
    assert set(history) == measured | {f"val_{name}" for name in measured} | ({"wasserstein"} if regularized else set())
    assert np.isfinite(list(history.values())).all()


def test_evaluate_is_loss_and_accuracy_clean_and_attacked(tiny_model, images, labels):
    model = tiny_model()
    logits = model(images).numpy().astype(np.float64)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(12), labels]
    seeds = tf.tile(tf.constant([[model.seed, 0]], tf.int64), [12, 1])
    attacked = model.adversary.perturb(lambda images: model(images), tf.constant(images), tf.constant(labels), seeds)
    expected = {
        "loss": losses.mean(),
        "clean_accuracy": np.mean(logits.argmax(axis=1) == labels),
        "adversarial_accuracy": np.mean(model(attacked).numpy().argmax(axis=1) == labels),
    }
    for batch_size in (12, 5):
        results = model.evaluate(images, labels, batch_size=batch_size, verbose=0, return_dict=True)
        assert results == pytest.approx(expected, abs=1e-6)
    assert model.evaluate(images, labels, verbose=0) == pytest.approx(list(expected.values()), abs=1e-6)
    assert model.metrics_names == ["loss", "clean_accuracy", "adversarial_accuracy", "wasserstein"]


def test_evaluation_attacks_an_image_alike_in_any_batch(tiny_model, images, labels):
    attacked = []

    class Spy(PGD):
        def perturb(self, *arguments):
            attacked.append(super().perturb(*arguments).numpy())
            return attacked[-1]

    model = tiny_model(adversary=Spy(ThreatModel("l_inf", 0.2), steps=1, step_size=0.0))
    for rows in (slice(0, 12), slice(5, 7)):
        model.test_step((tf.constant(images[rows]), tf.constant(labels[rows])))
    np.testing.assert_allclose(attacked[0][5:7], attacked[1], atol=1e-6)
    assert np.abs(attacked[1] - images[5:7]).max() > 0.1


def test_evaluate_changes_nothing(tiny_model, images, labels):
    model = tiny_model(layers.BatchNormalization(), layers.Dropout(0.5))
    before = state(model)
    model.evaluate(images, labels, verbose=0)
    model.predict(images, verbose=0)
    assert_same(before, state(model))


def test_sample_weights_weigh_every_figure(tiny_model, images, labels):
    """A weight of 0 takes an image out of losses and accuracies, in training and evaluation."""
    weights = np.where(np.arange(12) < 6, 0.0, 1.0)
    logits = tiny_model()(images).numpy()
    labels = np.where(np.arange(12) < 6, (logits.argmax(axis=1) + 1) % 3, logits.argmax(axis=1))
    weak = PGD(ThreatModel("l_inf", 0.0), steps=1)
    for figures in (
        tiny_model(adversary=weak).train_step((tf.constant(images), tf.constant(labels), tf.constant(weights))),
        tiny_model(adversary=weak).evaluate(images, labels, sample_weight=weights, verbose=0, return_dict=True),
    ):
        assert float(figures["clean_accuracy"]) == 1
        assert float(figures["adversarial_accuracy"]) == 1


def test_clean_fraction_counts_attacked_images_alone(tiny_model, images, labels):
    model = tiny_model(clean_fraction=0.5)
    logits = model(images).numpy()
    labels = np.where(np.arange(12) < 6, (logits.argmax(axis=1) + 1) % 3, logits.argmax(axis=1))
    model.adversary = PGD(ThreatModel("l_inf", 0.0), steps=1)
    logs = model.train_step((tf.constant(images), tf.constant(labels)))
    assert float(logs["clean_accuracy"]) == 0.5
    assert float(logs["adversarial_accuracy"]) == 1


def test_predict_and_embed_are_inference(tiny_model, images):
    model = tiny_model(layers.Dropout(0.5), layers.BatchNormalization())
    codes = model.encoder(images, training=False)
    np.testing.assert_allclose(model.embed(images), codes)
    np.testing.assert_allclose(
        model.predict(images, batch_size=5, verbose=0), model.classifier(codes, training=False), atol=1e-6
    )


def test_bytes_are_images_in_arrays_and_in_data_sets(tiny_model, images, labels):
    pixels = (255 * images).astype(np.uint8)
    batches = tf.data.Dataset.from_tensor_slices((pixels, labels)).batch(6)
    histories = [
        tiny_model().fit(given, answers, batch_size=size, shuffle=False, verbose=0).history["loss"]
        for given, answers, size in ((pixels, labels, 6), (pixels / np.float32(255), labels, 6), (batches, None, None))
    ]
    np.testing.assert_allclose(histories, [histories[0]] * 3, rtol=1e-6)


def test_takes_a_tf_dataset_with_a_short_last_batch(tiny_model, images, labels):
    expected = tiny_model()
    expected.fit(images, labels, batch_size=5, shuffle=False, verbose=0)
    model = tiny_model()
    model.fit(tf.data.Dataset.from_tensor_slices((images, labels[:, None])).batch(5), verbose=0)
    assert_same(state(expected), state(model))


def test_trains_without_images_left_to_attack(tiny_model, images, labels):
    logs = tiny_model(clean_fraction=0.9).fit(images[:1], labels[:1], verbose=0).history
    assert np.isfinite(logs["loss"]).all()


def test_callbacks_work(tiny_model, images, labels, tmp_path):
    model = tiny_model()
    seen = []
    history = fit(
        model, images, labels, 6, validation_data=(images, labels),
        callbacks=[
            keras.callbacks.LearningRateScheduler(lambda epoch: 0.01 / (epoch + 1)),
            keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor="val_loss", save_best_only=True),
            keras.callbacks.EarlyStopping("val_clean_accuracy", mode="max", patience=1, baseline=2.0),
            keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["wasserstein"])),
        ],
    ).history  # fmt: skip
    assert len(seen) == len(history["loss"]) == 2
    assert float(model.optimizer.learning_rate) == pytest.approx(0.005)
    best = keras.models.load_model(tmp_path / "best.keras")
    assert best.evaluate(images, labels, verbose=0)[0] == pytest.approx(min(history["val_loss"]), abs=1e-6)


@pytest.mark.parametrize("options", [{"steps_per_execution": 3}, {"run_eagerly": True}])
def test_ways_to_execute_do_not_change_the_weights(tiny_model, images, labels, options):
    expected, model = tiny_model(), tiny_model(compiled=options)
    fit(expected, images, labels, 1)
    fit(model, images, labels, 1)
    for one, other in zip(state(expected), state(model), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_metrics_of_compile_join_the_logs(tiny_model, images, labels):
    model = tiny_model(compiled={"metrics": [keras.metrics.SparseTopKCategoricalAccuracy(3, name="top_3")]})
    history = fit(model, images, labels, 1, validation_data=(images, labels)).history
    assert history["top_3"] == history["val_top_3"] == [1.0]


def test_objective_of_ones_own_is_descended(tiny_networks, images, labels):
    model = ERClassifier(*tiny_networks(), objective=lambda labels, logits: 3 * tf.reduce_sum(logits**2, axis=1))
    model.compile(keras.optimizers.SGD(0.01))
    expected = 3 * np.mean(np.sum(model(images).numpy() ** 2, axis=1))
    first = float(model.train_step((tf.constant(images), tf.constant(labels)))["loss"])
    assert first == pytest.approx(expected, rel=1e-5)
    model.reset_metrics()
    assert float(model.train_step((tf.constant(images), tf.constant(labels)))["loss"]) < first


def test_encoder_of_ones_own_class_trains(tiny_networks, images, labels):
    class Encoder(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, images):
            return self.dense(tf.reshape(images, [tf.shape(images)[0], 16]))

    encoder = Encoder()
    encoder(images)
    model = ERClassifier(encoder, tiny_networks()[1], regularizer=WassersteinCritic(0.1), adversary=FGSM())
    model.compile()
    before = encoder.dense.kernel.numpy()
    fit(model, images, labels, 1)
    assert np.abs(encoder.dense.kernel.numpy() - before).min() > 0


def sequential(*inner):
    return keras.Sequential(list(inner))


@pytest.mark.parametrize(
    ("parts", "options", "given"),
    [
        ({"encoder": lambda: sequential(layers.Dense(3))}, {}, "encoder is not built"),
        ({"classifier": lambda: sequential(layers.Dense(3))}, {}, "classifier is not built"),
        ({"classifier": lambda: sequential(keras.Input((3,)), layers.Dense(3, "softmax"))}, {}, "softmax"),
        ({"classifier": lambda: sequential(keras.Input((3,)), layers.Dense(3), layers.Softmax())}, {}, "softmax"),
        (
            {"classifier": lambda: sequential(keras.Input((3,)), layers.Dense(3), layers.Activation("softmax"))},
            {},
            "softmax",
        ),
        ({"classifier": lambda: sequential(keras.Input((5,)), layers.Dense(3))}, {}, r"3.*5"),
        ({}, {"clean_fraction": 1.0}, r"1\.0"),
        ({}, {"clean_fraction": -0.1}, r"-0\.1"),
        ({}, {"clean_fraction": float("nan")}, "nan"),
        ({}, {"epsilon_warm_up": -1}, "-1"),
    ],
)
def test_unfit_parts_and_options_are_refused(tiny_networks, parts, options, given):
    encoder, classifier = tiny_networks()
    encoder = parts["encoder"]() if "encoder" in parts else encoder
    classifier = parts["classifier"]() if "classifier" in parts else classifier
    with pytest.raises(InputError, match=given):
        ERClassifier(encoder, classifier, **options)


@pytest.mark.parametrize(
    ("change_images", "change_labels", "given"),
    [
        (lambda images: 255 * images, None, "divide the images by 255"),
        (None, lambda labels: np.eye(3)[labels], "one-hot"),
        (None, lambda labels: None, "one integer for each image"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_unfit_data_is_refused(tiny_model, images, labels, change_images, change_labels, given, method):
    images = change_images(images) if change_images else images
    labels = change_labels(labels) if change_labels else labels
    with pytest.raises(InputError, match=given):
        getattr(tiny_model(), method)(images, labels, verbose=0)


def test_loss_in_compile_is_refused(tiny_networks):
    with pytest.raises(InputError, match="objective="):
        ERClassifier(*tiny_networks()).compile("adam", loss="sparse_categorical_crossentropy")


def test_fit_ends_with_the_averages_that_an_optimizer_keeps(tiny_model, images, labels):
    """Of encoder and classifier; the critic, which comes after them in the model's weights, stays as it is."""
    seen = []

    class Weights(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append([variable.numpy() for variable in self.model.trainable_variables])

    model = tiny_model(regularizer=WassersteinCritic(0.5, build_critic(3, units=(5,)), coupling="joint"))
    optimizer = keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.9)
    model.compile(optimizer, keras.optimizers.RMSprop(0.003), keras.optimizers.Adam(0.004))
    model.fit(images, labels, epochs=2, batch_size=4, shuffle=False, verbose=0, callbacks=[Weights()])
    networks = len(model.encoder.trainable_variables) + len(model.classifier.trainable_variables)
    expected = seen[0][:networks]
    for step in seen[1:]:
        expected = [0.9 * average + 0.1 * value for average, value in zip(expected, step[:networks], strict=True)]
    expected += seen[-1][networks:]
    for variable, value in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(variable, value, atol=1e-6)


WIDE = ThreatModel("l_inf", 0.3)


@pytest.mark.parametrize("adversary", [PGD(WIDE, steps=1, step_size=0.375), FGSM(WIDE)])
def test_validation_under_one_step_makes_ten(tiny_networks, images, labels, adversary):
    """The accuracy under ten steps of a quarter of epsilon, from the same starts."""
    cheap = ERClassifier(*tiny_networks(), adversary=adversary)
    dear = ERClassifier(cheap.encoder, cheap.classifier, adversary=PGD(WIDE, steps=10, step_size=0.075))
    data = (tf.constant(images), tf.constant(labels))
    for model in (cheap, dear):
        model.compile("adam")
    assert cheap.test_step(data) == dear.test_step(data)
    starts = tf.zeros([12, 2], tf.int64)
    one, ten = (model.adversary.perturb(model, data[0], data[1], starts).numpy() for model in (cheap, dear))
    assert not np.array_equal(one, ten)
