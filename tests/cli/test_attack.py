"""erkeras attack with records, pictures, curves and the detector."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from erkeras.cli import main
from PIL import Image

from erkeras.attacks import PGD
from erkeras.data import load_dataset
from erkeras.serving import load_model
from erkeras.threat import ThreatModel

SHORT = ["--limit", "150", "--iterations", "5", "--queries", "40", "--steps", "5", "--restarts", "1"]


def run(*arguments):
    return CliRunner().invoke(main, ["attack", *(str(argument) for argument in arguments)])


def refused(result, message):
    assert result.exit_code == 2, result.output
    (line,) = result.output.strip().splitlines()
    assert line.startswith("Error: ")
    assert message in line


@pytest.fixture(scope="module")
def made(saved_model, tmp_path_factory):
    """A record of two attacks, with the gallery and the figures of the same run."""
    folder = tmp_path_factory.mktemp("made")
    attacks = ["--attack", "apgd-ce", "--attack", "square"]
    outputs = ["--record", folder / "record", "--gallery", folder / "gallery.png", "--json", folder / "out.json"]
    result = run(saved_model, *attacks, *SHORT, *outputs)
    assert result.exit_code == 0, result.output
    return folder, result.output


@pytest.fixture
def record(made, anywhere):
    return shutil.copytree(made[0] / "record", anywhere / "record")


def test_several_attacks_in_one_run_each_on_what_stands(made):
    folder, output = made
    found = json.loads((folder / "out.json").read_text())
    clean, first, second = found["clean_accuracy"], *found["attacks"].values()
    assert clean >= first >= second == found["robust_accuracy"]
    for accuracy in (clean, first, second):
        assert f"{100 * accuracy:.1f}%" in output
    lines = [json.loads(line) for line in (folder / "record" / "examples.jsonl").read_text().splitlines()]
    assert lines == found["examples"]
    assert found["forward_passes"]["square"] == sum(line["queries"]["square"] for line in lines)
    assert f"{found['forward_passes']['square']:,}" in output
    assert f"erkeras attack --verify {folder / 'record'}".replace("\n", "") in output.replace("\n", "")
    assert Image.open(folder / "gallery.png").width > 600


def test_a_record_is_verified(record, made):
    result = run("--verify", record)
    assert result.exit_code == 0, result.output
    found = json.loads((made[0] / "out.json").read_text())
    assert f"robust accuracy {found['robust_accuracy']:.2%} on 150 test images of digits" in result.output


def test_a_cut_record_says_how_to_go_on_and_does(record, saved_model, anywhere):
    path = record / "examples.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    refused(run("--verify", record), "holds 149 of 150 examples: finish it with the same command and --resume")
    again = [saved_model, "--attack", "apgd-ce", "--attack", "square", *SHORT, "--record", record]
    refused(run(*again), "exists: give another --record, delete it, or add --resume")
    refused(run(*again, "--resume", "--seed", "1"), "was made with seed 0 (now 1)")
    refused(run(*again, "--resume", "--epsilon", "0.1"), "was made with threat")
    result = run(*again, "--resume")
    assert result.exit_code == 0, result.output
    assert path.read_bytes() == whole
    assert run("--verify", record).exit_code == 0


def test_a_record_of_another_model_or_version_is_refused(record, saved_model, anywhere):
    other = shutil.copytree(saved_model, anywhere / "other")
    shutil.copy(saved_model / "1" / "saved_model.pb", other / "model.keras")
    refused(run("--verify", record, anywhere / "other" / "1"), "is not the model that")
    refused(run("--verify", record, anywhere / "missing"), "missing does not exist")


def test_a_record_that_detect_made_is_not_verified(record):
    settings = json.loads((record / "settings.json").read_text())
    del settings["asked"]
    (record / "settings.json").write_text(json.dumps(settings))
    refused(run("--verify", record), "was made by erkeras detect")


def test_a_tampered_record_is_found_out(record):
    path = record / "examples.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    row = next(row for row, line in enumerate(lines) if line["broken_by"] == "apgd-ce")
    lines[row]["broken_by"] = None
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    refused(run("--verify", record), f"they differ on 1 of 150 images (original indices {lines[row]['index']})")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no model was given"),
        (["--verify", "missing"], "missing is not the record of an evaluation"),
        (["{model}", "--epsilons", "0:1"], "'0:1' is not START:STOP:STEP"),
        (["{model}", "--epsilons", "0.3:0.1:0.1"], "does not rise"),
        (["{model}", "--epsilons", "0:0.2:0.1", "--record", "r"], "--epsilons makes a table and a picture alone"),
        (["{model}", "--record", "no/such"], "cannot be written"),
        (["{model}", "--with-detector", "--attack", "square"], "--with-detector was given with the attack square"),
        (["{model}/1", "--with-detector", "--dataset", "digits", "--epsilon", "0.1"], "--with-detector was given with"),
        (["{model}", "--attack", "cw"], "l2"),
        (["{model}", "--attack", "rays", "--norm", "l2", "--epsilon", "1"], "l_inf"),
        (["{model}", "--attack", "autoattack", "--attack", "apgd-ce"], "each attack once"),
        (["{model}", "--attack", "autoattack", "--attack", "apgd-ce", "--record", "r"], "each attack once"),
        (["{model}", "--gallery", "picture.gif"], "picture.gif is not the name of a PNG picture"),
        (["{model}", "--epsilons", "0:1.2:0.1"], "1.2"),
        (["{model}", "--epsilons", "0:0.2:0.1", "--epsilon", "0.1"], "--epsilons was given with --epsilon"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(anywhere, saved_model, arguments, message):
    refused(run(*(argument.format(model=saved_model) for argument in arguments)), message)
    assert list(anywhere.iterdir()) == []


def test_a_curve_is_a_table_and_a_picture(anywhere, saved_model):
    result = run(saved_model, "--epsilons", "0:0.2:0.1", *SHORT, "--curve", "c.png")
    assert result.exit_code == 0, result.output
    rows = [line.split("│")[1:3] for line in result.output.splitlines() if "%" in line and "│" in line]
    assert [float(epsilon) for epsilon, _ in rows] == [0, 0.1, 0.2]
    accuracies = [float(accuracy.strip().rstrip("%")) for _, accuracy in rows]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] > accuracies[2]
    assert np.asarray(Image.open(anywhere / "c.png").convert("L")).std() > 10


def test_the_detector_is_attacked_with_the_model(anywhere, saved_model):
    arguments = [saved_model, "--with-detector", "--attack", "pgd", *SHORT, "--json", "out.json"]
    result = run(*arguments, "--record", "record")
    assert result.exit_code == 0, result.output
    found = json.loads((anywhere / "out.json").read_text())
    assert list(found["attacks"]) == ["pgd-detector"]
    assert found["settings"]["pgd-detector"]["weights"][0] == 0
    assert run("--verify", "record").exit_code == 0


def test_every_attack_is_known_by_its_name(anywhere, saved_model):
    from erkeras.cli.target import ATTACKS

    names = [name for name in ATTACKS if name not in ("autoattack", "cw")]
    arguments = [part for name in names for part in ("--attack", name)]
    result = run(saved_model, *arguments, *SHORT, "--limit", "20", "--json", "out.json")
    assert result.exit_code == 0, result.output
    assert list(json.loads((anywhere / "out.json").read_text())["attacks"]) == names
    result = run(saved_model, "--attack", "cw", "--norm", "l2", "--epsilon", "1", *SHORT, "--limit", "20")
    assert result.exit_code == 0, result.output


def test_a_card_takes_the_figures_and_keeps_the_record(anywhere, saved_model):
    from erkeras.serving.folder import read_card

    model = shutil.copytree(saved_model, anywhere / "model")
    common = ["--card", *SHORT]
    assert run(model, "--attack", "square", *common).exit_code == 0
    refused(run(model, "--attack", "square", *common), "exists: give another --epsilon or --attack, delete it")
    result = run(model, "--attack", "rays", *common, "--limit", "20")
    assert result.exit_code == 0, result.output
    card = read_card(model)
    assert [found["title"] for found in card["evaluations"]] == ["square l_inf 0.15 test", "rays l_inf 0.15 test"]
    text = (model / "README.md").read_text()
    for found in card["evaluations"]:
        assert f"{100 * found['summary']['robust_accuracy']:.1f}%" in text
        assert f"erkeras attack --verify THIS_FOLDER/{found['record']}" in text
        assert run("--verify", model / found["record"]).exit_code == 0
    record = model / card["evaluations"][0]["record"]
    lines = (record / "examples.jsonl").read_text().splitlines(keepends=True)
    (record / "examples.jsonl").write_text("".join(lines[:-1]))
    refused(run("--verify", record), "--resume")
    shutil.rmtree(record)  # the evidence is gone, the model is not
    assert run(model, "--attack", "fgsm", "--limit", "20").exit_code == 0


def test_a_card_asks_for_a_folder_of_ours(anywhere, saved_model):
    refused(run(saved_model / "1", "--card", "--dataset", "digits", "--epsilon", "0.1"), "--card was given without")


def test_a_purified_classifier_is_attacked_with_its_purifier_or_alone(anywhere, purified_model):
    figures = {}
    for name, options in (("aware", []), ("naive", ["--naive"])):
        result = run(purified_model, *options, "--limit", "20", "--steps", "5", "--restarts", "1", "--json", "out.json")
        assert result.exit_code == 0, result.output
        figures[name] = json.loads((anywhere / "out.json").read_text())
    aware, naive = figures["aware"], figures["naive"]
    assert aware["clean_accuracy"] == naive["clean_accuracy"]
    # The classifier's own gradient, not the one behind the purifier, made the images.
    model = load_model("keras", purified_model / "model.keras")
    test = load_dataset("digits").test.sample(20, 0)
    attack = PGD(ThreatModel("l_inf", 0.15), 5, 0.15 / 30, 1)
    attacked = attack(model.classifier, test.images, test.labels, indices=test.indices)
    clean, broken = (np.argmax(model(images), axis=1) for images in (test.images, attacked.images))
    assert naive["robust_accuracy"] == pytest.approx(((clean == test.labels) & (broken == test.labels)).mean())
    assert [line["prediction"] for line in naive["examples"]] == broken.tolist()


def test_what_a_purified_classifier_lacks_is_refused(anywhere, purified_model, saved_model):
    for options in (["--record", "r"], ["--card"], ["--epsilons", "0:0.2:0.1"]):
        refused(run(purified_model, "--naive", *options), "--naive was given without a folder")
    refused(run(saved_model, "--naive"), "--naive was given without a folder")
    refused(run(purified_model, "--with-detector"), "has no detector: leave it out")
    for command in (["detect", purified_model, "image.png"], ["embed", purified_model]):
        refused(CliRunner().invoke(main, [str(word) for word in command]), "give a model of another --defense")
    assert list(anywhere.iterdir()) == []
