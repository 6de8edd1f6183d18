"""Algorithm 1 written out in NumPy, gradients and optimizers included, and models of float64 to hold against it."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from erkeras.attacks import PGD
from erkeras.models import ERClassifier, WassersteinCritic
from erkeras.threat import ThreatModel

CLIP = 0.25
SEED = 3
# Exact in float32, through which Keras passes learning rates and betas.
BETA_1, BETA_2 = 0.875, 0.96875
RATES = {"optimizer": 2**-4, "critic_optimizer": 2**-5, "regularizer_optimizer": 2**-6}
# Large enough to show where Adam adds it.
ADAM_EPSILON = 1e-3


class Network:
    """Dense layers, forward and backward."""

    def __init__(self, model):
        dense = [layer for layer in model.layers if isinstance(layer, layers.Dense)]
        self.weights = [array.copy() for layer in dense for array in layer.get_weights()]
        self.activations = [layer.activation.__name__ for layer in dense]

    def forward(self, inputs):
        self.inputs, self.outputs = [], []
        for number, activation in enumerate(self.activations):
            self.inputs.append(inputs)
            inputs = inputs @ self.weights[2 * number] + self.weights[2 * number + 1]
            inputs = {"linear": inputs, "relu": np.maximum(inputs, 0), "tanh": np.tanh(inputs)}[activation]
            self.outputs.append(inputs)
        return inputs

    def backward(self, gradient):
        """Gradients of the weights and of the inputs of the last `forward`, from the gradient of its outputs."""
        gradients = []
        for number in reversed(range(len(self.activations))):
            outputs = self.outputs[number]
            slope = {"linear": 1.0, "relu": outputs > 0, "tanh": 1 - outputs**2}[self.activations[number]]
            gradient = gradient * slope
            gradients = [self.inputs[number].T @ gradient, gradient.sum(axis=0), *gradients]
            gradient = gradient @ self.weights[2 * number].T
        return gradients, gradient


class SGD:
    def __init__(self, rate):
        self.rate = rate

    def descend(self, weights, gradients):
        for weight, gradient in zip(weights, gradients, strict=True):
            weight -= self.rate * gradient


class Adam:
    """Kingma and Ba 2015 in the form before their section 2.1, whose epsilon is added to the uncorrected sqrt(v)."""

    def __init__(self, rate):
        self.rate, self.steps, self.moments = rate, 0, None

    def descend(self, weights, gradients):
        self.steps += 1
        self.moments = self.moments or [(np.zeros_like(weight), np.zeros_like(weight)) for weight in weights]
        rate = self.rate * np.sqrt(1 - BETA_2**self.steps) / (1 - BETA_1**self.steps)
        for weight, gradient, (m, v) in zip(weights, gradients, self.moments, strict=True):
            m += (1 - BETA_1) * (gradient - m)
            v += (1 - BETA_2) * (gradient**2 - v)
            weight -= rate * m / (np.sqrt(v) + ADAM_EPSILON)


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


class Algorithm1:
    def __init__(self, model, optimizer):
        self.encoder, self.classifier = Network(model.encoder), Network(model.classifier)
        self.regularizer, self.adversary = model.regularizer, model.adversary
        self.clean_fraction, self.warm_up = model.clean_fraction, model.epsilon_warm_up
        self.critic = Network(self.regularizer.critic)
        make = {"sgd": SGD, "adam": Adam}[optimizer]
        self.optimizer, self.critic_optimizer, self.regularizer_optimizer = (make(rate) for rate in RATES.values())
        self.steps = 0

    @property
    def weights(self):
        return [*self.encoder.weights, *self.classifier.weights, *self.critic.weights]

    def step(self, images, labels, weights=None):
        batch = len(images)
        weights = np.ones(batch) if weights is None else weights
        coefficient = self.regularizer.coefficient

        # 4
        first = round(self.clean_fraction * batch)
        attacked = self.pgd(images[first:], labels[first:])
        inputs = np.concatenate([images[:first], attacked]).reshape(batch, -1)
        # 5
        prior = tf.random.stateless_normal([batch, 3], self.key(1), dtype=tf.float64, alg="philox").numpy()
        # 6
        codes = self.encoder.forward(inputs)
        # 7
        self.wasserstein = np.mean(self.critic.forward(prior)) - np.mean(self.critic.forward(codes))
        of_prior = self.critic_gradients(prior)
        of_codes = self.critic_gradients(codes)
        self.critic_optimizer.descend(
            self.critic.weights, [coefficient * (c - p) for p, c in zip(of_prior, of_codes, strict=True)]
        )
        for weight in self.critic.weights:
            np.clip(weight, -CLIP, CLIP, out=weight)
        # 8
        of_logits = self.cross_entropy_gradient(self.classifier.forward(codes), labels, weights / batch)
        classifier_gradients, of_codes = self.classifier.backward(of_logits)
        if self.regularizer.coupling == "joint":
            of_codes = of_codes + self.line_9_gradient(codes)
        encoder_gradients, _ = self.encoder.backward(of_codes)
        self.optimizer.descend(self.encoder.weights + self.classifier.weights, encoder_gradients + classifier_gradients)
        # 9
        if self.regularizer.coupling == "separate" and coefficient > 0:
            codes = self.encoder.forward(inputs)
            encoder_gradients, _ = self.encoder.backward(self.line_9_gradient(codes))
            self.regularizer_optimizer.descend(self.encoder.weights, encoder_gradients)
        self.steps += 1

    def pgd(self, images, labels):
        threat, steps = self.adversary.threat, self.adversary.steps
        scale = min(1.0, self.steps / self.warm_up) if self.warm_up else 1.0
        radius = scale * threat.epsilon
        adversarial = images
        if self.adversary.random_start:
            adversarial = threat.random_start(images, self.key(0), scale).numpy()
        for _ in range(steps):
            logits = self.classifier.forward(self.encoder.forward(adversarial.reshape(len(images), -1)))
            _, of_codes = self.classifier.backward(self.cross_entropy_gradient(logits, labels, np.ones(len(images))))
            _, gradient = self.encoder.backward(of_codes)
            gradient = gradient.reshape(images.shape)
            if threat.norm == "l_inf":
                moved = adversarial + 2.5 * radius / steps * np.sign(gradient)
                adversarial = np.clip(np.clip(moved, images - radius, images + radius), 0, 1)
            else:
                moved = adversarial + 2.5 * radius / steps * gradient / self.lengths(gradient)
                shrunk = np.minimum(1, radius / np.maximum(self.lengths(moved - images), 1e-12))
                adversarial = np.clip(images + shrunk * (moved - images), 0, 1)
        return adversarial

    @staticmethod
    def lengths(images):
        return np.sqrt((images**2).sum(axis=(1, 2, 3), keepdims=True))

    @staticmethod
    def cross_entropy_gradient(logits, labels, weights):
        return (softmax(logits) - np.eye(3)[labels]) * weights[:, None]

    def critic_gradients(self, codes):
        self.critic.forward(codes)
        return self.critic.backward(np.full((len(codes), 1), 1 / len(codes)))[0]

    def line_9_gradient(self, codes):
        self.critic.forward(codes)
        return self.critic.backward(np.full((len(codes), 1), -self.regularizer.coefficient / len(codes)))[1]

    def key(self, stream):
        key = tf.constant([SEED, self.steps], tf.int64)
        return tf.random.experimental.stateless_fold_in(key, tf.constant(stream, tf.int64), alg="philox")


def dense_network(sizes, activation):
    inner = [layers.Dense(size, activation=activation, bias_initializer="normal", dtype="float64") for size in sizes]
    inner[-1].activation = keras.activations.linear
    return inner


def build_model(optimizer="sgd", coupling="separate", coefficient=0.7, norm="l_inf", random_start=True, **options):
    keras.utils.set_random_seed(11)
    encoder = keras.Sequential(
        [
            keras.Input((2, 3, 1), dtype="float64"),
            layers.Flatten(dtype="float64"),
            *dense_network([7, 3], "tanh"),
        ]
    )
    classifier = keras.Sequential([keras.Input((3,), dtype="float64"), *dense_network([6, 3], "relu")])
    critic = keras.Sequential([keras.Input((3,), dtype="float64"), *dense_network([8, 1], "relu")])
    epsilon = {"l_inf": 0.2, "l2": 0.5}[norm]
    model = ERClassifier(
        encoder,
        classifier,
        regularizer=WassersteinCritic(coefficient, critic, CLIP, coupling),
        adversary=PGD(ThreatModel(norm, epsilon), steps=4, random_start=random_start),
        **{"seed": SEED, "dtype": "float64", **options},
    )
    if optimizer == "sgd":
        optimizers = {name: keras.optimizers.SGD(rate) for name, rate in RATES.items()}
    else:
        optimizers = {name: keras.optimizers.Adam(rate, BETA_1, BETA_2, ADAM_EPSILON) for name, rate in RATES.items()}
    model.compile(**optimizers)
    return model


def batches(count, size=8):
    random = np.random.default_rng(5)
    for _ in range(count):
        yield random.uniform(size=(size, 2, 3, 1)), random.integers(3, size=size), random.uniform(0.2, 3, size)


def all_weights(model):
    return [*model.encoder.get_weights(), *model.classifier.get_weights(), *model.regularizer.critic.get_weights()]


def as_data(*arrays):
    return tuple(tf.constant(array) for array in arrays if array is not None)


def moves(before, after):
    return [np.abs(new - old).max() for old, new in zip(before, after, strict=True)]
