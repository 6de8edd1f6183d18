"""erkeras attack: several attacks, records, cards, pictures and the detector."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from erkeras.attacks import PGD
from erkeras.attacks.named import ATTACKS
from erkeras.data import load_dataset
from erkeras.saved import load_model, read_card
from erkeras.threat import ThreatModel
from helpers.commands import refused, run

PGD_SHORT = ["--limit", "150", "--steps", "5", "--restarts", "1"]
TWO = ["--attack", "apgd-ce", "--attack", "square", "--limit", "150", "--iterations", "5", "--queries", "40"]


def attack(*arguments):
    return run("attack", *arguments)


@pytest.fixture(scope="module")
def made(saved_model, tmp_path_factory):
    """A record of two attacks, with the gallery and the figures of the same run."""
    folder = tmp_path_factory.mktemp("made")
    outputs = ["--record", folder / "record", "--gallery", folder / "gallery.png", "--json", folder / "out.json"]
    result = attack(saved_model, *TWO, *outputs)
    assert result.exit_code == 0, result.output
    return folder, result.output


@pytest.fixture
def record(made, anywhere):
    return shutil.copytree(made[0] / "record", anywhere / "record")


def test_attack_reports_what_the_card_says(anywhere, saved_model):
    card = read_card(saved_model)
    arguments = ["--attack", "fgsm", "--attack", "pgd", "--restarts", card.job.restarts]
    arguments += ["--limit", card.job.limit, "--json", "out.json", "--save-images", "out.npz"]
    result = attack(saved_model, *arguments)
    assert result.exit_code == 0, result.output
    found = json.loads((anywhere / "out.json").read_text())
    for key in ("clean_accuracy", "robust_accuracy", "attacks", "images", "outputs"):
        assert found[key] == getattr(card.evaluation.summary, key)
    assert f"{100 * found['robust_accuracy']:.1f}%" in result.output
    assert [example["index"] for example in found["examples"]] == list(card.evaluation.indices)
    with np.load(anywhere / "out.npz") as saved:
        assert np.abs(saved["images"] - saved["clean_images"]).max() <= card.evaluation.threat.epsilon + 1e-6
        assert saved["successful"].sum() / found["images"] == pytest.approx(
            found["clean_accuracy"] - found["robust_accuracy"]
        )
    assert sorted(path.name for path in anywhere.iterdir()) == ["out.json", "out.npz"]


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
    assert f"erkeras verify {folder / 'record'}".replace("\n", "") in output.replace("\n", "")
    assert Image.open(folder / "gallery.png").width > 600


def test_a_cut_record_says_how_to_go_on_and_does(record, saved_model, anywhere):
    path = record / "examples.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    refused(run("verify", record), "holds 149 of 150 examples: finish it with the same command and --resume")
    again = [saved_model, *TWO, "--record", record]
    refused(attack(*again), "exists: give another record, delete it, or resume it")
    refused(attack(*again, "--resume", "--seed", "1"), "was made with seed 0 (now 1)")
    refused(attack(*again, "--resume", "--epsilon", "0.1"), "was made with threat")
    result = attack(*again, "--resume")
    assert result.exit_code == 0, result.output
    assert path.read_bytes() == whole
    assert run("verify", record).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no model was given"),
        (["missing"], "missing does not exist"),
        (["."], ". has no model"),
        (["{model}", "--attack", "nope"], "'nope' is not one of"),
        (["{model}", "--epsilon", "2"], "epsilon is 2.0, more than the range of a pixel"),
        (["{model}", "--epsilon", "-1"], "-1.0 is not in the range"),
        (["{model}", "--norm", "l2"], "give --epsilon"),
        (["{model}", "--json", "no/such/file.json"], "cannot be written"),
        (["{model}", "--limit", "0"], "0 is not in the range"),
        (["{model}", "--internal-batch", "0"], "0 is not in the range"),
        (["{model}/model.keras"], "give --dataset"),
        (["{model}", "--dataset", "mnist"], "mnist has images of 28 x 28 x 1"),
        (["{model}", "--record", "no/such"], "cannot be written"),
        (["{model}", "--with-detector", "--attack", "square"], "square was asked for with the detector"),
        (["{model}/1", "--with-detector", "--dataset", "digits", "--epsilon", "0.1"], "it has none: leave it out"),
        (["{model}", "--attack", "cw"], "l2"),
        (["{model}", "--attack", "rays", "--norm", "l2", "--epsilon", "1"], "l_inf"),
        (["{model}", "--attack", "autoattack", "--attack", "apgd-ce"], "each attack once"),
        (["{model}", "--attack", "autoattack", "--attack", "apgd-ce", "--record", "r"], "each attack once"),
        (["{model}", "--gallery", "picture.gif"], "picture.gif is not the name of a PNG picture"),
        (["{model}", "--resume"], "--resume was given without --record or --card"),
        (["{model}", "--queries", "10"], "queries was given, and pgd takes none"),
        (["{model}", "--attack", "fgsm", "--steps", "10"], "steps was given, and fgsm takes none"),
        (["{model}", "--attack", "fgsm", "--attack", "square", "--version", "plus"], "version was given"),
        (["{model}", "--confidence", "1"], "confidence was given, and pgd takes none: leave it out, or add cw"),
        (["{model}", "--endpoint", "grpc://localhost:1/digits"], "--endpoint was given with MODEL"),
        (["--endpoint", "grpc://localhost:1/digits"], "pgd was asked for against grpc://localhost:1/digits"),
        (["--endpoint", "grpc://localhost:1/digits", "--attack", "rays"], "give --dataset"),
        (["--endpoint", "grpc://localhost:1/digits", "--attack", "rays", "--dataset", "digits"], "give --epsilon"),
        (["--endpoint", "grpc://localhost:1/digits", "--attack", "rays", "--record", "r"], "leave one out"),
        (["--endpoint", "grpc://localhost:1/digits", "--attack", "rays", "--xla"], "and a server compiles for itself"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(anywhere, saved_model, arguments, message):
    refused(attack(*(argument.format(model=saved_model) for argument in arguments)), message)
    assert list(anywhere.iterdir()) == []


def test_an_internal_batch_is_kept_and_xla_gives_the_same_verdicts(anywhere, saved_model):
    short = ["--attack", "fgsm", "--limit", "60", "--internal-batch", "40"]
    for folder, xla in (("plain", "--no-xla"), ("compiled", "--xla")):
        assert attack(saved_model, *short, xla, "--record", folder).exit_code == 0
        assert json.loads((anywhere / folder / "settings.json").read_text())["internal_batch"] == 40
    plain, compiled = (
        [json.loads(line)["broken_by"] for line in (anywhere / folder / "examples.jsonl").read_text().splitlines()]
        for folder in ("plain", "compiled")
    )
    assert plain == compiled


def test_the_detector_is_attacked_with_the_model(anywhere, saved_model):
    arguments = [saved_model, "--with-detector", "--attack", "pgd", *PGD_SHORT, "--json", "out.json"]
    result = attack(*arguments, "--record", "record")
    assert result.exit_code == 0, result.output
    found = json.loads((anywhere / "out.json").read_text())
    assert list(found["attacks"]) == ["pgd-detector"]
    assert found["settings"]["pgd-detector"]["weights"][0] == 0
    assert run("verify", "record").exit_code == 0


def test_every_attack_is_known_by_its_name(anywhere, saved_model):
    names = [name for name in ATTACKS if name not in ("autoattack", "cw")]
    arguments = [part for name in names for part in ("--attack", name)]
    short = ["--steps", "5", "--iterations", "5", "--queries", "40", "--restarts", "1", "--limit", "20"]
    result = attack(saved_model, *arguments, *short, "--json", "out.json")
    assert result.exit_code == 0, result.output
    assert list(json.loads((anywhere / "out.json").read_text())["attacks"]) == names
    least = ["--norm", "l2", "--epsilon", "1", "--iterations", "5", "--limit", "20"]
    result = attack(saved_model, "--attack", "cw", *least)
    assert result.exit_code == 0, result.output


def test_a_card_takes_the_figures_and_keeps_the_record(anywhere, saved_model):
    model = shutil.copytree(saved_model, anywhere / "model")
    square = [model, "--attack", "square", "--card", "--queries", "40", "--limit", "150"]
    first = attack(*square)
    assert first.exit_code == 0
    assert first.output.endswith(f"As a page: erkeras report {model}\n")
    refused(attack(*square), "exists: give another record, delete it")
    result = attack(model, "--attack", "rays", "--card", "--queries", "40", "--limit", "20")
    assert result.exit_code == 0, result.output
    card = read_card(model)
    assert [found.title for found in card.evaluations] == ["square l_inf 0.15 test", "rays l_inf 0.15 test"]
    text = (model / "README.md").read_text()
    for found in card.evaluations:
        assert f"{100 * found.summary.robust_accuracy:.1f}%" in text
        assert f"erkeras verify THIS_FOLDER/{found.record}" in text
        assert run("verify", model / found.record).exit_code == 0
    record = model / card.evaluations[0].record
    lines = (record / "examples.jsonl").read_text().splitlines(keepends=True)
    (record / "examples.jsonl").write_text("".join(lines[:-1]))
    refused(run("verify", record), "--resume")
    shutil.rmtree(record)  # the evidence is gone, the model is not
    assert attack(model, "--attack", "fgsm", "--limit", "20").exit_code == 0


def test_a_card_asks_for_a_folder_of_ours(anywhere, saved_model):
    refused(
        attack(saved_model / "1", "--card", "--dataset", "digits", "--epsilon", "0.1"),
        "the card was asked for without a folder that erkeras wrote",
    )


def test_a_purified_classifier_is_attacked_with_its_purifier_or_alone(anywhere, purified_model):
    figures = {}
    for name, options in (("aware", []), ("naive", ["--naive"])):
        result = attack(
            purified_model, *options, "--limit", "20", "--steps", "5", "--restarts", "1", "--json", "out.json"
        )
        assert result.exit_code == 0, result.output
        figures[name] = json.loads((anywhere / "out.json").read_text())
    aware, naive = figures["aware"], figures["naive"]
    assert aware["clean_accuracy"] == naive["clean_accuracy"]
    # The classifier's own gradient, not the one behind the purifier, made the images.
    model = load_model("keras", purified_model / "model.keras")
    test = load_dataset("digits").test.sample(20, 0)
    attacked = PGD(ThreatModel("l_inf", 0.15), 5)(model.classifier, test.images, test.labels, indices=test.indices)
    clean, broken = (np.argmax(model(images), axis=1) for images in (test.images, attacked.images))
    assert naive["robust_accuracy"] == pytest.approx(((clean == test.labels) & (broken == test.labels)).mean())
    assert [line["prediction"] for line in naive["examples"]] == broken.tolist()


def test_what_a_purified_classifier_lacks_is_refused(anywhere, purified_model, saved_model):
    for options in (["--record", "r"], ["--card"], ["--with-detector"]):
        result = attack(purified_model, "--naive", *options)
        refused(result, "leave it out" if options == ["--with-detector"] else "a naive attack was asked for without")
    refused(attack(saved_model, "--naive"), "a naive attack was asked for without")
    refused(attack(purified_model, "--with-detector"), "it has none: leave it out")
    refused(run("detect", purified_model, "image.png"), "has no detector")
    refused(run("embed", purified_model), "has no codes")
    assert list(anywhere.iterdir()) == []


def test_attacking_the_savedmodel_gives_what_attacking_the_keras_model_gives(anywhere, saved_model):
    common = ["--dataset", "digits", "--epsilon", "0.15", "--limit", "40", "--restarts", "1", "--json"]
    for name, path in (("keras", saved_model / "model.keras"), ("saved", saved_model / "1")):
        assert attack(path, *common, f"{name}.json").exit_code == 0
    keras, saved = (json.loads((anywhere / f"{name}.json").read_text()) for name in ("keras", "saved"))
    assert keras["attacks"] == saved["attacks"]
    assert saved["outputs"] == "logits"
