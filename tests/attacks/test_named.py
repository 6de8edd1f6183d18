import json
import subprocess
import sys

import pytest

from erkeras.attacks import (
    ADAPTIVE,
    APGD,
    ATTACKS,
    BY_QUERIES,
    FAB,
    FGSM,
    PGD,
    AdaptiveAttack,
    AttackSettings,
    AutoAttack,
    CarliniWagner,
    DivergencePGD,
    RayS,
    Square,
    named_attack,
    recorded_attack,
    report_attacks,
)
from erkeras.attacks.named import RESTARTS
from erkeras.errors import InputError
from erkeras.threat import ThreatModel

L_INF, L2 = ThreatModel("l_inf", 0.07), ThreatModel("l2", 0.7)
#: Name -> the attack, and what a user may set.
NAMED = {
    "fgsm": (FGSM(L_INF), set()),
    "pgd": (PGD(L_INF, steps=40, restarts=5), {"steps", "step_size", "restarts"}),
    "apgd-ce": (APGD(L_INF, restarts=1, iterations=100), {"restarts", "iterations"}),
    "apgd-dlr": (APGD(L_INF, loss="dlr"), {"restarts", "iterations"}),
    "apgd-t": (APGD(L_INF, loss="dlr", targets=9), {"restarts", "iterations"}),
    "fab": (FAB(L_INF, iterations=100, minimise=False), {"restarts", "iterations"}),
    "fab-t": (FAB(L_INF, targets=9, minimise=False), {"restarts", "iterations"}),
    "square": (Square(L_INF, queries=5000, restarts=1), {"queries", "restarts"}),
    "cw": (CarliniWagner(L2, confidence=0.0, iterations=1000), {"iterations", "confidence"}),
    "rays": (RayS(L_INF, queries=10000), {"queries"}),
    "autoattack": (AutoAttack(L_INF, "standard"), {"version"}),
}
#: Option -> a value that is no attack's default.
OPTIONS = {
    "version": "plus",
    "steps": 7,
    "step_size": 0.01,
    "restarts": 3,
    "iterations": 11,
    "queries": 13,
    "confidence": 1.5,
}  # fmt: skip
TAKEN = [(name, option) for name in NAMED for option in OPTIONS if option in NAMED[name][1]]
REFUSED = [(name, option) for name in NAMED for option in OPTIONS if option not in NAMED[name][1]]


def record_of(attack, **changed):
    entry = {"name": attack.name, "class": type(attack).__name__, "config": attack.get_config(), **changed}
    entry = {name: value for name, value in entry.items() if value is not None}
    return json.loads(json.dumps(entry))


def test_every_name_is_here():
    assert tuple(NAMED) == ATTACKS


@pytest.mark.parametrize("name", NAMED)
def test_a_name_is_its_class_with_the_settings_documented(name):
    attack, _ = NAMED[name]
    made = named_attack(name, attack.threat)
    assert type(made) is type(attack)
    assert made == attack
    assert made.name == name


@pytest.mark.parametrize(("name", "option"), TAKEN)
def test_an_option_that_an_attack_takes_is_its_setting(name, option):
    attack, _ = NAMED[name]
    made, plain = named_attack(name, attack.threat, **{option: OPTIONS[option]}), attack.get_config()
    assert plain[option] != OPTIONS[option]
    assert made.get_config() == {**plain, option: OPTIONS[option]}


@pytest.mark.parametrize(("name", "option"), REFUSED)
def test_an_option_without_effect_is_refused(name, option):
    takers = [taker for taker in NAMED if option in NAMED[taker][1]]
    spoken = option.replace("_", " ")
    message = f"{spoken} was given, and {name} takes none: leave it out, or add {' or '.join(takers)}."
    with pytest.raises(InputError) as refused:
        named_attack(name, L_INF, **{option: OPTIONS[option]})
    assert str(refused.value) == message
    # Beside one that takes it, it is not.
    AttackSettings((name, takers[0]), **{option: OPTIONS[option]})


@pytest.mark.parametrize("option", OPTIONS)
def test_none_is_the_default_of_every_option(option):
    for name, (attack, _) in NAMED.items():
        assert named_attack(name, attack.threat, **{option: None}) == attack


def test_each_of_several_attacks_gets_the_options_that_it_takes_and_is_made_once():
    settings = AttackSettings(("square", "pgd", "square", "fgsm"), restarts=2, queries=9)
    assert settings.make(L_INF) == [Square(L_INF, 9, 2), PGD(L_INF, restarts=2), FGSM(L_INF)]


@pytest.mark.parametrize(("names", "given"), [((), "none"), (("pgd", "bim"), "'bim'"), (("PGD",), "'PGD'")])
def test_an_unknown_name_or_none_at_all_is_refused_and_the_names_are_told(names, given):
    with pytest.raises(InputError, match=f"the attack {given} was asked for: give one of fgsm, pgd, .*autoattack"):
        AttackSettings(names)


@pytest.mark.parametrize(
    ("name", "options", "threat", "given"),
    [
        ("pgd", {"steps": 0}, L_INF, "PGD's steps is 0"),
        ("autoattack", {"version": "fast"}, L_INF, "'fast'"),
        ("cw", {}, L_INF, "l_inf"),
        ("rays", {}, L2, "'l2'"),
    ],
)
def test_what_the_class_refuses_is_refused(name, options, threat, given):
    with pytest.raises(InputError, match=given):
        named_attack(name, threat, **options)


