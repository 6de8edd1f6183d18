"""One Gaussian kernel density for each class."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from erkeras.errors import InputError

#: Candidates for the bandwidth, as fractions of the median distance within a class.
_FRACTIONS = np.geomspace(0.02, 1.0, 24)
#: Points of each class whose held-out likelihood is looked at.
_HELD_OUT = 500
#: Features and centres whose pairs are looked at once: 4 MiB, which a processor's cache holds.
_FEATURES, _CENTRES = 512, 1024


class ClassDensities(tf.Module):
    """Estimates Gaussian kernel densities p(feature | class). float32 would round scores together: it uses float64.

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
        rows = [order[labels[order] == label][:limit] for label in range(classes)]
        counts = [len(part) for part in rows]
        if min(counts) < 2:
            raise InputError(
                f"class {np.argmin(counts)} has {min(counts)} images to fit a density on: give at least two."
            )
        # Of one class at a time, and no more digits than are kept: a residual network's features fill gigabytes.
        bandwidth = bandwidth or _best_bandwidth(np.asarray(features[part], np.float64) for part in rows)
        centres = np.empty((sum(counts), features.shape[1]), np.float32)
        for part, end in zip(rows, np.cumsum(counts), strict=True):
            centres[end - len(part) : end] = features[part]
        return cls(centres, counts, bandwidth)

    def reduced(self, limit: int, seed: int = 0) -> ClassDensities:
        """Makes a mixture of fewer centres: k-means of each class, each mean with its cluster's spread.

        A cluster has the weight of its points, and the mean variance, over the dimensions, of what it stands for.

        Args:
            limit: at most this many centres for each class.
            seed: of k-means.
        """
        from sklearn.cluster import KMeans  # slow to load, and verdicts do without

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
        """Computes log p(feature | class), float64 `[n, classes]`, of features `[n, size]`, in a graph that exports.

        Exact, in bounded memory: a block of features and centres at a time.
        """
        features = tf.cast(features, tf.float64)
        columns = tf.map_fn(
            lambda label: self._of_class(features, label),
            tf.range(len(self.counts)),
            fn_output_signature=tf.TensorSpec([None], tf.float64),
            parallel_iterations=1,  # more would only cost memory
        )
        return tf.transpose(columns)

    def log_density_at(self, features: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Computes log p(feature | its class), float64 `[n]`, of features `[n, size]` and int labels `[n]`.

        As `log_density`, without the work for classes that no label is of.
        """
        features = tf.cast(features, tf.float64)
        present, _ = tf.unique(labels)

        def of_label(number: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            rows = tf.where(labels == present[number])
            values = self._of_class(tf.gather(features, rows[:, 0]), present[number])
            return number + 1, tf.tensor_scatter_nd_update(found, rows, values)

        _, found = tf.while_loop(
            lambda number, _: number < tf.size(present),
            of_label,
            (tf.constant(0), tf.zeros(tf.shape(features)[:1], tf.float64)),
            parallel_iterations=1,
        )
        return found

    def _of_class(self, features: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
        """log p(feature | label), `[n]`."""
        exponents = self._exponents(label)
        lifted = tf.concat([features, tf.reduce_sum(features**2, axis=1, keepdims=True)], axis=1)
        lifted = tf.pad(lifted, [[0, 0], [0, 1]], constant_values=1.0)
        starts = tf.range(0, tf.shape(exponents)[0], _CENTRES)

        def of_block(start: tf.Tensor) -> tf.Tensor:
            rows = lifted[start : start + _FEATURES]

            def of_centres(first: tf.Tensor) -> tf.Tensor:
                products = tf.matmul(rows, exponents[first : first + _CENTRES], transpose_b=True)
                return tf.reduce_logsumexp(products, axis=1)

            if self.counts.max() <= _CENTRES:  # a loop would cost a served request more than its work
                return of_centres(tf.constant(0))
            signature = tf.TensorSpec([None], tf.float64)
            return tf.reduce_logsumexp(
                tf.map_fn(of_centres, starts, fn_output_signature=signature, parallel_iterations=1), axis=0
            )

        def more(start: tf.Tensor, results: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            return start + _FEATURES, results.write(start // _FEATURES, of_block(start))

        results = tf.TensorArray(tf.float64, 0, dynamic_size=True, infer_shape=False, element_shape=[None])
        results = results.write(0, of_block(tf.constant(0)))  # there may be no feature at all
        _, results = tf.while_loop(
            lambda start, _: start < tf.shape(features)[0],
            more,
            (tf.constant(_FEATURES), results),
            parallel_iterations=1,
        )
        return tf.ensure_shape(results.concat(), [None])

    def _exponents(self, label: tf.Tensor) -> tf.Tensor:
        """The matrix B `[centres, size + 2]` of a class: a feature x has the exponents B [x, ||x||^2, 1]."""
        ends = tf.constant(self.counts.cumsum())
        end = ends[label]
        start = end - tf.constant(self.counts)[label]
        centres = tf.cast(self._centres[start:end], tf.float64)
        weights, bandwidth = self._weights[start:end, tf.newaxis], self._bandwidth[start:end, tf.newaxis]
        precision = 1 / bandwidth**2
        constants = tf.math.log(weights) - centres.shape[1] * tf.math.log(bandwidth * math.sqrt(2 * math.pi))
        constants -= precision * tf.reduce_sum(centres**2, axis=1, keepdims=True) / 2
        return tf.concat([precision * centres, -precision / 2, constants], axis=1)


def _squared_distances(points: tf.Tensor, centres: tf.Tensor) -> tf.Tensor:
    products = tf.matmul(points, centres, transpose_b=True)
    squares = tf.reduce_sum(points**2, axis=1, keepdims=True) + tf.reduce_sum(centres**2, axis=1)
    return tf.maximum(squares - 2 * products, 0.0)


def _best_bandwidth(points_of_classes: Iterable[np.ndarray]) -> float:
    """The candidate of the highest leave-one-out log likelihood, one bandwidth for all classes."""
    distances, medians, size = [], [], 0
    for points in points_of_classes:
        # The points come in random order.
        squared = _squared_distances(tf.constant(points[:_HELD_OUT]), tf.constant(points)).numpy()
        np.fill_diagonal(squared, np.inf)  # leaves the point itself out
        distances.append((squared, squared.min(axis=1, keepdims=True)))
        medians.append(np.median(np.sqrt(squared[np.isfinite(squared)])))
        size = points.shape[1]
    # Points that coincide would ask for a bandwidth of zero.
    unit = max(float(np.median(medians)), 1e-6)

    def likelihood(bandwidth: float) -> float:
        held_out = [
            # np.logaddexp.reduce, ten times faster
            np.log(np.exp((nearest - squared) / (2 * bandwidth**2)).sum(axis=1, keepdims=True))
            - nearest / (2 * bandwidth**2)
            - math.log(squared.shape[1] - 1)
            for squared, nearest in distances
        ]
        return float(np.concatenate(held_out).mean() - size * math.log(bandwidth))

    return max((unit * fraction for fraction in _FRACTIONS), key=likelihood)
