"""What gradient attacks ascend: functions of logits `[n, classes]` and labels int `[n]` to float `[n]`.

With `targets`, int `[n]`, a loss asks for that class; without, for any but the label.
"""

from __future__ import annotations

import tensorflow as tf

from erkeras.errors import InputError


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor, targets: tf.Tensor | None = None) -> tf.Tensor:
    """Gives the softmax cross-entropy of the label; less that of the target, where there is one.

    Written as `log(1 + exp(z))` of the other classes' log-sum-exp less the label's logit. TensorFlow's own takes 1
    from the label's probability: where float32 has rounded that to 1 (a lead of 17), its gradient forgets the
    label, and an attack on a confident model goes astray.
    """
    if targets is not None:
        return -cross_entropy(targets, logits)
    others = tf.reduce_logsumexp(_without(labels, logits), axis=1)
    return tf.math.softplus(others - _of(labels, logits))


def margin(labels: tf.Tensor, logits: tf.Tensor, targets: tf.Tensor | None = None) -> tf.Tensor:
    """Measures how far the highest other logit, or the target's, is above the label's: positive where broken."""
    others = tf.reduce_max(_without(labels, logits), axis=1) if targets is None else _of(targets, logits)
    return others - _of(labels, logits)


def difference_of_logits_ratio(labels: tf.Tensor, logits: tf.Tensor, targets: tf.Tensor | None = None) -> tf.Tensor:
    """Gives the DLR (Croce and Hein 2020, eqs. 6 and 7): the margin in units of the spread of the highest logits.

    (max_{i != y} z_i - z_y) / (z_1st - z_3rd), or (z_t - z_y) / (z_1st - (z_3rd + z_4th) / 2) for a target t.
    """
    highest = tf.math.top_k(logits, 3 if targets is None else 4).values
    lowest = highest[:, 2] if targets is None else (highest[:, 2] + highest[:, 3]) / 2
    # A maximum, where the paper adds 1e-12: TensorFlow's graphs take that sum apart, and ties give 0 / 0.
    return margin(labels, logits, targets) / tf.maximum(highest[:, 0] - lowest, 1e-12)


def kullback_leibler(clean_logits: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Measures how much a prediction has changed: KL(softmax(clean) || softmax(attacked))."""
    clean, attacked = tf.nn.log_softmax(clean_logits), tf.nn.log_softmax(logits)
    return tf.reduce_sum(tf.exp(clean) * (clean - attacked), axis=1)


LOSSES = {"cross_entropy": cross_entropy, "margin": margin, "dlr": difference_of_logits_ratio}
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
    if targets < 0:
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


def _without(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    own = tf.cast(tf.one_hot(labels, tf.shape(logits)[1]), tf.bool)
    return tf.where(own, tf.constant(float("-inf"), logits.dtype), logits)


def _of(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return tf.gather(logits, labels, batch_dims=1)
