"""erkeras curve and erkeras embed."""

import json
import re
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from erkeras.cli import main
from matplotlib import colormaps
from PIL import Image


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], terminal_width=200)


def test_curves_of_several_models_share_a_picture_and_a_table(anywhere, saved_model):
    other = shutil.copytree(saved_model, anywhere / "other")
    common = ["--epsilons", "0:0.2:0.1", "--attack", "fgsm", "--limit", "100"]
    result = run("curve", saved_model, other, *common, "--output", "c.png", "--json", "c.json")
    assert result.exit_code == 0, result.output
    assert re.search("┃ +digits ┃ +other ┃", result.output)  # not their whole paths, which a terminal cuts off alike
    found = json.loads((anywhere / "c.json").read_text())
    assert found["epsilons"] == [0, 0.1, 0.2]
    first, second = found["accuracies"].values()
    assert first == second  # the same weights
    assert first == sorted(first, reverse=True)
    assert first[0] > first[2]
    single = run("attack", saved_model, "--attack", "fgsm", "--epsilon", "0.1", "--limit", "100", "--json", "a.json")
    assert single.exit_code == 0, single.output
    assert json.loads((anywhere / "a.json").read_text())["robust_accuracy"] == first[1]
    assert np.asarray(Image.open(anywhere / "c.png").convert("L")).std() > 10


def test_codes_are_drawn(anywhere, saved_model):
    result = run("embed", saved_model, "--limit", "60", "--steps", "3", "--output", "e.png")
    assert result.exit_code == 0, result.output
    assert "on 60 test images of digits under PGD-3" in result.output
    pixels = np.asarray(Image.open(anywhere / "e.png").convert("RGB"))
    seen = {tuple(colour) for colour in np.unique(pixels.reshape(-1, 3), axis=0).tolist()}
    classes = {tuple(round(255 * part) for part in colormaps["tab10"](label)[:3]) for label in range(10)}
    assert classes <= seen


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["curve", "missing"], "missing does not exist"),
        (["embed", "missing"], "missing does not exist"),
        (["curve", "MODEL", "--epsilons", "0.4:0:0.1"], "does not rise"),
        (["curve", "MODEL", "--output", "nowhere/c.png"], "cannot be written"),
        (["embed", "MODEL", "--output", "nowhere/e.png"], "cannot be written"),
        (["embed", "MODEL", "--limit", "9"], "there are 9 images to embed: give 10 or more"),
    ],
)
def test_bad_input_is_one_sentence(anywhere, saved_model, arguments, message):
    result = run(*[saved_model if argument == "MODEL" else argument for argument in arguments])
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert [path.name for path in anywhere.iterdir()] == []
