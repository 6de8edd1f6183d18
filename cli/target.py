"""What is attacked, and by what: a model and its images found and checked, and the attacks made of their options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .options import import_modules

ATTACKS = (
    "fgsm",
    "pgd",
    "apgd-ce",
    "apgd-dlr",
    "apgd-t",
    "fab",
    "fab-t",
    "square",
    "cw",
    "rays",
    "autoattack",
)
#: Those that ask a served model.
REMOTE = ("square", "rays")
#: Those that can aim at the detector too.
AIMED = ("pgd", "apgd-ce", "apgd-dlr", "apgd-t")


@dataclass(frozen=True)
class Settings:
    """What the options say of the attacks."""

    attacks: tuple[str, ...]
    version: str = "standard"
    steps: int = 40
    step_size: float | None = None
    restarts: int | None = None
    iterations: int | None = None
    queries: int | None = None
    with_detector: bool = False


@dataclass(frozen=True)
class Target:
    """A model, found and checked, and the images it is attacked on.

    Of an endpoint, `kind` is "endpoint", `model` is its name on the server, and `path` means nothing.
    """

    model: Path
    kind: str
    path: Path
    card: dict[str, Any] | None
    dataset: str
    split: str
    threat: Any
    limit: int
    seed: int
    modules: tuple[str, ...]
    endpoint: str = ""
    #: What is asked of an endpoint; see `Served`.
    knowledge: str = ""

    @property
    def shown(self) -> str:
        return self.endpoint or str(self.model)

    @property
    def purified(self) -> bool:
        return self.card is not None and bool(self.card["job"]["recipe"].get("generator_updates"))

    def images(self) -> Any:
        from erkeras.data import load_dataset

        return getattr(load_dataset(self.dataset), self.split).sample(self.limit, self.seed)

    def load(self, with_detector: bool) -> Any:
        if self.kind == "endpoint":
            return self._served()
        from erkeras.serving.folder import load_model

        import_modules(self.modules)
        model = load_model(self.kind, self.path)
        if not with_detector:
            return model
        from erkeras.detection import ERDetector

        return ERDetector.load(self.model / "detector.npz", model).outputs

    def _served(self) -> Any:
        from erkeras.serving import Client, Served

        client = Client(self.endpoint)
        _check_size(self.dataset, self.images().pixels.shape[1:], self.endpoint, client.image_shape)
        return Served(client, self.knowledge)


def find_target(
    model: Path,
    dataset: str | None,
    split: str,
    norm: str,
    epsilon: float | None,
    limit: int,
    seed: int,
    settings: Settings,
    modules: tuple[str, ...],
) -> Target:
    from erkeras.data import check_dataset
    from erkeras.errors import InputError
    from erkeras.serving.folder import find_model
    from erkeras.threat import ThreatModel

    kind, path, card = find_model(model)
    if dataset is None:
        if card is None:
            raise InputError(f"{model} does not say what it was trained on: give --dataset.")
        dataset = card["dataset"]["name"]
    if epsilon is None:
        if card is None or norm != "l_inf":
            raise InputError(f"no epsilon is known for {model} and the norm {norm}: give --epsilon.")
        epsilon = card["evaluation"]["epsilon"]
    shape = check_dataset(dataset)
    if card is not None:
        _check_size(dataset, shape, str(model), card["dataset"]["image_shape"])
    if settings.with_detector:
        unfit = [name for name in settings.attacks if name not in AIMED]
        if card is None or unfit:
            raise InputError(
                f"--with-detector was given with {f'the attack {unfit[0]}' if unfit else model}: give a folder that "
                f"erkeras train wrote, and attacks among {', '.join(AIMED)}."
            )
        if not card["detector"]:
            raise InputError(f"--with-detector was given and {model} has no detector: leave it out.")
    return Target(model, kind, path, card, dataset, split, ThreatModel(norm, epsilon), limit, seed, modules)


def find_endpoint(
    endpoint: str,
    dataset: str | None,
    split: str,
    norm: str,
    epsilon: float | None,
    limit: int,
    seed: int,
    settings: Settings,
) -> Target:
    """The target that a server has; it is asked for nothing yet."""
    from erkeras.data import check_dataset
    from erkeras.errors import InputError
    from erkeras.serving import Client
    from erkeras.threat import ThreatModel

    Client(endpoint).close()
    unfit = [name for name in settings.attacks if name not in REMOTE]
    if unfit or settings.with_detector:
        raise InputError(
            f"--endpoint was given with {f'the attack {unfit[0]}' if unfit else '--with-detector'}, and a server gives "
            f"no gradients: give --attack {' or --attack '.join(REMOTE)}."
        )
    if dataset is None or epsilon is None:
        raise InputError(
            "--endpoint was given, and a server does not say what it was trained on: give --dataset and --epsilon."
        )
    check_dataset(dataset)
    knowledge = "labels" if set(settings.attacks) == {"rays"} else "logits"
    threat = ThreatModel(norm, epsilon)
    name = Path(endpoint.rstrip("/").rpartition("/")[2])
    return Target(name, "endpoint", name, None, dataset, split, threat, limit, seed, (), endpoint, knowledge)


def _check_size(dataset: str, shape: Sequence[int], model: str, wanted: Sequence[int]) -> None:
    from erkeras.errors import InputError

    if list(shape) != list(wanted):
        has, takes = (" x ".join(map(str, size)) for size in (shape, wanted))
        raise InputError(f"{dataset} has images of {has} and {model} takes {takes}: give images of its size.")


def make_attacks(settings: Settings, threat: Any) -> list[Any]:
    """The attacks that were asked for, each once."""
    from erkeras.attacks import APGD, FAB, FGSM, PGD, AutoAttack, CarliniWagner, RayS, Square
    from erkeras.judging import JUDGING_STEP_RATIO

    step_size = JUDGING_STEP_RATIO * threat.epsilon if settings.step_size is None else settings.step_size

    def given(**options: Any) -> dict[str, Any]:
        return {name: value for name, value in options.items() if value is not None}

    restarts = given(restarts=settings.restarts)
    iterative = {**restarts, **given(iterations=settings.iterations)}
    queries = given(queries=settings.queries)
    makers: dict[str, Callable[[], Any]] = {
        "fgsm": lambda: FGSM(threat),
        "pgd": lambda: PGD(threat, settings.steps, step_size, settings.restarts or 5),
        "apgd-ce": lambda: APGD(threat, **iterative),
        "apgd-dlr": lambda: APGD(threat, loss="dlr", **iterative),
        "apgd-t": lambda: APGD(threat, loss="dlr", targets=9, **iterative),
        "fab": lambda: FAB(threat, minimise=False, **iterative),
        "fab-t": lambda: FAB(threat, targets=9, minimise=False, **iterative),
        "square": lambda: Square(threat, **queries, **restarts),
        "cw": lambda: CarliniWagner(threat, **given(iterations=settings.iterations)),
        "rays": lambda: RayS(threat, **queries),
        "autoattack": lambda: AutoAttack(threat, settings.version),
    }
    chosen = [makers[name]() for name in dict.fromkeys(settings.attacks)]
    if settings.with_detector:
        from erkeras.attacks import aim_at_detector

        return [aim_at_detector(attack) for attack in chosen]
    return chosen
