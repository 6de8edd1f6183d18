"""What the tests of attacks share: models whose nearest adversarial images are known exactly, and parts of batches."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers


def uniform(shape, low=0.0, high=1.0, seed=0):
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def linear_model(matrix):
    matrix = tf.constant(matrix, tf.float32)
    return lambda images: tf.reshape(images - 0.5, [tf.shape(images)[0], -1]) @ matrix


def bent_model(matrix):
    """The linear model's logits through a rising function with two kinks: the same labels, other gradients."""
    linear = linear_model(matrix)

    def model(images):
        logits = linear(images)
        return 0.5 * logits + tf.nn.relu(logits + 0.5) + tf.nn.relu(logits - 0.4)

    return model


def two_layers(image_shape, seed=1):
    """A random piecewise linear model of three classes."""
    random = np.random.default_rng(seed)
    first, second = (
        tf.constant(random.normal(size=size), tf.float32) for size in ((int(np.prod(image_shape)), 16), (16, 3))
    )
    return lambda images: tf.nn.relu(tf.reshape(images - 0.5, [tf.shape(images)[0], -1]) @ first) @ second


def unmoved(images):
    """A model that is never wrong about class 0."""
    return tf.one_hot(tf.zeros([tf.shape(images)[0]], tf.int32), 3)


def leads(model, images, labels):
    """How far the label's logit is above the others."""
    logits = model(tf.constant(images)).numpy()
    own = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    np.put_along_axis(logits, labels[:, None], -np.inf, axis=1)
    return own - logits.max(axis=1)


def points_of(model, shape, seed=0):
    """Images with pixels on both bounds, and the model's labels."""
    images = np.clip(uniform(shape, -0.2, 1.2, seed), 0, 1)
    return images, model(tf.constant(images)).numpy().argmax(axis=1)


def steep_network(classes=4, scale=8.0):
    """A random convolutional network of 6 x 6 images with steep logits."""
    steep = keras.initializers.VarianceScaling(scale)
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(6, 3, activation="relu", kernel_initializer=steep),
            layers.Flatten(),
            layers.Dense(12, activation="relu", kernel_initializer=steep),
            layers.Dense(classes, kernel_initializer=steep),
        ]
    )


def steep_points(network, count=50):
    """Images with the network's own labels, but for every tenth, whose label is wrong."""
    images = uniform((count, 6, 6, 1))
    labels = network(images).numpy().argmax(axis=1)
    labels[::10] = (labels[::10] + 1) % 4
    return images, labels


def to_hyperplane(point, weights, offset, norm, lower=0.0, upper=1.0):
    """`projections.to_hyperplane` for one point, in float64: every piece of the multiplier's function is looked at."""
    toward = np.sign(weights) * np.sign(offset)
    room = np.where(toward > 0, upper - point, point - lower) * np.abs(toward)
    speed = np.ones_like(weights) if norm == "l_inf" else np.abs(weights)

    def moves(multiplier):
        return np.minimum(multiplier * speed, room)

    def gain(multiplier):
        return np.abs(weights) @ moves(multiplier)

    if np.abs(weights) @ room <= abs(offset):
        return toward * room
    moving = toward != 0
    ends = np.sort(np.append(0, room[moving] / speed[moving]))
    piece = np.searchsorted([gain(end) for end in ends], abs(offset), side="left")
    low, high = ends[piece - 1], ends[piece]
    fraction = (abs(offset) - gain(low)) / (gain(high) - gain(low))
    return toward * moves(low + fraction * (high - low))


def nearest_distances(images, labels, matrix, norm, bounds=(0.0, 1.0), lead=0.0):
    """To the nearest image of the box where another class of a linear model leads by `lead`; infinite if none does."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    logits = (flat - 0.5) @ matrix
    distances = np.full(logits.shape, np.inf)
    for row, label in enumerate(labels):
        for other in set(range(matrix.shape[1])) - {label}:
            weights = matrix[:, other] - matrix[:, label]
            offset = logits[row, label] - logits[row, other] + lead
            delta = to_hyperplane(flat[row], weights, offset, norm, *bounds)
            if np.isclose(weights @ delta, offset):
                distances[row, other] = np.linalg.norm(delta, np.inf if norm == "l_inf" else 2)
    return distances.min(axis=1)


def images_at(distance, count, matrix, norm):
    """Images of 3 x 4 pixels near grey, at a distance from a linear model's boundary, and their labels.

    By bisection along a line that crosses the boundary; in the box of -1 to 2.
    """
    random = np.random.default_rng(4)
    labels = np.arange(count) % matrix.shape[1]
    shape = (count, 3, 4, 1)
    near = 0.5 + random.uniform(-0.02, 0.02, shape)
    toward = np.stack([matrix[:, label] - matrix.mean(axis=1) for label in labels]).reshape(shape)
    low, high = np.zeros(count), np.ones(count)
    for _ in range(40):
        middle = (low + high) / 2
        images = near + middle[:, None, None, None] * toward
        right = ((images.reshape(count, -1) - 0.5) @ matrix).argmax(axis=1) == labels
        far = right & (nearest_distances(images, labels, matrix, norm, (-1.0, 2.0)) >= distance)
        low, high = np.where(far, low, middle), np.where(far, middle, high)
    np.testing.assert_allclose(nearest_distances(images, labels, matrix, norm, (-1.0, 2.0)), distance, rtol=1e-6)
    return images.astype(np.float32), labels


def check_parts(run, count, sizes, atol=1e-6):
    """`run(rows)` must give for a few of the images, and for all in another order, what it gives for all of them."""
    everything = run(np.arange(count))
    assert 5 < everything.success.sum() < count - 3
    shuffled = np.random.default_rng(8).permutation(count)
    parts = [shuffled[sum(sizes[:place]) :][:size] for place, size in enumerate(sizes)]
    assert [len(rows) for rows in parts] == list(sizes)
    for rows in [*parts, shuffled]:
        part = run(rows)
        for name in ("success", "predictions", "clean_predictions", "queries", "gradients"):
            np.testing.assert_array_equal(getattr(part, name), getattr(everything, name)[rows], name)
        np.testing.assert_allclose(part.images, everything.images[rows], atol=atol)
