"""The model card against a golden file with every key filled, and against whatever is none."""

import dataclasses
import json
import math
from pathlib import Path

import pytest

from erkeras.errors import InputError
from erkeras.saved import CARD, read_card
from erkeras.saved.card import card_text, parse_card
from helpers.golden import CARD_FILE, GOLDEN

PLACE = Path("somewhere") / CARD


def objects(value, path=()):
    """Paths of all values that are dataclasses, through tuples too."""
    if dataclasses.is_dataclass(value):
        yield path, value
        for field in dataclasses.fields(value):
            yield from objects(getattr(value, field.name), (*path, field.name))
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from objects(item, (*path, number))


OBJECTS = list(objects(GOLDEN))
KEYS = [((*path, field.name), field) for path, value in OBJECTS for field in dataclasses.fields(value)]
REQUIRED = [
    path
    for path, field in KEYS
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
]


def words(path):
    return ".".join(map(str, path))


def at(content, path):
    for key in path:
        content = content[key]
    return content


def with_value(path, value):
    """The golden file with another value at a path."""
    content = json.loads(CARD_FILE.read_text())
    at(content, path[:-1])[path[-1]] = value
    return json.dumps(content)


def sentence_about(text):
    """The one sentence that refuses a text."""
    with pytest.raises(InputError) as caught:
        parse_card(text, PLACE)
    message = str(caught.value)
    assert message.startswith(str(PLACE))
    assert message.endswith(".")
    assert len(message.splitlines()) == 1
    return message


def test_the_golden_file_has_every_key_and_none_empty():
    def check(value):
        assert value not in (None, [], {}, "")
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            check(item)

    content = json.loads(CARD_FILE.read_text())
    check(content)
    for path, value in OBJECTS:
        assert list(at(content, path)) == [field.name for field in dataclasses.fields(value)]


def test_the_golden_file_is_read():
    assert parse_card(CARD_FILE.read_bytes(), CARD_FILE) == GOLDEN
    assert parse_card(CARD_FILE.read_text(), CARD_FILE) == GOLDEN


def test_the_golden_file_is_written_byte_for_byte():
    assert card_text(GOLDEN).encode() == CARD_FILE.read_bytes()


def test_what_is_read_is_of_the_declared_types():
    """Lists become tuples, objects dataclasses: a card can be compared, and cannot be changed by accident."""
    card = parse_card(CARD_FILE.read_bytes(), CARD_FILE)
    assert [(path, type(value)) for path, value in objects(card)] == [(path, type(value)) for path, value in OBJECTS]
    assert card.dataset.image_shape == (8, 8, 1)
    assert card.job.recipe.critic_units == (128, 64)
    with pytest.raises(dataclasses.FrozenInstanceError):
        card.name = "other"


def test_white_space_around_a_card_is_none_of_its_matter():
    text = CARD_FILE.read_text()
    assert parse_card(" " * 10_000_000 + json.dumps(json.loads(text)) + "\n" * 1000, PLACE) == GOLDEN


@pytest.mark.parametrize("path", REQUIRED, ids=words)
def test_a_missing_key_is_refused_by_its_name(path):
    content = json.loads(CARD_FILE.read_text())
    del at(content, path[:-1])[path[-1]]
    assert f"at {words(path)}: " in sentence_about(json.dumps(content))


@pytest.mark.parametrize("path", [path for path, _ in KEYS if path not in REQUIRED and path != ("format",)], ids=words)
def test_a_key_with_a_default_may_be_missing(path):
    content = json.loads(CARD_FILE.read_text())
    del at(content, path[:-1])[path[-1]]
    card = parse_card(json.dumps(content), PLACE)
    for key in path:
        card = card[key] if isinstance(key, int) else getattr(card, key)
    (field,) = (field for known, field in KEYS if known == path)
    made = field.default_factory is not dataclasses.MISSING
    assert card == (field.default_factory() if made else field.default)


@pytest.mark.parametrize("path", [path for path, _ in OBJECTS], ids=lambda path: words(path) or "card")
def test_an_unknown_key_is_refused_by_its_name(path):
    assert f"at {words((*path, 'colour'))}: " in sentence_about(with_value((*path, "colour"), 1))


def others(value):
    """Values of other types than a key of the golden file has."""
    if isinstance(value, bool):
        return [1, "true", [], {}]
    if isinstance(value, int):
        return ["3", 3.5, True, [], {}]
    if isinstance(value, float):
        return ["0.5", True, [], {}]
    if isinstance(value, str):
        return [3, True, [], {}]
    if isinstance(value, list):
        return [3, "text", {}]
    return [3, "text", []]


@pytest.mark.parametrize("path", [path for path, _ in KEYS if path != ("format",)], ids=words)
def test_a_value_of_another_type_is_refused_by_its_place(path):
    for value in others(at(json.loads(CARD_FILE.read_text()), path)):
        assert f"at {words(path)}" in sentence_about(with_value(path, value)), value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("versions", "python"), 3.11),
        (("files", "model.keras"), None),
        (("training", "last_epoch", "loss"), "low"),
        (("evaluation", "summary", "attacks", "pgd"), None),
        (("evaluation", "summary", "forward_passes", "pgd"), 1.5),
        (("evaluation", "indices", 1), "7"),
        (("dataset", "class_names", 0), 0),
        (("dataset", "image_shape"), [8, 8]),
        (("dataset", "image_shape"), [8, 8, 1, 1]),
        (("job", "recipe", "critic_units", 0), 0.5),
    ],
    ids=str,
)
def test_a_value_inside_a_list_or_a_mapping_is_checked_too(path, value):
    assert f"at {words(path)}" in sentence_about(with_value(path, value))


