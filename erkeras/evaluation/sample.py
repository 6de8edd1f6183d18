"""Images by what draws them: a data set, a split, a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from erkeras.data import Dataset, Split, load_dataset

#: Set I of section 4.5.1.
_FITTING_FRACTION = 0.2


@dataclass(frozen=True)
class Sample:
    """Draws a sample of a data set by a seed. The same arguments give the same images.

    Args:
        dataset: as `load_dataset` takes it.
        split: "test" or "validation".
        limit: how many images; None for all.
        seed: of the draw.
        part: "I" or "II", on which detectors are fitted and compared (section 4.5.1); None for the whole split.
    """

    dataset: str
    split: str = "test"
    limit: int | None = 1000
    seed: int = 0
    part: str | None = None

    def load(self, dataset: Dataset | None = None) -> Split:
        """Loads the images.

        Args:
            dataset: where it is loaded already.

        Raises:
            InputError: as `load_dataset`.
        """
        return self.draw(getattr(dataset or load_dataset(self.dataset), self.split))

    def draw(self, split: Split) -> Split:
        """Draws the images from a whole split."""
        if self.part is None:
            return split.sample(self.limit, self.seed)
        part = fitting_and_test_sets(split, self.seed)[self.part == "II"]
        return part.take(np.arange(min(len(part) if self.limit is None else self.limit, len(part))))

    @property
    def words(self) -> str:
        """Names the images of the data set: "test", or "test, set I"."""
        return self.split if self.part is None else f"{self.split}, set {self.part}"


def fitting_and_test_sets(split: Split, seed: int) -> tuple[Split, Split]:
    """Makes set I and set II of section 4.5.1: a fifth of the images, drawn by the seed, and the others, in random
    order."""
    order = np.random.RandomState(seed).permutation(len(split))
    count = round(_FITTING_FRACTION * len(split))
    return split.take(order[:count]), split.take(order[count:])
