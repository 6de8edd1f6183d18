"""The names and types of what is served: a client in another language is written by them."""

import json
import subprocess
import sys

import tensorflow as tf

from erkeras.serving import SIGNATURES
from erkeras.serving.signatures import DTYPES, ENCODED_IMAGES, IMAGES, MOST_PIXELS, bytes_twin

TWINS = {"serving_default": "default_bytes", "detect": "detect_bytes", "embed": "embed_bytes", "logits": "logits_bytes"}


def test_each_signature_has_a_twin_that_takes_files():
    assert {name: bytes_twin(name) for name in SIGNATURES} == TWINS


def test_the_largest_file_has_as_many_pixels_as_4096_times_4096():
    assert MOST_PIXELS == 4096 * 4096


def test_an_export_answers_by_these_names_and_types(saved_model):
    found = tf.saved_model.load(str(saved_model / "1")).signatures
    assert set(found) == {*TWINS, *TWINS.values()}
    classes, code_size = 10, 16
    shapes = {"probabilities": [None, classes], "logits": [None, classes], "code": [None, code_size]}
    for name, outputs in SIGNATURES.items():
        _, inputs = found[name].structured_input_signature
        assert inputs == {IMAGES: tf.TensorSpec((None, 8, 8, 1), tf.float32, name=IMAGES)}
        _, inputs = found[bytes_twin(name)].structured_input_signature
        assert inputs == {ENCODED_IMAGES: tf.TensorSpec((None,), tf.string, name=ENCODED_IMAGES)}
        for signature in (name, bytes_twin(name)):
            structure = found[signature].structured_outputs
            assert set(structure) == set(outputs)
            for output, spec in structure.items():
                assert spec.dtype.name == DTYPES[output]
                assert spec.shape.as_list() == shapes.get(output, [None])


def test_the_names_need_no_tensorflow():
    program = (
        "import sys, json; sys.modules['tensorflow'] = None\n"
        "from erkeras.serving import SIGNATURES; print(json.dumps(SIGNATURES))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert json.loads(found.stdout) == {name: list(outputs) for name, outputs in SIGNATURES.items()}, found.stderr