@pytest.mark.parametrize("path", [path for path, field in KEYS if "None" not in str(field.type)], ids=words)
def test_null_is_refused_where_a_value_has_to_be(path):
    sentence_about(with_value(path, None))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_epsilon_is_a_number(value):
    message = sentence_about(with_value(("evaluation", "threat", "epsilon"), value))
    assert "at evaluation.threat.epsilon: Input should be a finite number" in message


@pytest.mark.parametrize(
    "path",
    [
        ("evaluation", "summary", "clean_accuracy"),
        ("evaluation", "summary", "robust_accuracy"),
        ("evaluation", "summary", "attacks", "pgd"),
        ("evaluation", "pgd", "step_size"),
        ("detector", "threshold"),
        ("detector", "stated_false_positive_rate"),
        ("detector", "successful", "auroc"),
        ("job", "recipe", "epsilon"),
    ],
    ids=words,
)
def test_not_a_number_is_refused_where_there_may_be_none(path):
    sentence_about(with_value(path, math.nan))


def test_a_diverged_training_may_say_so():
    """The one place where NaN is the truth: the logs of an epoch."""
    card = parse_card(with_value(("training", "last_epoch", "loss"), math.nan), PLACE)
    assert math.isnan(card.training.last_epoch["loss"])
    assert math.isnan(parse_card(card_text(card), PLACE).training.last_epoch["loss"])


def test_what_its_classes_refuse_is_refused_with_their_words():
    message = sentence_about(with_value(("evaluations", 0, "threat", "norm"), "l_1"))
    assert "at evaluations.0.threat: the norm is 'l_1': give one of l_inf, l2;" in message
    message = sentence_about(with_value(("job", "recipe", "bottleneck"), False))
    assert "at job.recipe: the coefficient (lambda) is 0.3 for a network without a code" in message


@pytest.mark.parametrize("number", [1, 4, -3, 23, "3", None, True, [3], {"3": 3}, 1e400])
def test_another_format_is_refused(number):
    message = sentence_about(with_value(("format",), number))
    assert "and this erkeras reads 2 and 3: train the model again." in message


def test_a_card_without_a_format_is_refused():
    content = json.loads(CARD_FILE.read_text())
    del content["format"]
    assert "has format None and this erkeras reads 2 and 3" in sentence_about(json.dumps(content))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "3",
        '"card"',
        "[]",
        "[{}]",
        b"\xff\xfe{}",
        b"\x80\x04.",
        "{'format': 3}",
        '{"format": 3} {"format": 3}',
        "[" * 100_000,
        '{"format":' * 100_000,
        '{"format": 3, "name": ' + "[" * 100_000 + "]" * 100_000 + "}",
        " " * 10_000_000,
    ],
    ids=lambda text: repr(text[:24]),
)
def test_what_is_no_card_at_all_is_refused(text):
    assert "is not a model card: train the model again, or copy its folder again." in sentence_about(text)


def test_every_cut_card_is_refused():
    text = CARD_FILE.read_bytes()
    for end in range(0, len(text) - 1, 97):
        sentence_about(text[:end])


@pytest.mark.parametrize("key", ["two\nlines", "carriage\rreturn", "separator\u2028"])
def test_a_key_of_two_lines_is_refused_in_one(key):
    sentence_about(with_value((key,), 1))


def test_a_card_tells_what_it_derives():
    assert GOLDEN.recipe is GOLDEN.job.recipe
    assert GOLDEN.purified
    without = dataclasses.replace(GOLDEN.job.recipe, generator_updates=0)
    assert not dataclasses.replace(GOLDEN, job=dataclasses.replace(GOLDEN.job, recipe=without)).purified
    nameless = dataclasses.replace(GOLDEN, job=None)
    assert nameless.recipe is None
    assert not nameless.purified
    assert parse_card(card_text(nameless), PLACE) == nameless


def test_the_card_of_a_trained_model_goes_through_its_file_unchanged(saved_model):
    card = read_card(saved_model)
    text = (saved_model / CARD).read_text()
    assert card_text(card) == text
    assert parse_card(text, PLACE) == card


def test_the_documentation_names_every_key():
    page = Path(__file__).parents[2] / "docs" / "model-card.md"
    if not page.exists():
        pytest.skip("docs/model-card.md is not written yet")
    text = page.read_text()
    missing = sorted({path[-1] for path, _ in KEYS if f"`{path[-1]}`" not in text})
    assert not missing


@pytest.mark.parametrize(
    "changes",
    [{"evaluation": value} for value in (None, [], "text", 3, {})]
    + [{"job": value} for value in (None, [], "text", 3)]
    + [{"evaluation": {"baseline": value}} for value in ("text", 3, [1])],
    ids=str,
)
def test_an_old_card_of_other_types_is_refused_in_one_sentence(changes):
    names = ("images", "outputs", "clean_accuracy", "attacks", "robust_accuracy", "mean_boundary_distance",
             "forward_passes", "backward_passes", "warnings")  # fmt: skip
    report = dict.fromkeys((*names, "split", "norm", "epsilon", "pgd", "seed", "indices"), 1)
    if isinstance(changes.get("evaluation"), dict) and changes["evaluation"]:
        changes = {"evaluation": {**report, **changes["evaluation"]}}
    with pytest.raises(InputError, match="lacks what a card of format 2 has") as caught:
        parse_card(json.dumps({"format": 2, "job": {}, "evaluation": report, **changes}), PLACE)
    assert len(str(caught.value).splitlines()) == 1