@pytest.mark.parametrize("name", NAMED)
def test_an_attack_is_aimed_at_the_detector_or_refused(name):
    if name in ADAPTIVE:
        (made,) = AttackSettings((name,), with_detector=True).make(L_INF)
        assert made == AdaptiveAttack(NAMED[name][0])
    else:
        with pytest.raises(InputError, match=f"{name} was asked for with the detector, .* give one of pgd, apgd-ce"):
            AttackSettings(("pgd", name), with_detector=True)


def test_options_reach_an_attack_that_is_aimed_at_the_detector():
    (made,) = AttackSettings(("pgd",), steps=3, restarts=2, with_detector=True).make(L_INF)
    assert made == AdaptiveAttack(PGD(L_INF, 3, restarts=2))
    assert named_attack("apgd-t", L_INF, with_detector=True).name == "apgd-t-detector"


@pytest.mark.parametrize("steps", [None, 7])
def test_pgd_of_a_name_steps_2_5_epsilon_over_steps_unless_a_length_is_given(steps):
    assert named_attack("pgd", L2, steps=steps).step_length == 2.5 * 0.7 / (steps or 40)
    assert named_attack("pgd", L2, steps=steps, step_size=0.25).step_length == 0.25
    assert named_attack("pgd", L2, steps=steps, step_size=0.0).step_length == 0


def test_attacks_by_queries_ask_for_no_gradients():
    assert set(BY_QUERIES) == {
        name for name, (attack, _) in NAMED.items() if attack.passes[1] == 0 and name != "autoattack"
    }


def test_a_card_reports_fgsm_and_the_pgd_that_evaluates():
    assert report_attacks(L2) == (FGSM(L2), PGD(L2, steps=40, restarts=RESTARTS))
    assert report_attacks(L2)[1] == named_attack("pgd", L2)
    assert report_attacks(L_INF, 7, 2) == (FGSM(L_INF), PGD(L_INF, 7, restarts=2))


@pytest.mark.parametrize(
    "attack",
    [
        *(attack for attack, _ in NAMED.values()),
        PGD(L2, 3, 0.1, 2, random_start=False, loss="dlr", targets=2),
        DivergencePGD(L_INF, 3, restarts=2),
        AdaptiveAttack(PGD(L_INF, 3)),
        AdaptiveAttack(APGD(L2, "dlr", targets=3), weights=(0.0, 1.0)),
    ],
    ids=lambda attack: attack.name,
)
def test_a_recorded_attack_is_the_attack(attack):
    made = recorded_attack(record_of(attack))
    assert type(made) is type(attack)
    assert made == attack


@pytest.mark.parametrize("name", NAMED)
def test_a_record_of_before_classes_were_named_is_read_by_its_name(name):
    attack, _ = NAMED[name]
    assert recorded_attack(record_of(attack, **{"class": None})) == attack


def test_a_record_of_square_under_the_old_name_of_its_setting_is_read():
    old = {"threat": vars(L2), "queries": 3, "restarts": 2, "initial_portion": 0.25}
    for kind in ({}, {"class": "Square"}):
        assert recorded_attack({"name": "square", "config": old, **kind}) == Square(L2, 3, 2, initial_fraction=0.25)


@pytest.mark.parametrize(("attack", "name"), [(FGSM(L_INF), "pgd"), (APGD(L_INF), "apgd-dlr"), (PGD(L2), "pgd-kl")])
def test_a_record_under_another_name_is_refused(attack, name):
    with pytest.raises(InputError, match=f"calls {attack.name} '{name}': it was changed by hand"):
        recorded_attack(record_of(attack, name=name))


@pytest.mark.parametrize(
    "changed",
    [
        {"class": "Missing"},
        {"class": "Victim"},  # of the package, and no attack
        {"class": "Attack"},
        {"class": ["PGD"]},
        {"class": None, "name": "bim"},
        {"config": {}},
        {"config": {"threat": {"norm": "l_7"}}},
        {"config": {"threat": {}, "speed": 3}},
        {"config": {"threat": {}, "steps": 0}},
        {"config": []},
        {"config": None},
    ],
)
def test_a_record_that_no_attack_can_be_made_of_is_refused(changed):
    entry = record_of(PGD(L_INF), **changed)
    with pytest.raises(
        InputError, match=r"an attack of the record, '(pgd|bim)', cannot be made again .*evaluate again"
    ):
        recorded_attack(entry)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"attack": None, "weights": [0.0]},
        {"attack": {"class_name": "Missing", "registered_name": "erkeras>Missing", "config": {}}, "weights": [0.0]},
        {"attack": record_of(FGSM(L_INF))["config"], "weights": [0.0]},
        {**record_of(AdaptiveAttack(PGD(L_INF)))["config"], "weights": None},
        {**record_of(AdaptiveAttack(PGD(L_INF)))["config"], "weights": ["all"]},
        {**record_of(AdaptiveAttack(PGD(L_INF)))["config"], "weights": [-1.0]},
    ],
)
def test_a_record_that_no_aimed_attack_can_be_made_of_is_refused(config):
    entry = {"name": "pgd-detector", "class": "AdaptiveAttack", "config": config}
    with pytest.raises(InputError, match=r"'pgd-detector', cannot be made again .*: evaluate again"):
        recorded_attack(entry)


def test_a_record_without_a_name_is_refused():
    with pytest.raises(InputError, match="evaluate again"):
        recorded_attack(record_of(PGD(L_INF), name=None))


def test_names_and_settings_load_no_tensorflow():
    program = """
import sys
from erkeras.attacks import ATTACKS, AttackSettings
AttackSettings(ATTACKS[:2], steps=3)
assert not {"keras.src", "tensorflow.python"} & set(sys.modules)  # a module that loads on first use may be there
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
