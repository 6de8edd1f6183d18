"""Types of options: what each takes, makes of it, and refuses."""

import math
import sys

import pytest
import rich_click as click

from erkeras.cli import options
from erkeras.errors import InputError
from erkeras.threat import ThreatModel


def refusal(kind, value):
    with pytest.raises(click.BadParameter) as caught:
        kind.convert(value, None, None)
    return caught.value.message


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999"])
@pytest.mark.parametrize("kind", [options.FiniteFloat(), options.FiniteFloat(0)])
def test_a_finite_float_is_neither_infinite_nor_nan(kind, text):
    message = refusal(kind, text)
    assert "is not a finite number" in message or "is not in the range" in message


def test_a_finite_float_has_a_range():
    assert options.FiniteFloat(0).convert("0.5", None, None) == 0.5
    assert "is not in the range" in refusal(options.FiniteFloat(0), "-0.1")
    assert "is not in the range" in refusal(options.FiniteFloat(0, 1, max_open=True), "1")
    assert "'much' is not a valid" in refusal(options.FiniteFloat(0), "much")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0:0.4:0.1", (0.0, 0.1, 0.2, 0.3, 0.4)),
        ("0:0.3:0.1", (0.0, 0.1, 0.2, 0.3)),  # although 0.3 / 0.1 is a little less than 3
        ("0.1:0.1:1", (0.1,)),
        ("0:1:0.4", (0.0, 0.4, 0.8)),
        ("0:1000:1", tuple(float(number) for number in range(1001))),
    ],
)
def test_epsilons_rise_from_start_to_stop_with_both_ends(text, values):
    assert options.EPSILONS.convert(text, None, None) == values


@pytest.mark.parametrize("text", ["", "0", "0:1", "0:1:2:3", "a:b:c"])
def test_epsilons_are_three_numbers(text):
    assert refusal(options.EPSILONS, text) == f"{text!r} is not START:STOP:STEP, as in 0:0.4:0.025."


@pytest.mark.parametrize(
    "text",
    ["-0.1:1:0.1", "1:0:0.1", "0:1:0", "0:1:-1", "0:inf:1", "0:1:inf", "nan:1:1", "0:nan:1", "0:1:nan", "0:1001:1"],
)
def test_epsilons_do_not_fall_nor_go_on_for_ever(text):
    assert refusal(options.EPSILONS, text) == f"{text!r} does not rise from 0 or more by positive steps, at most 1000."


@pytest.fixture
def own_module(anywhere):
    """A module in the working folder that no test may load."""
    before = list(sys.path)
    (anywhere / "own_for_options.py").write_text("raise SystemExit('it was imported')\n")
    yield "own_for_options"
    sys.path[:] = before


def test_a_regularizer_is_a_name_or_a_class_of_a_module(own_module):
    kind = options.Regularizer()
    for text in ("wasserstein", "mmd", "gaussian-kl", f"{own_module}:Mine", "erkeras.models:MaximumMeanDiscrepancy"):
        assert kind.convert(text, None, None) == text
    for text in ("best", own_module, f"{own_module}:", f"{own_module}:1", "no_such_module:Mine", ":Mine", ""):
        message = f"{text!r} is neither wasserstein, mmd, gaussian-kl nor MODULE:CLASS of a module in this folder."
        assert refusal(kind, text) == message


def test_a_network_is_a_name_a_function_of_a_module_or_a_file(own_module):
    kind = options.Network()
    for text in ("digits", "mnist-deep", "tiny-imagenet", f"{own_module}:build", "erkeras.models:ERClassifier"):
        assert kind.convert(text, None, None) == text
    for text in ("best", own_module, f"{own_module}:", f"{own_module}:1", "no_such_module:build", ":build", "", "a.h5"):
        assert refusal(kind, text).startswith(f"{text!r} is neither digits, mnist, ")
    with pytest.raises(InputError, match=r"missing\.keras does not exist"):
        kind.convert("missing.keras", None, None)


def test_a_module_is_found_and_not_imported(own_module):
    kind = options.Module()
    assert kind.convert(own_module, None, None) == own_module
    assert kind.convert("json.decoder", None, None) == "json.decoder"
    for text in ("no_such_module", "no_such_module.part", ""):
        assert refusal(kind, text) == f"there is no module {text!r} in this folder or installed."


@pytest.mark.parametrize(
    ("kind", "taken", "refused"),
    [
        (options.EPSILON, ["0", "1", "0.3"], ["-0.1", "1.1", "nan"]),
        (options.RADIUS, ["0", "7.5"], ["-1", "inf"]),
        (options.COUNT, ["1", "99"], ["0", "-1", "1.5", "many"]),
        (options.SEED_RANGE, ["0", str(2**31 - 1)], ["-1", str(2**31), "0.5"]),
    ],
)
def test_ranges_that_several_commands_share(kind, taken, refused):
    for text in taken:
        assert kind.convert(text, None, None) == float(text)
    for text in refused:
        assert refusal(kind, text)


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("mnist", "mnist"),
        ("folder:data/animals", "folder-data-animals"),
        ("npz:set.npz", "npz-set.npz"),
        ("tfds:fashion_mnist", "tfds-fashion_mnist"),
        ("tfds:mnist_corrupted/fog", "tfds-mnist_corrupted-fog"),
    ],
)
def test_a_data_set_names_one_folder(dataset, name):
    assert options.folder_name(dataset) == name


def test_a_file_is_written_into_a_folder_that_exists(anywhere):
    (anywhere / "folder").mkdir()
    (anywhere / "there.json").touch()
    for path in (None, anywhere / "new.json", anywhere / "there.json", anywhere / "folder" / "new.json"):
        options.writable(path)
    for path in (anywhere / "folder", anywhere / "missing" / "new.json", anywhere / "there.json" / "new.json"):
        with pytest.raises(InputError, match=r"cannot be written: give a file in a folder that exists\.$"):
            options.writable(path)


def test_a_picture_is_a_png_file(anywhere):
    options.drawable(None)
    options.drawable(anywhere / "p.png")
    with pytest.raises(InputError, match=r"p\.gif is not the name of a PNG picture: give a file that ends in \.png\.$"):
        options.drawable(anywhere / "p.gif")
    with pytest.raises(InputError, match="cannot be written"):
        options.drawable(anywhere / "missing" / "p.png")


def test_a_threat_model_is_of_norm_and_epsilon_or_the_cards():
    assert options.threat_of("l2", 1.5, "models") == ThreatModel("l2", 1.5)
    assert options.threat_of("l_inf", 0.0, "models") == ThreatModel("l_inf", 0.0)
    assert options.threat_of("l_inf", None, "models") is None
    with pytest.raises(InputError, match=r"^no epsilon is known for models and the norm l2: give --epsilon\.$"):
        options.threat_of("l2", None, "models")
    assert math.isclose(options.threat_of("l_inf", 0.3, "").epsilon, 0.3)
