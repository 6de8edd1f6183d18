"""The model card for people."""

from __future__ import annotations

from typing import Any

from erkeras.recipes import TITLES


def render_card(card: dict[str, Any]) -> str:
    """Markdown of a card: what the model is, how it was trained, what was measured, with which command."""
    job, data, evaluation = card["job"], card["dataset"], card["evaluation"]
    recipe, pgd = job["recipe"], evaluation["pgd"]
    height, width, channels = data["image_shape"]
    rows = results_rows(card)
    accuracies = _markdown(["", *rows[0][1]], [[name, *cells.values()] for name, cells in rows])
    return f"""# {card["name"]}

{defense_title(recipe)} (as in "Towards Robustness of Deep Neural Networks via Regularization")\
{" with an ER-Detector" if card["detector"] else ""}, made by

    {job["command"]}

**Data.** {data["name"]}: {data["train"]} training, {data["validation"]} validation and {data["test"]} test images of
{height} x {width} x {channels}; classes {", ".join(data["class_names"])}.

**Training.** Network `{recipe["network"]}`, code size {recipe["code_size"]}, {recipe["epochs"]} epochs, batch
{recipe["batch_size"]}, {_adversary(recipe)}, {_regularizer(recipe)}, seed {job["seed"]}; judged at epsilon
{recipe["epsilon"]:g}. All settings are in `card.json`.{_kept(card["training"])}
{_purifier(recipe)}
## Measured

On {evaluation["images"]} test images (their indices are in `card.json`), l_inf, epsilon {evaluation["epsilon"]:g},
seed {evaluation["seed"]}. PGD: {pgd["steps"]} steps of {pgd["step_size"]:.4g}, {pgd["restarts"]} restarts, the worst
for each image. A stronger attack finds more.

{accuracies}

{_detector(card)}The classifier's figures again:

    erkeras attack THIS_FOLDER --attack fgsm --attack pgd --steps {pgd["steps"]} --step-size {pgd["step_size"]!r} \\
      --restarts {pgd["restarts"]} --epsilon {evaluation["epsilon"]:g} --limit {evaluation["images"]} \\
      --seed {evaluation["seed"]}
{_evaluations(card)}
![Test images, clean and attacked, with the labels given](attacked.png)
"""


def _kept(training: dict[str, Any]) -> str:
    kept = f"Epoch {training['kept_epoch']} is kept." if "kept_epoch" in training else ""
    return "".join(f"\n{sentence}" for sentence in (kept, *training.get("warnings", [])) if sentence)


def _reduction(detector: dict[str, Any]) -> str:
    """What it costs that the densities are reduced to few centres."""
    if "unreduced" not in detector:
        return ""
    whole = detector["unreduced"]
    pairs = [
        f"{name} {found['auroc']:.3f} instead of {before['auroc']:.3f}"
        for name, found, before in (
            (kind.replace("_", " "), detector[kind], whole[kind]) for kind in ("successful", "all_attacked")
        )
        if found["auroc"] is not None
    ]
    error, spread = (whole[f"log_density_{name}"] for name in ("root_mean_square_error", "standard_deviation"))
    return f"""
To stay small, its densities are reduced by k-means to {detector["centres"]} centres a class. On the clean test images
its log density differs from the whole one, whose standard deviation is {spread:.3g}, by {error:.3g} (root mean square);
AUROC: {", ".join(pairs)}.
"""


def _adversary(recipe: dict[str, Any]) -> str:
    epsilon = recipe["epsilon"] * recipe["training_ratio"]
    if not epsilon:
        return "clean images"
    trades = f", TRADES with beta {recipe['beta']:g}" if recipe["objective"] == "trades" else ""
    return f"PGD-{recipe['steps']} at epsilon {epsilon:.4g}{trades}"


def _regularizer(recipe: dict[str, Any]) -> str:
    if not recipe["coefficient"]:
        return "no regularizer"
    return f"regularizer {recipe['regularizer']} with lambda {recipe['coefficient']:g} ({recipe['coupling']})"


