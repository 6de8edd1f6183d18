"""Attacks on a model together with its detector: wrong, and taken for natural, at once.

Carlini and Wagner (2017), "Adversarial Examples Are Not Easily Detected: Bypassing Ten Detection Methods": an attack
that knows the detector descends its score too.
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from erkeras.attacks.apgd import APGD
from erkeras.attacks.attack import Attack, serializable
from erkeras.attacks.contract import Batch, Logits, State
from erkeras.attacks.losses import LOSSES, margin
from erkeras.attacks.pgd import PGD
from erkeras.errors import InputError

#: Weights of the detector's term; 0 is the attack that does not know the detector.
WEIGHTS = (0.0, 0.1, 1.0, 10.0)
