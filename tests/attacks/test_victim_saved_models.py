"""A SavedModel under attack: which of its signatures is asked."""

import numpy as np
import pytest
import tensorflow as tf

from erkeras.attacks import FGSM, PGD, Victim
from erkeras.errors import InputError
from erkeras.threat import ThreatModel


@pytest.fixture
def network(small_network):
    return small_network


def save(network, path, *signatures):
    """A SavedModel with some of the signatures: probabilities and labels, logits, codes."""
    spec = tf.TensorSpec([None, 4, 4, 1], tf.float32, name="images")

    @tf.function(input_signature=[spec])
    def serving_default(images):
        logits = network(images, training=False)
        return {"probabilities": tf.nn.softmax(logits), "label": tf.argmax(logits, axis=1), "score": logits[:, 0]}

    @tf.function(input_signature=[spec])
    def logits(images):
        return {"logits": network(images, training=False)}

    @tf.function(input_signature=[spec])
    def embed(images):
        return {"codes": network.layers[1](network.layers[0](images))}

    @tf.function(input_signature=[spec])
    def two_outputs(images):
        return {"first": network(images, training=False), "second": network(images, training=False)}

    @tf.function(input_signature=[spec])
    def one_output(images):
        return {"of_any_name": network(images, training=False)}

    module = tf.Module()
    module.network = network
    functions = {
        "serving_default": serving_default,
        "logits": logits,
        "embed": embed,
        "two_outputs": two_outputs,
        "one_output": one_output,
    }
    tf.saved_model.save(module, path, {name.split(":")[0]: functions[name.split(":")[-1]] for name in signatures})
    return tf.saved_model.load(path)


@pytest.mark.parametrize(
    ("signatures", "outputs"),
    [
        (["serving_default"], "probabilities"),
        (["logits"], "logits"),
        (["serving_default", "logits"], "logits"),
        (["serving_default", "mine:one_output"], "probabilities"),
        (["mine:logits"], "logits"),
        (["mine:one_output"], "logits"),
        (["serving_default:one_output"], "logits"),
    ],
)
def test_saved_model_by_its_signatures(network, images, tmp_path, signatures, outputs):
    victim = Victim(save(network, str(tmp_path), *signatures))
    found = victim.outputs_for(images)
    expected = network(images, training=False).numpy()
    assert victim.outputs == outputs
    if outputs == "probabilities":
        expected = tf.nn.log_softmax(expected)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("signatures", "told"),
    [(["embed", "codes:embed"], "embed, codes|codes, embed"), (["serving_default:two_outputs"], "second")],
)
def test_saved_model_without_a_fitting_signature_is_refused(network, tmp_path, signatures, told):
    with pytest.raises(InputError, match=told):
        Victim(save(network, str(tmp_path), *signatures))


@pytest.mark.parametrize("signature", ["serving_default", "logits"])
@pytest.mark.parametrize(
    "attack", [PGD(ThreatModel("l_inf", 0.1), steps=3, random_start=False), FGSM(ThreatModel("l_inf", 0.1))]
)
def test_gradient_attack_through_a_saved_model_is_the_attack_on_the_model(network, images, tmp_path, signature, attack):
    labels = network(images).numpy().argmax(axis=1)
    loaded = attack(save(network, str(tmp_path), signature), images, labels)
    direct = attack(network, images, labels)
    np.testing.assert_allclose(loaded.images, direct.images, atol=1e-5)
    assert loaded.distance.min() > 0.08
