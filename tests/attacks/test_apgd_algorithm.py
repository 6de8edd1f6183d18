"""APGD's steps against Algorithm 1 of its paper."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from helpers.attempts import batch_of, follow
from helpers.closed_forms import uniform

from erkeras.attacks import APGD
from erkeras.attacks.losses import LOSSES
from erkeras.attacks.targets import target_classes
from erkeras.threat import ThreatModel

CHECKPOINTS = (22, 41, 57, 70, 80, 87, 93, 99)  # of 100 iterations


class Rendering:
    """Algorithm 1 of the paper for one image, word by word, in NumPy."""

    def __init__(self, image, threat, rho):
        self.image, self.norm, self.epsilon, self.rho = image, threat.norm, np.float32(threat.epsilon), rho

    def project(self, x):
        if self.norm == "l_inf":
            return np.clip(np.clip(x, self.image - self.epsilon, self.image + self.epsilon), 0, 1)
        length = np.sqrt(np.sum(np.square(x - self.image)))
        return np.clip(self.image + (x - self.image) * min(1, self.epsilon / max(length, 1e-12)), 0, 1)

    def direction(self, gradient):
        if self.norm == "l_inf":
            return np.sign(gradient)
        return gradient / np.sqrt(np.sum(np.square(gradient)))

    def run(self, start):
        """Yields each iterate and the step size it came by, and is sent (itself, its loss, its gradient).

        What is sent as the iterate itself may differ by its rounding, which then does not pile up.
        """
        x, x_old, step_size = start, start, 2 * self.epsilon
        losses, best, last = [], None, None
        self.reasons = []
        for k in itertools.count():
            x, loss, gradient = yield x, step_size
            losses.append(loss)
            if best is None or loss > best[0]:
                best = loss, x, gradient
            if k in CHECKPOINTS:
                before = CHECKPOINTS[CHECKPOINTS.index(k) - 1] if k > 22 else 0
                rises = sum(losses[i] > losses[i - 1] for i in range(before + 1, k + 1))
                oscillates = rises <= self.rho * (k - before)
                stuck = (step_size, best[0]) == last
                last = step_size, best[0]
                if oscillates or stuck:
                    step_size /= 2
                    _, x, gradient = best
                    self.reasons.append("oscillates" if oscillates else "stuck")
            alpha = np.float32(0.75 if k else 1)
            z = self.project(x + step_size * self.direction(gradient))
            x, x_old = self.project(x + alpha * (z - x) + (1 - alpha) * (x - x_old)), x


@pytest.mark.parametrize(
    ("norm", "loss", "targets", "rho"),
    [
        ("l_inf", "cross_entropy", 0, 0.75),
        ("l_inf", "dlr", 0, 0.75),
        ("l_inf", "dlr", 3, 0.4),
        ("l2", "margin", 0, 0.75),
        ("l2", "dlr", 3, 0.4),
    ],
)
def test_equals_a_slow_rendering_of_the_algorithm(norm, loss, targets, rho):
    random = np.random.default_rng(1)
    first, second = (random.normal(size=size).astype(np.float32) for size in ((24, 16), (16, 5)))
    images, labels = uniform((12, 4, 3, 2), seed=2), np.arange(12) % 5
    lead = tf.one_hot(labels, 5, 20.0)  # nothing is misclassified, so that no attempt ends early

    def model(images):
        return tf.sin(tf.reshape(images, [-1, 24]) @ first) @ second + lead

    attack = APGD(ThreatModel(norm, {"l_inf": 0.1, "l2": 0.3}[norm]), loss=loss, targets=targets, rho=rho)
    batch = batch_of(images, labels, model, seed=3, attempt=4)

    @tf.function(autograph=False)
    def loss_and_gradient(points):
        with tf.GradientTape() as tape:
            tape.watch(points)
            losses = LOSSES[loss](batch.labels, model(points), target_classes(batch, targets))
        return losses, tape.gradient(losses, points)

    made = follow(attack, model, batch, delays=np.arange(12) * 5 % 31)
    np.testing.assert_array_equal(made["step"], np.tile(np.arange(101)[:, np.newaxis], 12))
    renderings = [Rendering(image, attack.threat, rho) for image in images]
    runs = [rendering.run(start) for rendering, start in zip(renderings, made["point"][0], strict=True)]
    rendered = [next(run) for run in runs]
    for points, step_sizes in zip(made["point"], made["step_size"], strict=True):
        np.testing.assert_allclose([x for x, _ in rendered], points, rtol=0, atol=1e-6)
        np.testing.assert_array_equal([size for _, size in rendered], step_sizes)
        losses, gradients = (part.numpy() for part in loss_and_gradient(tf.constant(points)))
        judged = zip(runs, points, losses, gradients, strict=True)
        rendered = [run.send(answer) for run, *answer in judged]

    halvings = np.array([len(rendering.reasons) for rendering in renderings])
    assert halvings.min() > 1
    assert halvings.min() < len(CHECKPOINTS)
    reasons = {reason for rendering in renderings for reason in rendering.reasons}
    assert reasons == {"oscillates", "stuck"} or rho == 0.75


@pytest.mark.parametrize(
    ("iterations", "checkpoints"),
    [
        (100, CHECKPOINTS),
        (50, (11, 21, 30, 38, 45, 51)),
        (20, (4, 7, 9, *range(10, 20))),
        (3, (1, 2)),
        (1, ()),
    ],
)
def test_step_size_halves_at_every_checkpoint_where_the_loss_is_flat(iterations, checkpoints):
    """Also with a gradient of zero, which moves nothing."""

    def model(images):
        return tf.tile([[1.0, 0.0, 0.0]], [2, 1]) + 0 * tf.reduce_sum(images, axis=[1, 2, 3])[:, tf.newaxis]

    attack = APGD(ThreatModel("l2", 0.3), iterations=iterations)
    assert attack.length == iterations + 1
    made = follow(attack, model, batch_of(uniform((2, 2, 2, 1)), [0, 0], model))
    expected = 0.6 * 0.5 ** np.searchsorted(checkpoints, np.arange(iterations + 1), side="left")
    np.testing.assert_allclose(made["step_size"], np.stack([expected] * 2, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(made["point"], np.broadcast_to(made["point"][0], made["point"].shape))
