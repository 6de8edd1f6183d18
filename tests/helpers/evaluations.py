"""An evaluation small enough for tests, and what two of them have in common."""

import dataclasses

from erkeras.attacks import AttackSettings
from erkeras.evaluation import Evaluation
from erkeras.threat import ThreatModel

THREAT = ThreatModel("l_inf", 0.1)
SETTINGS = AttackSettings(("fgsm", "pgd"), steps=2, restarts=1)
#: More than one part of any machine with two processors.
LIMIT = 300
FILES = ("settings.json", "examples.jsonl", "images.npz")


def contents(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


def figures(found):
    """Everything but the seconds."""
    return dataclasses.asdict(found.summary())


def evaluation(model, attacks=SETTINGS, **options):
    return Evaluation(model, attacks, **{"threat": THREAT, "limit": LIMIT, **options})
