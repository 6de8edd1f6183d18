"""erkeras train."""

import importlib
import sys

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
        (["--network", "best"], "'best' is neither digits, mnist,"),
        (["--network", "no_such_module:build"], "nor MODULE:FUNCTION of a module in this folder nor FILE.keras"),
        (["--network", "math:nothing"], "the network 'math:nothing' cannot be imported (AttributeError"),
        (["--network", "math:floor"], "the network 'math:floor' asks for 'x': let it take image_shape, classes"),
        (["--network", "missing.keras"], "missing.keras does not exist"),
        (["--network", "mnist-deep"], "mnist-deep cannot take images of 8 x 8"),
        (["--code-layer", "pool"], "code layer was given, and has no effect with the defense er-classifier"),
        (["--code-layer", ""], "the code layer has no name: give the name of a layer, or leave it out"),
        (["--label-smoothing", "1"], "is not in the range"),
        (["--cutout", "-0.5"], "is not in the range"),
        (["--code-size", "0"], "0 is not in the range"),
        (["--defense", "none", "--code-size", "3"], "code size was given, and has no effect with the defense none"),
        (["--import", "json"], "--import was given, and has no effect without --network FILE.keras"),
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
    assert result.output.endswith(f"As a page: erkeras report {saved_model}\n")


def network(outputs=10, channels=1, *layers):
    import keras

    return keras.Sequential(
        [
            keras.Input((8, 8, channels)),
            *layers,
            keras.layers.Flatten(),
            keras.layers.Dense(6, activation="relu", name="code"),
            keras.layers.Dense(outputs),
        ]
    )


def test_train_refuses_files_that_are_no_such_classifier(anywhere):
    import keras

    (anywhere / "text.keras").write_text("hello")
    (anywhere / "empty.keras").touch()
    (anywhere / "folder.keras").mkdir()
    (anywhere / "folder").mkdir()
    network().save("old.h5")
    for name, outputs in (("picture", keras.layers.Conv2D(1, 3)), ("flat", keras.layers.Dense(10))):
        keras.Sequential([keras.Input((8, 8, 1)), outputs]).save(f"{name}.keras")
    keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)]).save("rows.keras")
    network(7).save("seven.keras")
    network(10, 3).save("colours.keras")
    network(10, 1, keras.layers.Lambda(lambda images: 2 * images)).save("lambda.keras")
    network().save("good.keras")
    before = sorted(anywhere.iterdir())
    for arguments, message in (
        (["text.keras"], "text.keras is not a whole .keras file"),
        (["empty.keras"], "empty.keras is not a whole .keras file"),
        (["folder.keras"], "folder.keras is no file: give a .keras file"),
        (
            ["folder"],
            "folder is no .keras file: give FILE.keras, as model.save('FILE.keras') of Keras writes it, or the",
        ),
        (["old.h5"], "old.h5 is no .keras file: give FILE.keras"),
        (["picture.keras"], "gives outputs of shape (4, 6, 6, 1) for 4 images: give a model with one row of logits"),
        (["flat.keras"], "gives outputs of shape (4, 8, 8, 10) for 4 images"),
        (["rows.keras"], "takes inputs of shape (64,): give one that takes images of one size"),
        (["seven.keras"], "gives 7 classes and the data set has 10"),
        (["colours.keras"], "takes images of 8 x 8 x 3 and the data set has images of 8 x 8 x 1"),
        (["lambda.keras"], "lambda.keras has a Lambda layer, which would run code of the file"),
        (["good.keras", "--code-layer", "nothing"], "the model has no layer 'nothing': give the path of one"),
        (["good.keras", "--code-layer", "flatten_99"], "the model has no layer 'flatten_99'"),
        (["good.keras", "--code-size", "6"], "code size was given, and has no effect"),
        (["good.keras", "--defense", "vae-cla"], "gaussian-kl makes a new code"),
    ):
        refused(run("train", "--fast", "--network", *arguments), message)
    assert sorted(anywhere.iterdir()) == before


def test_a_trained_file_is_made_robust_and_noticed_when_it_changes(anywhere):
    network().save("mine.keras")
    arguments = ["train", "--network", "mine.keras", "--code-layer", "code", "--epochs", 1, "--limit", 10]
    arguments += ["--restarts", 1, "--fast", "--output", "robust"]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "is complete" in run(*arguments, "--resume").output
    network().save("mine.keras")
    refused(run(*arguments, "--resume"), "robust was started with network_fingerprint")


def test_a_file_of_ones_own_layers_takes_their_module(anywhere, monkeypatch):
    import keras

    monkeypatch.setattr(sys, "path", [*sys.path])
    (anywhere / "layers_of_test.py").write_text(
        "import keras\n\n\n@keras.saving.register_keras_serializable('own')\nclass Doubled(keras.layers.Layer):\n"
        "    def call(self, images):\n        return 2 * images\n"
    )
    sys.path.append(str(anywhere))
    network(10, 1, importlib.import_module("layers_of_test").Doubled()).save("mine.keras")
    del sys.modules["layers_of_test"], keras.saving.get_custom_objects()["own>Doubled"]
    arguments = ["train", "--network", "mine.keras", "--epochs", 1, "--limit", 10, "--restarts", 1, "--fast"]
    refused(run(*arguments), "mine.keras is made of Doubled, which is not registered: --import the module")
    result = run(*arguments, "--import", "layers_of_test", "--output", "robust")
    assert result.exit_code == 0, result.output
    del sys.modules["layers_of_test"], keras.saving.get_custom_objects()["own>Doubled"]
