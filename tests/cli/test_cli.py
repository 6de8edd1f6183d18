"""The command line: what it prints, and what it says of bad input."""

import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from erkeras.cli import main
from PIL import Image


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def image(path, size=(8, 8)):
    Image.fromarray(np.zeros(size, np.uint8)).save(path)
    return path


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def fails_cleanly(result, message, folder):
    before = sorted(path.name for path in folder.rglob("*"))
    assert result.exit_code == 2, result.output
    lines = result.output.strip().splitlines()
    assert len(lines) == 1, result.output
    assert lines[0].startswith("Error: ")
    assert lines[0].endswith(".")
    assert message in lines[0]
    return before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "nope"], "there is no data set 'nope'"),
        (["--epsilon", "-0.1"], "-0.1 is not in the range"),
        (["--epsilon", "nan"], "'nan' is not a finite number"),
        (["--learning-rate", "inf"], "'inf' is not a finite number"),
        (["--defense", "none", "--coefficient", "0.1"], "the coefficient (lambda) is 0.1 for a network without a code"),
        (["--output", "/dev/null/model"], "Not a directory"),
        (["--epsilon", "1.5"], "1.5 is not in the range"),
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
        (["--recipe", "best"], "there is no recipe 'best'"),
        (["--recipe", "paper"], "is for mnist, cifar10, stl10, tiny_imagenet, not for digits"),
        (["--dataset", "folder:missing"], "missing is not a folder"),
        (["--dataset", "npz:missing.npz"], "missing.npz does not exist"),
        (["--dataset", "tiny_imagenet:missing:10"], "missing is not a folder: give tiny_imagenet:PATH"),
        (["--nonsense"], "No such option"),
    ],
)
def test_train_refuses(anywhere, arguments, message):
    fails_cleanly(run("train", *arguments), message, anywhere)
    assert list(anywhere.iterdir()) == []


def test_train_refuses_an_output_that_exists(anywhere):
    (anywhere / "there").mkdir()
    fails_cleanly(run("train", "--output", "there"), "there exists: give another --output", anywhere)
    assert list((anywhere / "there").iterdir()) == []
    fails_cleanly(run("train", "--output", "there", "--resume"), "there has no card.json", anywhere)


def test_train_refuses_bad_sets(anywhere):
    for name in ("a", "b"):
        (anywhere / "set" / name).mkdir(parents=True)
    fails_cleanly(run("train", "--dataset", "folder:set"), "set/a has no images", anywhere)
    good, labels = np.zeros((4, 2, 2)), np.zeros(4, int)
    cases = [
        ({"images": good}, "give an .npz file with the arrays images, labels"),
        ({"images": good + np.nan, "labels": labels}, "not finite"),
        ({"images": good + 300, "labels": labels}, "values in [0, 1] or [0, 255]"),
        ({"images": good - 1, "labels": labels}, "values in [0, 1] or [0, 255]"),
    ]
    for arrays, message in cases:
        npz(anywhere / "bad.npz", **arrays)
        fails_cleanly(run("train", "--dataset", "npz:bad.npz"), message, anywhere)
    assert not (anywhere / "saved_models").exists()


def test_bad_input_is_found_without_tensorflow(anywhere):
    npz(anywhere / "bad.npz", images=np.full((4, 2, 2), np.nan), labels=np.zeros(4, int))
    (anywhere / "model").mkdir()
    for arguments in (
        ["--help"],
        ["train", "--help"],
        ["train", "--dataset", "nope"],
        ["train", "--dataset", "npz:bad.npz"],
        ["train", "--dataset", "tiny_imagenet:."],
        ["train", "--output", "model"],
        ["attack", "model"],
        ["detect", "model", "bad.npz"],
        ["detect", "--endpoint", "http://localhost:1/v1/models/digits", "bad.npz"],
        ["detect", "--endpoint", "grpc://localhost/", "bad.npz"],
        ["attack", "--endpoint", "grpc://localhost:1/digits", "--attack", "pgd"],
        ["attack", "--endpoint", "grpc://localhost:1/digits", "--attack", "rays"],
        ["export", "model"],
    ):
        program = (
            "import sys\n"
            "sys.modules['tensorflow'] = sys.modules['keras'] = None  # importing them fails\n"
            "from erkeras.cli import main\n"
            f"main({arguments!r})"
        )
        found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert found.returncode == (0 if "--help" in arguments else 2), found.stderr
        assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing"], "missing does not exist"),
        (["."], ". has no model"),
        (["{model}", "--attack", "nope"], "'nope' is not one of"),
        (["{model}", "--epsilon", "2"], "epsilon is 2.0, more than the range of a pixel"),
        (["{model}", "--epsilon", "-1"], "-1.0 is not in the range"),
        (["{model}", "--norm", "l2"], "give --epsilon"),
        (["{model}", "--json", "no/such/file.json"], "cannot be written"),
        (["{model}", "--limit", "0"], "0 is not in the range"),
        (["{model}/model.keras"], "give --dataset"),
        (["{model}", "--dataset", "mnist"], "mnist has images of 28 x 28 x 1"),
    ],
)
def test_attack_refuses(anywhere, saved_model, arguments, message):
    fails_cleanly(run("attack", *(a.format(model=saved_model) for a in arguments)), message, anywhere)
    assert list(anywhere.iterdir()) == []


