import numpy as np

from erkeras.data import load_dataset, training_batches


def batches(split, count, **arguments):
    return [labels.numpy().tolist() for _, labels in training_batches(split, 64, **arguments).take(count)]


def test_resuming_at_an_epoch_gives_the_batches_of_that_epoch():
    train = load_dataset("digits").train
    steps = len(train) // 64
    straight = batches(train, 3 * steps, seed=1)
    assert batches(train, steps, seed=1, first_epoch=2) == straight[2 * steps :]
    assert straight[:steps] != straight[steps : 2 * steps]
    assert batches(train, steps, seed=2) != straight[:steps]


def test_an_epoch_has_every_image_at_most_once():
    train = load_dataset("digits").train
    seen = np.concatenate([images.numpy() for images, _ in training_batches(train, 64, seed=0).take(17)])
    assert len(seen) == 1088
    # The last, smaller batch of 61 is dropped.
    assert len(np.unique(seen.reshape(1088, -1), axis=0)) >= len(np.unique(train.images.reshape(-1, 64), axis=0)) - 61


def test_bytes_become_floats():
    train = load_dataset("digits").train
    split = type(train)((train.images * 255).astype(np.uint8), train.labels, train.indices)
    images, labels = next(iter(training_batches(split, 8, seed=0)))
    assert images.dtype == np.float32
    assert 0.9 < images.numpy().max() <= 1
    assert labels.dtype == np.int32
