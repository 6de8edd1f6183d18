"""erkeras curve."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from helpers.commands import refused, run


def test_curves_of_several_models_share_a_picture_and_a_table(anywhere, saved_model):
    other = shutil.copytree(saved_model, anywhere / "other")
    common = ["--epsilons", "0:0.2:0.1", "--attack", "fgsm", "--limit", "100"]
    result = run("curve", saved_model, other, *common, "--output", "c.png", "--json", "c.json")
    assert result.exit_code == 0, result.output
    assert re.search("┃ +digits ┃ +other ┃", result.output)  # not their whole paths, which a terminal cuts off alike
    found = json.loads((anywhere / "c.json").read_text())
    assert found["epsilons"] == [0, 0.1, 0.2]
    told = ("norm", "dataset", "images", "seed", "with_detector")
    assert [found[name] for name in told] == ["l_inf", "digits", 100, 0, False]
    assert set(found["digests"]) == set(found["accuracies"]) == {str(saved_model), str(other)}
    drawn = run("report", saved_model, other, "--curve", "c.json")
    assert drawn.exit_code == 0, drawn.output
    assert (anywhere / "report.html").read_text().count("<figcaption>fgsm on 100 test images of digits, seed 0") == 3
    first, second = found["accuracies"].values()
    assert first == second  # the same weights
    assert first == sorted(first, reverse=True)
    assert first[0] > first[2]
    single = run("attack", saved_model, "--attack", "fgsm", "--epsilon", "0.1", "--limit", "100", "--json", "a.json")
    assert single.exit_code == 0, single.output
    assert json.loads((anywhere / "a.json").read_text())["robust_accuracy"] == first[1]
    assert np.asarray(Image.open(anywhere / "c.png").convert("L")).std() > 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing"], "missing does not exist"),
        (["MODEL", "--epsilons", "0:1"], "'0:1' is not START:STOP:STEP"),
        (["MODEL", "--epsilons", "0.4:0:0.1"], "does not rise"),
        (["MODEL", "--epsilons", "0:1.2:0.1"], "1.2"),
        (["MODEL", "--output", "nowhere/c.png"], "cannot be written"),
    ],
)
def test_bad_input_is_one_sentence(anywhere, saved_model, arguments, message):
    refused(run("curve", *[saved_model if word == "MODEL" else word for word in arguments]), message)
    assert list(anywhere.iterdir()) == []
