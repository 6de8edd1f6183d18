"""Attacks on a model together with its detector: wrong, and taken for natural, at once.

Carlini and Wagner (2017), "Adversarial Examples Are Not Easily Detected: Bypassing Ten Detection Methods": an attack
that knows the detector descends its score too.
"""

from __future__ import annotations

#: Weights of the detector's term; 0 is the attack that does not know the detector.
WEIGHTS = (0.0, 0.1, 1.0, 10.0)
