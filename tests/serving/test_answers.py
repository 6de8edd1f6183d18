"""The one place that turns an answer into arrays: what it takes, and what it calls malformed."""

import numpy as np
import pytest
import tensorflow as tf

from erkeras.serving.messages import read_tensor
from erkeras.serving.signatures import DTYPES, RANKS, SIGNATURES, MalformedError, bytes_twin, check_answer, check_shapes

GOOD = {
    "probabilities": [[0.25, 0.75], [1.0, 0]],
    "label": [1, 0],
    "adversarial_score": [0.5, 1],
    "verdict": [True, False],
}


def as_arrays(outputs):
    return {name: np.asarray(value, DTYPES[name]) for name, value in outputs.items()}


@pytest.mark.parametrize("form", [dict, as_arrays])
def test_a_good_answer_becomes_arrays(form):
    for signature in ("detect", "detect_bytes"):
        found = check_answer(signature, form(GOOD | {"label": [1, 0]}), 2)
        assert {name: value.dtype.name for name, value in found.items()} == {name: DTYPES[name] for name in GOOD}
        assert {name: value.tolist() for name, value in found.items()} == GOOD
    assert set(check_answer("serving_default", form(GOOD), 2)) == {"probabilities", "label"}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("verdict", ["true", "false"], "values that are no bool"),
        ("verdict", "false", "no list of 1 axes"),
        ("verdict", [None, True], "values that are no bool"),
        ("verdict", [0, 1], "values that are no bool"),
        ("verdict", [[True], [False]], "values that are no bool"),
        ("verdict", [True], r"shape \(1,\) for 2 images"),
        ("verdict", [True] * 3, r"shape \(3,\) for 2 images"),
        ("verdict", [], r"shape \(0,\) for 2 images"),
        ("verdict", None, "no list"),
        ("label", [1, 2], r"label is not in 0\.\.1"),
        ("label", [-1, 0], r"label is not in 0\.\.1"),
        ("label", ["1", "0"], "values that are no int32"),
        ("label", [1.0, 0.0], "values that are no int32"),
        ("label", [True, False], "values that are no int32"),
        ("label", [2**40, 0], "values that are no int32"),
        ("label", [1, [0]], "values that are no int32"),
        ("label", {"0": 1, "1": 0}, "no list of 1 axes"),
        ("probabilities", [[0.5, 0.5], [0.5]], "probabilities is ragged"),
        ("probabilities", [[0.5, 0.5]], r"shape \(1, 2\) for 2 images"),
        ("probabilities", [[], []], r"shape \(2, 0\)"),
        ("probabilities", [0.5, 0.5], "no list of 2 axes"),
        ("probabilities", [[[0.5]], [[0.5]]], "values that are no float32"),
        ("probabilities", [[0.5, float("nan")], [0.5, 0.5]], "not finite"),
        ("probabilities", [[0.5, 1.5], [0.5, 0.5]], r"not in \[0, 1\]"),
        ("probabilities", [[0.5, -0.5], [0.5, 0.5]], r"not in \[0, 1\]"),
        ("probabilities", [[0.5, "0.5"], [0.5, 0.5]], "values that are no float32"),
        ("adversarial_score", [float("nan"), 0.5], "not finite"),
        ("adversarial_score", [float("inf"), 0.5], "not finite"),
        ("adversarial_score", [1e300, 0.5], "not finite"),
        ("adversarial_score", [10**400, 0.5], "values that are no float32"),
        ("adversarial_score", [2, 0.5], r"not in \[0, 1\]"),
        ("adversarial_score", [True, 0.5], "values that are no float32"),
    ],
)
def test_what_is_no_answer_by_rest(name, value, message):
    with pytest.raises(MalformedError, match=f"^{name}.*{message}|^{message}"):
        check_answer("detect", {**GOOD, name: value}, 2)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("verdict", np.array([1, 0], np.int32), "verdict is int32 and not bool"),
        ("verdict", np.array([b"true", b"false"], object), "verdict is object and not bool"),
        ("verdict", np.array([[True], [False]]), r"shape \(2, 1\)"),
        ("verdict", np.array(True), r"shape \(\)"),
        ("label", np.array([1, 0], np.int64), "label is int64 and not int32"),
        ("probabilities", np.full((2, 2), 0.5), "probabilities is float64 and not float32"),
        ("probabilities", np.full((2, 2), np.nan, np.float32), "not finite"),
    ],
)
def test_what_is_no_answer_by_grpc(name, value, message):
    with pytest.raises(MalformedError, match=message):
        check_answer("detect", {**as_arrays(GOOD), name: value}, 2)


@pytest.mark.parametrize("signature", [*SIGNATURES, *map(bytes_twin, SIGNATURES)])
def test_every_signature_is_checked(signature):
    with pytest.raises(MalformedError, match="is missing"):
        check_answer(signature, {}, 2)
    assert set(DTYPES) == set(RANKS)


def test_other_signatures_are_taken_as_they_are():
    found = check_answer("theirs", {"a": [[1, 2.5]], "b": ["x" * 1000, "y"], "c": np.zeros(3)}, 7)
    assert found["a"].tolist() == [[1, 2.5]]
    assert found["b"].nbytes == 16  # and not the longest one's space for each
    for value in ([[1], [1, 2]], [1, None], [1, "1"], {"x": 1}, None):
        with pytest.raises(MalformedError):
            check_answer("theirs", {"a": value}, 7)


def test_metadata_that_lies():
    good = {"serving_default": {"images": [-1, 8, 8, 1]}, "theirs": {"x": []}}
    assert check_shapes(good) == good
    for shape in ([-1, 10**9, 10**9, 1], [-1, 8, 8, 10**9], [-1, 0, 8, 1], [-1, -1, 8, 1]):
        with pytest.raises(MalformedError, match="images of detect have a shape that cannot be"):
            check_shapes({"detect": {"images": shape}})
    with pytest.raises(MalformedError, match="a negative size"):
        check_shapes({"theirs": {"x": [-2]}})
    for name in ("", "x" * 101, "\x1b[31m"):
        with pytest.raises(MalformedError, match="a name that cannot be"):
            check_shapes({name: {"x": []}})


def test_a_tensor_of_a_few_bytes_that_claims_more_than_there_is_memory():
    tensor = tf.make_tensor_proto(np.zeros((1, 2), np.float32))
    assert read_tensor("code", tensor, 100).shape == (1, 2)
    tensor.Clear()
    tensor.dtype = 1
    tensor.float_val.append(0.5)
    for size in (10**6, 2**62):
        dimension = tensor.tensor_shape.dim.add(size=size)
        with pytest.raises(MalformedError, match="'code' has a shape that cannot be"):
            read_tensor("code", tensor, 10**6)
    dimension.size = -1
    with pytest.raises(MalformedError, match="a shape that cannot be"):
        read_tensor("code", tensor, 10**6)


@pytest.mark.parametrize(("dtype", "content"), [(1, b"123"), (99, b""), (0, b"1234"), (21, b"1234")])
def test_a_tensor_whose_dtype_does_not_fit(dtype, content):
    tensor = tf.make_tensor_proto(np.zeros((1, 1), np.float32))
    tensor.dtype, tensor.tensor_content = dtype, content
    with pytest.raises(MalformedError, match="does not fit its values"):
        read_tensor("code", tensor, 10**6)
