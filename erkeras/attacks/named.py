"""Attacks by name: which there are, the settings that each takes, and those that a model card reports.

Nothing here loads TensorFlow before an attack is made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from erkeras import attacks
from erkeras.errors import InputError
from erkeras.threat import ThreatModel

if TYPE_CHECKING:
    from erkeras.attacks import FGSM, PGD
    from erkeras.attacks.attack import Attack

#: Restarts of the PGD that evaluates, where none are asked for.
RESTARTS = 5


@dataclass(frozen=True)
class _Named:
    """A class of attacks, the settings that make it the attack of a name, and those that a user may set."""

    kind: str
    fixed: Mapping[str, Any]
    options: tuple[str, ...] = ()


_ITERATED = ("restarts", "iterations")
_NAMED = {
    "fgsm": _Named("FGSM", {}),
    "pgd": _Named("PGD", {"restarts": RESTARTS}, ("steps", "step_size", "restarts")),
    "apgd-ce": _Named("APGD", {}, _ITERATED),
    "apgd-dlr": _Named("APGD", {"loss": "dlr"}, _ITERATED),
    "apgd-t": _Named("APGD", {"loss": "dlr", "targets": 9}, _ITERATED),
    "fab": _Named("FAB", {"minimise": False}, _ITERATED),
    "fab-t": _Named("FAB", {"targets": 9, "minimise": False}, _ITERATED),
    "square": _Named("Square", {}, ("queries", "restarts")),
    "cw": _Named("CarliniWagner", {}, ("iterations", "confidence")),
    "rays": _Named("RayS", {}, ("queries",)),
    "autoattack": _Named("AutoAttack", {}, ("version",)),
}
ATTACKS = tuple(_NAMED)
#: Those that ask a model for no gradients, as a served one.
BY_QUERIES = ("square", "rays")
#: Those that can be aimed at the detector too.
ADAPTIVE = ("pgd", "apgd-ce", "apgd-dlr", "apgd-t")


def named_attack(name: str, threat: ThreatModel, **options: Any) -> Attack:
    """Makes the attack of a name.

    Example:
        named_attack("pgd", ThreatModel("l_inf", 0.3), steps=100)

    Args:
        name: in `ATTACKS`.
        threat: norm, epsilon, pixel bounds.
        options: settings that the attack takes, as `AttackSettings` names them; None for the default.

    Raises:
        InputError: for an unknown name, an option that the attack does not take, or whatever its class refuses.
    """
    settings = AttackSettings((name,), **options)
    (attack,) = settings.make(threat)
    return attack


@dataclass(frozen=True)
class AttackSettings:
    """Holds the names of attacks and the settings that the user gave. None stands for the attack's default.

    Example:
        settings = AttackSettings(("pgd", "square"), queries=1000)
        Evaluation("saved_models/digits-er-classifier", settings, limit=20).run().robust_accuracy

    Args:
        attacks: names in `ATTACKS`, each once or more.
        version: of AutoAttack: "standard", "plus" or "rand".
        steps, step_size: of PGD (40 steps of 2.5 epsilon / steps).
        restarts: of PGD (5), APGD, FAB and Square (1).
        iterations: of APGD and FAB (100), and of each search step of C&W (1000).
        queries: of Square (5000) and RayS (10000).
        confidence: of C&W (0).
        with_detector: aim at the model's detector too.

    Raises:
        InputError: for an unknown name, a setting that none of the attacks takes, or an attack that cannot be aimed
            at a detector.
    """

    attacks: tuple[str, ...]
    version: str | None = None
    steps: int | None = None
    step_size: float | None = None
    restarts: int | None = None
    iterations: int | None = None
    queries: int | None = None
    confidence: float | None = None
    with_detector: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.attacks if name not in _NAMED]
        if unknown or not self.attacks:
            given = repr(unknown[0]) if unknown else "none"
            raise InputError(f"the attack {given} was asked for: give one of {', '.join(ATTACKS)}.")
        unfit = [name for name in self.attacks if name not in ADAPTIVE]
        if self.with_detector and unfit:
            raise InputError(
                f"{unfit[0]} was asked for with the detector, and cannot attack both at once: give one of "
                f"{', '.join(ADAPTIVE)}."
            )
        for option, value in self._options().items():
            takers = [name for name, named in _NAMED.items() if option in named.options]
            if value is not None and not set(takers) & set(self.attacks):
                raise InputError(
                    f"{option.replace('_', ' ')} was given, and {', '.join(self.attacks)} takes none: leave it out, or "
                    f"add {' or '.join(takers)}."
                )

    def make(self, threat: ThreatModel) -> list[Attack]:
        """Makes the attacks, each once, in the order in which they are named."""
        return [self._make(name, threat) for name in dict.fromkeys(self.attacks)]

    def _make(self, name: str, threat: ThreatModel) -> Attack:
        named, given = _NAMED[name], self._options()
        options = {option: given[option] for option in named.options if given[option] is not None}
        attack = getattr(attacks, named.kind)(threat, **{**named.fixed, **options})
        return attacks.AdaptiveAttack(attack) if self.with_detector else attack

    def _options(self) -> dict[str, Any]:
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if name not in ("attacks", "with_detector")}


def report_attacks(threat: ThreatModel, steps: int = 40, restarts: int = RESTARTS) -> tuple[FGSM, PGD]:
    """Makes FGSM and the PGD that a model card reports."""
    return attacks.FGSM(threat), attacks.PGD(threat, steps, restarts=restarts)


def recorded_attack(entry: Mapping[str, Any]) -> Attack:
    """Makes the attack that a record names.

    Args:
        entry: `name` and `config`, and since version 0.2 `class`.

    Raises:
        InputError: where there is no such attack, or it does not take such a config.
    """
    kinds = {name.partition("-")[0]: named.kind for name, named in _NAMED.items()}
    try:
        kind = entry.get("class") or kinds[entry["name"].partition("-")[0]]
        if kind not in (*kinds.values(), "AdaptiveAttack", "DivergencePGD"):
            raise KeyError(kind)
        attack: Attack = getattr(attacks, kind).from_config(entry["config"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"an attack of the record, {entry.get('name')!r}, cannot be made again ({error}): evaluate again."
        ) from error
    if attack.name != entry.get("name"):
        raise InputError(
            f"a record calls {attack.name} {entry.get('name')!r}: it was changed by hand, so evaluate again."
        )
    return attack
