import keras
import numpy as np
import pytest
from sklearn.neighbors import KernelDensity

from erkeras.detection import ERDetector, combined_code
from erkeras.detection.features import feature_function
from erkeras.errors import InputError
from erkeras.models import ERClassifier
from erkeras.models.networks import build_networks


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return ERClassifier(*build_networks("digits", (8, 8, 1), 4, 3))


@pytest.fixture(scope="module")
def data():
    random = np.random.RandomState(0)
    labels = np.arange(150) % 3
    images = np.clip(0.2 * random.rand(150, 8, 8, 1) + labels[:, None, None, None] / 4, 0, 1).astype(np.float32)
    return images, labels, random.randint(0, 2, (60, 8, 8, 1)).astype(np.float32)


@pytest.fixture(scope="module", params=["code", "combined"])
def detector(request, model, data):
    images, labels, odd = data
    return ERDetector(model, request.param).fit(images[:100], labels[:100]).calibrate(images[100:], odd[:30])


def test_combined_code_is_hidden_means_and_code(model, data):
    images = data[0][:5]
    codes, combined = combined_code(model.encoder)(images)
    hidden = images
    expected = []
    for layer in model.encoder.layers:
        hidden = layer(hidden)
        if getattr(layer, "activation", None) is keras.activations.relu:
            output = np.asarray(hidden)
            expected.append(output.mean(axis=(1, 2)) if output.ndim == 4 else output)
    np.testing.assert_allclose(combined, np.concatenate([*expected, codes], axis=1), atol=1e-6)
    assert combined.shape == (5, 32 + 64 + 128 + 4)


def test_score_is_the_regression_of_the_density_of_the_predicted_class(detector, model, data):
    images, labels, odd = data
    queries = np.concatenate([images[100:], odd])
    extract = feature_function(model.encoder, detector.features)
    features = extract(queries)[1].numpy().astype(np.float64)
    scaled = (features - detector.mean) / detector.scale
    predicted = np.asarray(model(queries)).argmax(axis=1)
    train = (extract(images[:100])[1].numpy() - detector.mean) / detector.scale
    density = np.zeros(len(queries))
    for label in range(3):
        reference = KernelDensity(bandwidth=detector.densities.bandwidth[0], rtol=0).fit(train[labels[:100] == label])
        density[predicted == label] = (
            reference.score_samples(scaled[predicted == label]) if any(predicted == label) else 0
        )
    np.testing.assert_allclose(detector.log_density(queries), density, rtol=1e-5, atol=1e-3)
    score = 1 / (1 + np.exp(-(detector.regression.log_odds(detector.statistics(queries)))))
    np.testing.assert_allclose(detector.score(queries), score, atol=1e-6)
    np.testing.assert_array_equal(detector.predict(queries).verdict, score > detector.threshold)


def test_odd_images_are_told_from_those_like_training(detector, data):
    images, _, odd = data
    figures = detector.evaluate(images[100:], odd[30:])
    assert figures.auroc > 0.95
    assert figures.detection_rate == np.mean(detector.score(odd[30:]) > detector.threshold) > 0.3
    assert figures.false_positive_rate <= 0.05
    # 5% of 50 natural images: two may stand above.
    natural, adversarial = (
        np.sign(detector.regression.weight) * detector.log_density(part) for part in (images[100:], odd[30:])
    )
    assert figures.detection_rate_at_5 == np.mean(adversarial > np.sort(natural)[-3])


def test_stated_rate_of_false_positives_holds_on_the_calibration_images(model, data):
    images, labels, odd = data
    detector = ERDetector(model, "code").fit(images[:100], labels[:100])
    for rate in (0.02, 0.1, 0.3):
        detector.calibrate(images[100:], odd, false_positive_rate=rate)
        fired = detector.predict(images[100:]).verdict.mean()
        assert rate - 1 / 50 <= fired <= rate


def test_without_adversarial_images_there_is_no_auroc(detector, data):
    figures = detector.evaluate(data[0][:10], data[0][:0])
    assert figures.auroc is None
    assert figures.detection_rate is None
    assert figures.detection_rate_at_5 is None


def test_saved_and_loaded_it_scores_the_same(detector, model, data, tmp_path):
    detector.save(tmp_path / "detector.npz")
    with np.load(tmp_path / "detector.npz", allow_pickle=False) as arrays:
        assert str(arrays["features"]) == detector.features
    loaded = ERDetector.load(tmp_path / "detector.npz", model)
    np.testing.assert_array_equal(loaded.score(data[2]), detector.score(data[2]))
    assert loaded.threshold == detector.threshold
    assert [path.name for path in tmp_path.iterdir()] == ["detector.npz"]


def test_a_detector_of_another_model_is_refused(detector, tmp_path):
    detector.save(tmp_path / "detector.npz")
    other = ERClassifier(*build_networks("digits", (8, 8, 1), 5, 3))
    with pytest.raises(InputError, match="fitted on this model"):
        ERDetector.load(tmp_path / "detector.npz", other)
    (tmp_path / "bad.npz").write_bytes(b"bad")
    with pytest.raises(InputError, match="plain arrays"):
        ERDetector.load(tmp_path / "bad.npz", other)


def test_misuse_is_refused(model, data):
    with pytest.raises(InputError, match="features are 'hidden'"):
        ERDetector(model, "hidden")
    with pytest.raises(InputError, match="call fit and calibrate first"):
        ERDetector(model, "code").score(data[0])
    fitted = ERDetector(model, "code").fit(data[0], data[1])
    with pytest.raises(InputError, match="0 adversarial images"):
        fitted.calibrate(data[0], data[0][:0])
    with pytest.raises(InputError, match="false positive rate is 1"):
        fitted.calibrate(data[0], data[2], false_positive_rate=1)


def test_an_encoder_without_readable_layers_is_refused():
    class Own(keras.Model):
        pass

    with pytest.raises(InputError, match="use the features 'code'"):
        combined_code(Own())
    linear = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(4)])
    with pytest.raises(InputError, match="no hidden layer"):
        combined_code(linear)
