"""What docs/ shows runs."""

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

DOCS = Path(__file__).parent.parent / "docs"


def test_the_next_attack_runs_as_printed():
    (program,) = re.findall(r"```python\n(.*?)```", (DOCS / "attacks.md").read_text(), re.DOTALL)
    names = {"__name__": "printed"}
    exec(compile(program, "attacks.md", "exec"), names)
    images = np.random.default_rng(0).uniform(size=(20, 2, 2, 1)).astype(np.float32)
    matrix = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)

    def model(images):
        return tf.reshape(images - 0.5, [-1, 4]) @ matrix

    result = names["RandomNoise"]()(model, images, model(images).numpy().argmax(axis=1))
    assert 0 < result.success.sum() < 20


@pytest.mark.parametrize("document", sorted(path.name for path in DOCS.glob("*.md")))
def test_files_it_names_exist(document):
    text = (DOCS / document).read_text()
    for name in re.findall(r"`((?:erkeras|benchmarks|tests)/[\w/]+\.py)`", text):
        assert (DOCS.parent / name).exists(), name


def test_every_attack_of_the_command_line_is_in_the_table():
    from erkeras.cli.attack import ATTACKS

    text = (DOCS / "attacks.md").read_text()
    assert all(f"| `{name}` |" in text for name in ATTACKS)