def _purifier(recipe: dict[str, Any]) -> str:
    if not recipe.get("generator_updates"):
        return ""
    steps, restarts = recipe["purifier_steps"], recipe["purifier_restarts"]
    return f"""
**Purifier.** The classifier sees the nearest image that a generator can make, sought in {steps} steps from each of
{restarts} starts (step size {recipe["purifier_step_size"]:g}). The generator was trained by WGAN-GP,
{recipe["generator_updates"]} updates at rate {recipe["generator_learning_rate"]:g}. A look at an image costs
{steps * restarts} passes through the generator, forward and backward, so few images are judged, by a short PGD.
Backwards the purifier counts as the identity (BPDA); `erkeras attack THIS_FOLDER --naive` attacks the classifier alone.
"""


def _detector(card: dict[str, Any]) -> str:
    detector = card["detector"]
    if not detector:
        return ""
    return f"""\
The detector ({"ER2" if detector["features"] == "combined" else "ER1"}) was fitted on {detector["fitted_on"]} and
calibrated on {detector["calibrated_on"]}. Positives below are attacked test images, negatives the clean ones.

"Found at 5% FPR" is a point of their ROC curve; "found" and "false positives" are what the detector's own threshold
gives, which was set for {percent(detector["stated_false_positive_rate"])} on the validation images.

{_markdown(DETECTION_COLUMNS, detection_rows(card))}
{_reduction(detector)}
"""


def _evaluations(card: dict[str, Any]) -> str:
    """What `erkeras attack --card` added: one paragraph and one table each."""
    parts = []
    for found in card.get("evaluations", []):
        figures, threat = found["summary"], found["threat"]
        rows = [[name, percent(accuracy)] for name, accuracy in figures["attacks"].items()]
        distance = figures["mean_boundary_distance"]
        sentences = list(figures["warnings"])
        if distance is not None:
            sentences.insert(0, f"Mean distance to the decision boundary: {distance:.4f}.")
        parts.append(
            f"""
### {found["title"]}

On {figures["images"]} {found["split"]} images of {found["dataset"]}, {threat["norm"]}, epsilon {threat["epsilon"]:g},
seed {found["seed"]}; each attack gets the images that still stand.

{_markdown(["attack", "robust accuracy after it"], [["clean", percent(figures["clean_accuracy"])], *rows])}

{" ".join(sentences)}

Verified, from the attacked images, by

    erkeras attack --verify THIS_FOLDER/{found["record"]}
"""
        )
    return "".join(parts)


def results_rows(card: dict[str, Any]) -> list[tuple[str, dict[str, str]]]:
    """Rows (model, {column: percentage}) of the table of accuracies, the baseline's last."""
    evaluation, recipe = card["evaluation"], card["job"]["recipe"]
    rows = [(defense_title(recipe), evaluation)]
    if "baseline" in evaluation:
        rows.append(("the same network without defence", evaluation["baseline"]))
    names = {"fgsm": "FGSM", "pgd": f"PGD-{evaluation['pgd']['steps']}"}
    return [
        (
            name,
            {
                "clean": percent(figures["clean_accuracy"]),
                **{names[attack]: percent(accuracy) for attack, accuracy in figures["attacks"].items()},
                "worst of all": percent(figures["robust_accuracy"]),
            },
        )
        for name, figures in rows
    ]


def defense_title(recipe: dict[str, Any]) -> str:
    """What the paper calls a recipe's defence; an ER-Classifier without its parts is what is left of it."""
    defense = recipe["defense"]
    if defense == "er-classifier" and not recipe["coefficient"]:
        defense = "madry" if recipe["training_ratio"] else "e-cla"
    elif defense == "er-classifier" and not recipe["training_ratio"]:
        defense = "er-classifier-minus"
    return TITLES[defense]


def percent(portion: float | None) -> str:
    return "none" if portion is None else f"{100 * portion:.1f}%"


#: Columns of `detection_rows`.
DETECTION_COLUMNS = ["positives", "images", "AUROC", "found at 5% FPR", "found", "false positives"]


def detection_rows(card: dict[str, Any]) -> list[list[str]]:
    """Rows of the table of detection: successful attacks alone, and all attacked images, as positives."""
    return [
        [
            name,
            str(figures["adversarial"]),
            "none" if figures["auroc"] is None else f"{figures['auroc']:.3f}",
            percent(figures["detection_rate_at_5"]),
            percent(figures["detection_rate"]),
            percent(figures["false_positive_rate"]),
        ]
        for name, figures in (
            ("successful attacks", card["detector"]["successful"]),
            ("all attacked images", card["detector"]["all_attacked"]),
        )
    ]


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
