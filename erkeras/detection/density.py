"""One Gaussian kernel density for each class."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from sklearn.cluster import KMeans

from erkeras.errors import InputError

#: Candidates for the bandwidth, as portions of the median distance within a class.
_PORTIONS = np.geomspace(0.02, 1.0, 24)
#: Points of each class whose held-out likelihood is looked at.
_HELD_OUT = 500
#: Features and centres that are compared at once.
_QUERIES, _CENTRES = 512, 2048


class ClassDensities(tf.Module):
    """Gaussian kernel densities p(feature | class), in float64: float32 loses the digits that tell scores apart.

        log p(x | c) = logsumexp_i(log w_i - ||x - x_i||^2 / (2 h_i^2) - d log(h_i sqrt(2 pi)))

    over the centres x_i of class c. Of a kernel density all h_i are the same and w_i = 1 / n_c.

    Args:
        centres: float32 `[m, size]`, the points of all classes, one class after the other.
        counts: int `[classes]`, how many points each class has.
        bandwidth: h, in units of the features: one number, or float64 `[m]`.
        weights: w, float64 `[m]`, of each class in sum 1; None for equal ones.
    """

    def __init__(
        self,
        centres: np.ndarray,
        counts: Sequence[int],
        bandwidth: float | np.ndarray,
        weights: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.counts = np.asarray(counts, np.int64)
        if weights is None:
            weights = 1.0 / self.counts.repeat(self.counts)
        # Variables, so that a SavedModel holds them once for all its signatures.
        self._centres = tf.Variable(centres, trainable=False, dtype=tf.float32)
        self._bandwidth = tf.Variable(np.broadcast_to(bandwidth, len(centres)), trainable=False, dtype=tf.float64)
        self._weights = tf.Variable(weights, trainable=False, dtype=tf.float64)

    @property
    def centres(self) -> np.ndarray:
        return self._centres.numpy()

    @property
    def bandwidth(self) -> np.ndarray:
        return self._bandwidth.numpy()

    @property
    def weights(self) -> np.ndarray:
        return self._weights.numpy()

    @classmethod
    def fit(
        cls,
        features: np.ndarray,
        labels: np.ndarray,
        classes: int,
        bandwidth: float | None = None,
        limit: int | None = None,
        seed: int = 0,
    ) -> ClassDensities:
        """Fits one density for each class.

        Args:
            features: `[n, size]`.
            labels: int `[n]`.
            classes: how many classes there are; each needs two points.
            bandwidth: None for the one of the highest leave-one-out likelihood on (up to 500 a class of) the
                features themselves.
            limit: at most this many points of each class become centres, drawn at random; None for all.
            seed: of both draws.

        Raises:
            InputError: where a class has fewer than two points.
        """
        random = np.random.RandomState(seed)
        order = random.permutation(len(labels))
        points = [np.asarray(features[order[labels[order] == label][:limit]], np.float64) for label in range(classes)]
        counts = [len(part) for part in points]
        if min(counts) < 2:
            raise InputError(
                f"class {np.argmin(counts)} has {min(counts)} images to fit a density on: give at least two."
            )
        return cls(np.concatenate(points), counts, bandwidth or _best_bandwidth(points))

    def reduced(self, limit: int, seed: int = 0) -> ClassDensities:
        """A mixture of fewer centres: k-means of each class' points, each mean with the spread of its cluster.

        A cluster has the weight of its points, and the mean variance, over the dimensions, of what it stands for.

        Args:
            limit: at most this many centres for each class.
            seed: of k-means.
        """
        of_classes = (
            np.split(column, self.counts.cumsum()[:-1]) for column in (self.centres, self.bandwidth, self.weights)
        )
        parts = []
        for points, bandwidth, weights in zip(*of_classes, strict=True):
            distinct = len(np.unique(points, axis=0))
            means = KMeans(min(limit, distinct), random_state=seed).fit(
                points.astype(np.float64), sample_weight=weights
            )
            totals = np.bincount(means.labels_, weights)
            scatter = ((points - means.cluster_centers_[means.labels_]) ** 2).mean(axis=1)
            variances = np.bincount(means.labels_, weights * (bandwidth**2 + scatter)) / totals
            parts.append((means.cluster_centers_, np.sqrt(variances), totals))
        centres, spreads, totals = (np.concatenate(column) for column in zip(*parts, strict=True))
        return ClassDensities(centres, [len(part[0]) for part in parts], spreads, totals)

    def log_density(self, features: tf.Tensor) -> tf.Tensor:
        """log p(feature | class), float64 `[n, classes]`, of features `[n, size]`; a graph that exports.

        Exact, in bounded memory: so many features at a time, against so many centres.
        """
        features = tf.cast(features, tf.float64)
        return tf.stack([self._of_class(features, label) for label in range(len(self.counts))], axis=1)

    def log_density_at(self, features: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """log p(feature | its class), float64 `[n]`, of features `[n, size]` and int labels `[n]`.

        As `log_density`, without the work for the other classes.
        """
        features = tf.cast(features, tf.float64)
        found = tf.zeros(tf.shape(features)[:1], tf.float64)
        for label in range(len(self.counts)):
            rows = tf.where(labels == label)

            def with_class(found: tf.Tensor = found, rows: tf.Tensor = rows, label: int = label) -> tf.Tensor:
                values = self._of_class(tf.gather(features, rows[:, 0]), label)
                return tf.tensor_scatter_nd_update(found, rows, values)

            found = tf.cond(tf.size(rows) > 0, with_class, lambda found=found: found)
        return found

    def _of_class(self, features: tf.Tensor, label: int) -> tf.Tensor:
        """log p(feature | label), `[n]`."""
        blocks = self._blocks(label)

        def of_block(start: tf.Tensor) -> tf.Tensor:
            part = features[start : start + _QUERIES]
            lifted = tf.concat([part, tf.reduce_sum(part**2, axis=1, keepdims=True), tf.ones_like(part[:, :1])], axis=1)
            return _log_sum(lifted, blocks)

        n = tf.shape(features)[0]
        results = tf.TensorArray(tf.float64, 0, dynamic_size=True, infer_shape=False, element_shape=[None])
        results = results.write(0, of_block(tf.constant(0)))  # there may be no feature at all
        _, results = tf.while_loop(
            lambda number, _: number * _QUERIES < n,
            lambda number, results: (number + 1, results.write(number, of_block(number * _QUERIES))),
            (tf.constant(1), results),
            parallel_iterations=1,  # more would only cost memory
        )
        return tf.ensure_shape(results.concat(), [None])

    def _blocks(self, label: int) -> list[tf.Tensor]:
        """Matrices B `[size + 2, centres]` of a class: a feature x has the exponents [x, ||x||^2, 1] B."""
        end = int(self.counts[: label + 1].sum())
        start = end - int(self.counts[label])
        centres = tf.cast(self._centres[start:end], tf.float64)
        weights, bandwidth = self._weights[start:end], self._bandwidth[start:end]
        precision = 1 / bandwidth**2
        constants = tf.math.log(weights) - centres.shape[1] * tf.math.log(bandwidth * math.sqrt(2 * math.pi))
        constants -= precision * tf.reduce_sum(centres**2, axis=1) / 2
        columns = tf.concat(
            [precision[:, tf.newaxis] * centres, -precision[:, tf.newaxis] / 2, constants[:, tf.newaxis]], axis=1
        )
        return [tf.transpose(columns[first : first + _CENTRES]) for first in range(0, end - start, _CENTRES)]


def _log_sum(lifted: tf.Tensor, blocks: list[tf.Tensor]) -> tf.Tensor:
    """logsumexp over all columns of all blocks of their product with `lifted`, `[n]`."""
    parts = []
    for block in blocks:
        exponents = tf.matmul(lifted, block)
        # Less work than tf.reduce_logsumexp, which allows for infinite ones.
        highest = tf.stop_gradient(tf.reduce_max(exponents, axis=1, keepdims=True))
        parts.append(tf.math.log(tf.reduce_sum(tf.exp(exponents - highest), axis=1)) + highest[:, 0])
    return tf.reduce_logsumexp(tf.stack(parts, axis=1), axis=1)


def _squared_distances(points: tf.Tensor, centres: tf.Tensor) -> tf.Tensor:
    products = tf.matmul(points, centres, transpose_b=True)
    squares = tf.reduce_sum(points**2, axis=1, keepdims=True) + tf.reduce_sum(centres**2, axis=1)
    return tf.maximum(squares - 2 * products, 0.0)


def _best_bandwidth(points_of_classes: list[np.ndarray]) -> float:
    """The candidate of the highest leave-one-out log likelihood, one bandwidth for all classes."""
    distances, medians = [], []
    for points in points_of_classes:
        # The points come in random order.
        squared = _squared_distances(tf.constant(points[:_HELD_OUT]), tf.constant(points)).numpy()
        np.fill_diagonal(squared, np.inf)  # leaves the point itself out
        distances.append((squared, squared.min(axis=1, keepdims=True)))
        medians.append(np.median(np.sqrt(squared[np.isfinite(squared)])))
    # Points that coincide would ask for a bandwidth of zero.
    unit = max(float(np.median(medians)), 1e-6)
    size = points_of_classes[0].shape[1]

    def likelihood(bandwidth: float) -> float:
        held_out = [
            # np.logaddexp.reduce, ten times faster
            np.log(np.exp((nearest - squared) / (2 * bandwidth**2)).sum(axis=1, keepdims=True))
            - nearest / (2 * bandwidth**2)
            - math.log(squared.shape[1] - 1)
            for squared, nearest in distances
        ]
        return float(np.concatenate(held_out).mean() - size * math.log(bandwidth))

    return max((unit * portion for portion in _PORTIONS), key=likelihood)