def test_detect_refuses(anywhere, saved_model):
    cases = [
        (image(anywhere / "wide.png", (8, 9)), "9 x 8 pixels of 1 channel and the model takes 8 x 8"),
        (anywhere / "missing.png", "missing.png does not exist"),
        (npz(anywhere / "a.npz", labels=[1]), "with the arrays images"),
        (npz(anywhere / "b.npz", images=np.full((1, 8, 8), np.nan)), "not finite"),
    ]
    (anywhere / "text.png").write_text("no image")
    (anywhere / "empty").mkdir()
    cases += [(anywhere / "text.png", "not an image"), (anywhere / "empty", "empty has no images")]
    for path, message in cases:
        fails_cleanly(run("detect", saved_model, path), message, anywhere)
    fails_cleanly(run("detect", anywhere, image(anywhere / "good.png")), "has no card.json", anywhere)
    fails_cleanly(run("detect", anywhere / "missing", "good.png"), "missing does not exist", anywhere)
    fails_cleanly(run("detect", saved_model), "Missing argument", anywhere)


def test_attack_reports_what_the_card_says(anywhere, saved_model):
    card = json.loads((saved_model / "card.json").read_text())
    arguments = ["--attack", "fgsm", "--attack", "pgd", "--restarts", card["job"]["restarts"]]
    arguments += ["--limit", card["job"]["limit"], "--json", "out.json", "--save-images", "out.npz"]
    result = run("attack", saved_model, *arguments)
    assert result.exit_code == 0, result.output
    found = json.loads((anywhere / "out.json").read_text())
    for key in ("clean_accuracy", "robust_accuracy", "attacks", "images", "outputs"):
        assert found[key] == card["evaluation"][key]
    assert f"{100 * found['robust_accuracy']:.1f}%" in result.output
    assert [example["index"] for example in found["examples"]] == card["evaluation"]["indices"]
    with np.load(anywhere / "out.npz") as saved:
        assert np.abs(saved["images"] - saved["clean_images"]).max() <= card["evaluation"]["epsilon"] + 1e-6
        assert saved["successful"].sum() / found["images"] == pytest.approx(
            found["clean_accuracy"] - found["robust_accuracy"]
        )
    assert sorted(path.name for path in anywhere.iterdir()) == ["out.json", "out.npz"]


def test_attacking_the_savedmodel_gives_what_attacking_the_keras_model_gives(anywhere, saved_model):
    common = ["--dataset", "digits", "--epsilon", "0.15", "--limit", "40", "--restarts", "1", "--json"]
    for name, path in (("keras", saved_model / "model.keras"), ("saved", saved_model / "1")):
        assert run("attack", path, *common, f"{name}.json").exit_code == 0
    keras, saved = (json.loads((anywhere / f"{name}.json").read_text()) for name in ("keras", "saved"))
    assert keras["attacks"] == saved["attacks"]
    assert saved["outputs"] == "logits"


def test_detect_gives_label_probability_score_and_verdict(anywhere, saved_model):
    from erkeras.data import load_dataset
    from erkeras.serving import detect_with

    pixels = np.round(load_dataset("digits").test.images[:4, ..., 0] * 255).astype(np.uint8)
    (anywhere / "folder").mkdir()
    Image.fromarray(pixels[0]).save(anywhere / "one.png")
    Image.fromarray(pixels[1]).save(anywhere / "folder" / "two.png")
    npz(anywhere / "rest.npz", images=pixels[2:])
    result = run("detect", saved_model, "one.png", "folder", "rest.npz")
    assert result.exit_code == 0, result.output
    expected = detect_with(saved_model / "1", pixels[..., np.newaxis].astype(np.float32) / 255)
    lines = [line for line in result.output.splitlines() if ".png" in line or ".npz[" in line]
    assert len(lines) == 4
    for row, line in enumerate(lines):
        _, name, label, probability, score, verdict, _ = (cell.strip() for cell in line.split("│"))
        assert name.endswith(("one.png", "two.png", "rest.npz[0]", "rest.npz[1]")[row])
        assert label == str(expected["label"][row])
        assert float(probability) == pytest.approx(expected["probabilities"][row].max(), abs=1e-3)
        assert float(score) == pytest.approx(expected["adversarial_score"][row], abs=1e-4)
        assert verdict == ("adversarial" if expected["verdict"][row] else "natural")


def test_a_finished_training_shows_its_figures_again(saved_model, tiny_job, monkeypatch):
    recipe = tiny_job.recipe
    arguments = ["train", "--output", saved_model, "--resume", "--epochs", recipe.epochs, "--limit", tiny_job.limit]
    result = run(*arguments, "--restarts", tiny_job.restarts, "--baseline", "--fast")
    assert result.exit_code == 0, result.output
    assert "is complete" in result.output
    assert "the same network without defence" in result.output


def test_version():
    from erkeras import __version__

    assert run("--version").output.strip() == f"erkeras, version {__version__}"
