"""erkeras embed."""

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from helpers.commands import refused, run


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
        (["missing"], "missing does not exist"),
        (["MODEL", "--output", "nowhere/e.png"], "cannot be written"),
        (["MODEL/1"], "has no codes"),
        (["MODEL", "--limit", "9"], "there are 9 images to embed: give 10 or more"),
    ],
)
def test_bad_input_is_one_sentence(anywhere, saved_model, arguments, message):
    result = run("embed", *[word.replace("MODEL", str(saved_model)) for word in arguments])
    refused(result, message)
    assert list(anywhere.iterdir()) == []
