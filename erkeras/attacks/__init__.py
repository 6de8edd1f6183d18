"""Attacks, one file each, on one contract (`attack.py`)."""

from erkeras.attacks.apgd import APGD
from erkeras.attacks.attack import Attack
from erkeras.attacks.autoattack import AutoAttack
from erkeras.attacks.carlini_wagner import CarliniWagner
from erkeras.attacks.contract import Attacked
from erkeras.attacks.divergence_pgd import DivergencePGD
from erkeras.attacks.evasion import DetectorAPGD, DetectorPGD, aim_at_detector
from erkeras.attacks.fab import FAB
from erkeras.attacks.fgsm import FGSM
from erkeras.attacks.pgd import PGD
from erkeras.attacks.rays import RayS
from erkeras.attacks.square import Square
from erkeras.attacks.victim import Victim, as_victim

__all__ = [
    "APGD",
    "FAB",
    "FGSM",
    "PGD",
    "Attack",
    "Attacked",
    "AutoAttack",
    "CarliniWagner",
    "DetectorAPGD",
    "DetectorPGD",
    "DivergencePGD",
    "RayS",
    "Square",
    "Victim",
    "aim_at_detector",
    "as_victim",
]
