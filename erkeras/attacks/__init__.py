"""Attacks, one file each, on one contract (`attack.py`)."""

from erkeras.attacks.attack import Attack
from erkeras.attacks.contract import Attacked
from erkeras.attacks.fgsm import FGSM
from erkeras.attacks.pgd import PGD
from erkeras.attacks.rays import RayS
from erkeras.attacks.square import Square
from erkeras.attacks.victim import Victim

__all__ = ["FGSM", "PGD", "Attack", "Attacked", "RayS", "Square", "Victim"]
