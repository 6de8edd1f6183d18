"""erkeras train."""

import numpy as np
import pytest

from helpers.commands import refused, run


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "nope"], "there is no data set 'nope'"),
        (["--epsilon", "-0.1"], "-0.1 is not in the range"),
        (["--epsilon", "nan"], "'nan' is not a finite number"),
        (["--learning-rate", "inf"], "'inf' is not a finite number"),
        (["--defense", "none", "--coefficient", "0.1"], "the coefficient (lambda) is 0.1 for a network without a code"),
        (["--output", "/dev/null/model"], "Not a directory"),
        (["--epsilon", "1.5"], "epsilon is 1.5 in l_inf: give a number from 0 to 1"),
        (["--norm", "l2"], "no epsilon is known for digits and the norm l2: give --epsilon"),
        (["--norm", "l1"], "'l1' is not one of"),
        (["--weight-decay", "1e-3"], "weight decay was given, and has no effect"),
        (["--optimizer", "adamw", "--momentum", "0.8"], "momentum was given, and has no effect"),
        (["--optimizer", "lion"], "'lion' is not one of"),
        (["--epsilon", "much"], "'much' is not a valid"),
        (["--epochs", "0"], "0 is not in the range"),
        (["--epochs", "-3"], "-3 is not in the range"),
        (["--batch-size", "0"], "0 is not in the range"),
        (["--seed", "-1"], "-1 is not in the range"),
        (["--clean-fraction", "1"], "is not in the range"),
        (["--defense", "gan"], "'gan' is not one of"),
        (["--beta", "-1"], "-1.0 is not in the range"),
        (["--regularizer", "best"], "'best' is neither wasserstein, mmd, gaussian-kl nor MODULE:CLASS"),
        (["--regularizer", "no_such_module:Best"], "'no_such_module:Best' is neither"),
        (["--recipe", "best"], "'best' is not one of"),
        (["--beta", "3"], "beta was given, and has no effect with the defense er-classifier"),
        (["--defense", "madry", "--coupling", "joint"], "coupling was given, and has no effect"),
        (["--defense", "e-cla", "--steps", "3"], "steps was given, and has no effect"),
        (["--training-ratio", "0", "--bfloat16"], "bfloat16 was given, and has no effect"),
        (["--defense", "defense-gan", "--compact"], "has no detector"),
        (["--recipe", "paper"], "is for mnist, cifar10, stl10, tiny_imagenet, not for digits"),
        (["--dataset", "folder:missing"], "missing is not a folder"),
        (["--dataset", "npz:missing.npz"], "missing.npz does not exist"),
        (["--dataset", "tfds:no_such_set"], "there is no set no_such_set in tensorflow-datasets"),
        (["--dataset", "tfds:cats_vs_dogs"], "tfds:cats_vs_dogs has images of shape (None, None, 3)"),
        (["--dataset", "tiny_imagenet:missing:10"], "missing is not a folder: give tiny_imagenet:PATH"),
        (["--nonsense"], "No such option"),
    ],
)
def test_train_refuses(anywhere, arguments, message):
    refused(run("train", *arguments), message)
    assert list(anywhere.iterdir()) == []


def test_train_refuses_an_output_that_exists(anywhere):
    (anywhere / "there").mkdir()
    refused(run("train", "--output", "there"), "there exists: give another --output")
    assert list((anywhere / "there").iterdir()) == []
    refused(run("train", "--output", "there", "--resume"), "there has no card.json")


def test_train_refuses_bad_sets(anywhere):
    for name in ("a", "b"):
        (anywhere / "set" / name).mkdir(parents=True)
    refused(run("train", "--dataset", "folder:set"), "set/a has no images")
    good, labels = np.zeros((4, 2, 2)), np.zeros(4, int)
    cases = [
        ({"images": good}, "give an .npz file with the arrays images, labels"),
        ({"images": good + np.nan, "labels": labels}, "are not numbers (NaN or infinity)"),
        ({"images": good + 300, "labels": labels}, "go from 300 to 300, outside [0, 1]"),
        ({"images": good - 1, "labels": labels}, "go from -1 to -1, outside [0, 1]"),
    ]
    for arrays, message in cases:
        npz(anywhere / "bad.npz", **arrays)
        refused(run("train", "--dataset", "npz:bad.npz"), message)
    assert not (anywhere / "saved_models").exists()


def test_a_finished_training_shows_its_figures_again(saved_model, tiny_job):
    recipe = tiny_job.recipe
    arguments = ["train", "--output", saved_model, "--resume", "--epochs", recipe.epochs, "--limit", tiny_job.limit]
    result = run(*arguments, "--restarts", tiny_job.restarts, "--baseline", "--fast")
    assert result.exit_code == 0, result.output
    assert "is complete" in result.output
    assert "the same network without defense" in result.output
