"""Defines the losses that gradient attacks ascend, of logits `[n, classes]` and labels int `[n]`, to float `[n]`.

With `targets`, int `[n]`, a loss asks for that class; without, for any but the label.
"""

from __future__ import annotations

from numbers import Integral

import tensorflow as tf

from erkeras.errors import InputError

#: The standard deviation over the classes that logits are brought to before the softmax of the cross-entropy. It is
#: what confident networks have by themselves. On validation images of four networks (their own was 5.3 to 6.6, and 0.5)
#: PGD and APGD left what the plain cross-entropy leaves, or fewer.
_SPREAD = 5.0


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor, targets: tf.Tensor | None = None) -> tf.Tensor:
    """Gives the odds against the label at a temperature that goes with the logits; for a target, those for it.

        T logsumexp_{i != y} z_i / T - z_y,    T = standard deviation of z over the classes / 5

    At T = 1 the softmax cross-entropy is log(1 + exp) of it: both rise along the same direction, which alone counts.
    But it does not fade where the model is confident, and logits a hundred times as large are attacked alike. T counts
    as a constant for the gradient.
    """
    scale = _scale(logits)
    return plain_cross_entropy(labels, logits * scale, targets) / scale[:, 0]


def plain_cross_entropy(labels: tf.Tensor, logits: tf.Tensor, targets: tf.Tensor | None = None) -> tf.Tensor:
    """Gives `cross_entropy` at temperature 1: what training ascends, whose logits are small at first."""
    if targets is not None:
        return -_odds_against(targets, logits)
    return _odds_against(labels, logits)


def margin(labels: tf.Tensor, logits: tf.Tensor, targets: tf.Tensor | None = None) -> tf.Tensor:
    """Measures how far the highest other logit, or the target's, is above the label's: positive where broken."""
    others = tf.reduce_max(_without(labels, logits), axis=1) if targets is None else _of(targets, logits)
    return others - _of(labels, logits)


def difference_of_logits_ratio(labels: tf.Tensor, logits: tf.Tensor, targets: tf.Tensor | None = None) -> tf.Tensor:
    """Gives the DLR (Croce and Hein 2020, eqs. 6 and 7): the margin in units of the spread of the highest logits.

    (max_{i != y} z_i - z_y) / (z_1st - z_3rd), or (z_t - z_y) / (z_1st - (z_3rd + z_4th) / 2) for a target t.
    """
    # A class that is masked out, by -infinity, has no say in the spread.
    present = tf.where(tf.math.is_inf(logits), _lowest(logits), logits)
    highest = tf.math.top_k(present, 3 if targets is None else 4).values
    lowest = highest[:, 2] if targets is None else (highest[:, 2] + highest[:, 3]) / 2
    # A maximum, where the paper adds 1e-12: TensorFlow's graphs take that sum apart, and ties give 0 / 0.
    return margin(labels, logits, targets) / tf.maximum(highest[:, 0] - lowest, 1e-12)


def rescaled_kullback_leibler(clean_logits: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Gives `kullback_leibler` of logits at the temperature of the clean ones, as `cross_entropy` does."""
    scale = _scale(clean_logits)
    return kullback_leibler(clean_logits * scale, logits * scale)


def kullback_leibler(clean_logits: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Measures how much a prediction has changed: KL(softmax(clean) || softmax(attacked))."""
    clean, attacked = tf.nn.log_softmax(clean_logits), tf.nn.log_softmax(logits)
    return tf.reduce_sum(tf.math.multiply_no_nan(clean - attacked, tf.exp(clean)), axis=1)


LOSSES = {"cross_entropy": cross_entropy, "margin": margin, "dlr": difference_of_logits_ratio}
#: What training ascends.
TRAINING_LOSSES = {**LOSSES, "cross_entropy": plain_cross_entropy}
_SHORT_NAMES = {"cross_entropy": "ce", "margin": "margin", "dlr": "dlr"}
#: The fewest classes that a loss is defined for, without and with targets.
_FEWEST_CLASSES = {"cross_entropy": (2, 2), "margin": (2, 2), "dlr": (3, 4)}


def loss_name(attack: str, loss: str, targets: int) -> str:
    """Names an attack by its loss: ATTACK-ce, -margin, -dlr; with targets ATTACK-t-ce, -t-margin, and -t for DLR."""
    if not targets:
        return f"{attack}-{_SHORT_NAMES[loss]}"
    return f"{attack}-t" if loss == "dlr" else f"{attack}-t-{_SHORT_NAMES[loss]}"


def check_loss(attack: str, loss: str, targets: int) -> None:
    """Checks the settings of a loss; raises InputError for an unknown one, or a negative number of targets."""
    if loss not in LOSSES:
        raise InputError(f"{attack}'s loss is {loss!r}: give one of {', '.join(LOSSES)}.")
    if isinstance(targets, bool) or not isinstance(targets, Integral) or targets < 0:
        raise InputError(f"{attack}'s targets are {targets}: give the number of target classes, or 0 for none.")


def check_classes(attack: str, loss: str, targets: int, classes: int) -> None:
    """Checks the number of classes; raises InputError for a model of too few for a loss."""
    fewest = _FEWEST_CLASSES[loss][targets > 0]
    if classes < fewest:
        kind = f"targeted {loss}" if targets else loss
        raise InputError(
            f"{attack} with the loss {kind} needs {fewest} classes and the model has {classes}: use the loss "
            "margin or cross_entropy."
        )


def is_answer(outputs: tf.Tensor) -> tf.Tensor:
    """Tells, bool `[n]`, which rows of outputs are numbers; a class that is masked out, by -infinity, is one."""
    numbers = tf.math.is_finite(outputs) | (outputs == float("-inf"))
    return tf.reduce_all(numbers, axis=1) & tf.reduce_any(tf.math.is_finite(outputs), axis=1)


def _odds_against(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return tf.reduce_logsumexp(_without(labels, logits), axis=1) - _of(labels, logits)


def _scale(logits: tf.Tensor) -> tf.Tensor:
    """Gives the factor `[n, 1]` that brings logits to one standard deviation, as a constant for the gradient.

    Classes that are masked out, by -infinity, do not count.
    """
    finite = tf.math.is_finite(logits)
    count = tf.maximum(tf.reduce_sum(tf.cast(finite, logits.dtype), axis=1, keepdims=True), 1)
    present = tf.where(finite, logits, tf.zeros_like(logits))
    # To a largest of 1 first: the square of a small logit is 0 in float32.
    largest = tf.maximum(tf.reduce_max(tf.abs(present), axis=1, keepdims=True), 1e-30)
    present /= largest
    mean = tf.reduce_sum(present, axis=1, keepdims=True) / count
    squares = tf.where(finite, tf.square(present - mean), tf.zeros_like(present))
    deviation = tf.sqrt(tf.reduce_sum(squares, axis=1, keepdims=True) / count)
    return tf.stop_gradient(_SPREAD / tf.maximum(deviation, 1e-6) / largest)


def _lowest(logits: tf.Tensor) -> tf.Tensor:
    """The lowest finite logit of each row, `[n, 1]`, a constant for the gradient."""
    infinity = tf.constant(float("inf"), logits.dtype)
    return tf.stop_gradient(tf.reduce_min(tf.where(tf.math.is_finite(logits), logits, infinity), axis=1, keepdims=True))


def _without(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    own = tf.cast(tf.one_hot(labels, tf.shape(logits)[1]), tf.bool)
    return tf.where(own, tf.constant(float("-inf"), logits.dtype), logits)


def _of(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return tf.gather(logits, labels, batch_dims=1)
