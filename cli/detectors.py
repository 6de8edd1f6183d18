"""erkeras detectors: columns and words of the comparison that the library makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rich_click as click

from erkeras import evaluation
from erkeras.detection.named import DETECTORS
from erkeras.errors import InputError
from erkeras.evaluation.detectors import ATTACKS

from . import console
from .detect import write_json
from .options import (
    CONFIDENCE,
    COUNT,
    EPSILON,
    HOW_MANY,
    HOW_STRONG,
    MODULES,
    PATH,
    SEED,
    STEP_SIZE,
    STEPS,
    WHAT,
    WHERE_TO,
    FiniteFloat,
    drawable,
    writable,
)

#: The paper's tables beside the familiar one: what detectors are fitted on there.
_CROSSED = {"fgsm": 6, "pgd": 7, "cw": 8}
_TITLES = {"fgsm": "FGSM", "pgd": "PGD", "cw": "C&W"}
_COLUMNS = [
    "detector",
    "fitted on, evaluated by",
    "positives",
    "ACC-NADV, ACC-COM",
    "paper's",
    "no detector",
    "ACC-ADV, ACC-CLA",
    "AUROC",
    "found at 5% FPR",
]


@click.command()
@click.argument("models", type=PATH, nargs=-1, required=True)
@click.option(
    "--table",
    is_flag=True,
    panel=WHAT,
    help="Make the paper's Tables 5 to 8. One of MODELS must be undefended, and one must have a code.",
)
@click.option(
    "--detector",
    "detectors",
    type=click.Choice(DETECTORS),
    multiple=True,
    panel=WHAT,
    help="Compare this detector. Repeat the option to compare several.  "
    "[default: kd, lid of an undefended model; er1, er2 where there is a code]",
)
@click.option(
    "--false-positive-rate",
    type=FiniteFloat(0, 1, min_open=True, max_open=True),
    panel=WHAT,
    help="Set the threshold for this false positive rate on set I.  [default: the regression's own decision, at 1/2]",
)
@MODULES
@click.option("--attack", type=click.Choice(ATTACKS), panel=HOW_STRONG, help="Evaluate on this attack.  [default: pgd]")
@click.option("--fit-on", type=click.Choice(ATTACKS), panel=HOW_STRONG, help="Fit on this attack.  [default: --attack]")
@click.option(
    "--with-detector", "adaptive", is_flag=True, panel=HOW_STRONG, help="Evaluate against an adaptive attacker too."
)
@click.option(
    "--epsilon",
    type=EPSILON,
    panel=HOW_STRONG,
    help="Run FGSM and PGD with this epsilon, in l_inf.  [default: as the card reports]",
)
@STEPS
@STEP_SIZE
@click.option(
    "--cw-bound",
    type=EPSILON,
    panel=HOW_STRONG,
    help="Limit the root mean square distance of C&W. 1 is no limit.  [default: mnist 0.007, cifar10 0.004, else 1]",
)
@CONFIDENCE
@click.option(
    "--iterations",
    type=COUNT,
    panel=HOW_STRONG,
    help="Run this many iterations in each search step of C&W.  [default: 1000]",
)
@click.option(
    "--limit",
    type=COUNT,
    panel=HOW_MANY,
    help="Attack at most this many images of set II by C&W and the adaptive attacker.  [default: 500]",
)
@SEED
@click.option(
    "--record",
    type=PATH,
    panel=WHERE_TO,
    help="Keep records of the attacks in this folder. Records that are there are used again.",
)
@click.option(
    "--json", "json_file", type=PATH, panel=WHERE_TO, help="Write the figures to this file. - is standard output."
)
@click.option("--picture", type=PATH, panel=WHERE_TO, help="Draw the scores, clean against attacked, to this PNG file.")
def detectors(
    models: tuple[Path, ...],
    table: bool,
    attack: str | None,
    fit_on: str | None,
    json_file: Path | None,
    picture: Path | None,
    **options: Any,
) -> None:
    """Compare detectors of MODELS by the protocol of the paper's section 4.5.

    MODELS are folders that erkeras train or erkeras.save wrote, all of one data set. Detectors are fitted on one
    attack, and evaluated by the same or another one.
    """
    if json_file != Path("-"):
        writable(json_file)
    drawable(picture)
    if table and (attack or fit_on or picture):
        raise InputError("--table was given with --attack, --fit-on or --picture: it makes all pairs, leave one out.")
    evaluated_by = attack or "pgd"
    pair = None if table else (fit_on or evaluated_by, evaluated_by)
    asked = evaluation.DetectorComparison(models, pair, **options)
    asked.check()
    console.load_tensorflow(for_attacks=True)
    with console.progress() as progress:
        report, seen = evaluation.compare_detectors(asked, progress)
    _show(report, table)
    if picture is not None and pair:
        panels = {part.name.upper(): part.scores(*pair, asked.false_positive_rate) for part in seen}
        fitted, evaluated = (_TITLES[name] for name in pair)
        title = f"{models[0].name}: fitted on {fitted}, evaluated by {evaluated}"
        evaluation.draw_scores(picture, {name: panel for name, panel in panels.items() if panel}, title)
    if json_file:
        write_json(json_file, report)


def _show(report: dict[str, Any], table: bool) -> None:
    cells, counts = report["cells"], [len(report[name]) for name in ("set_i", "set_ii")]
    if not console.output.is_terminal:
        console.output.width = max(console.output.width, 180)  # a file has no edge
    where = f"{report['dataset']}, fitted on {counts[0]:,} test images, evaluated on {counts[1]:,} others"
    if not table:
        console.print_table(where, _COLUMNS, _rows(cells))
    else:
        familiar = [cell for cell in cells if cell["fitted_on"] == cell["evaluated_by"]]
        console.print_table(f"Table 5: {where}", _COLUMNS, _rows(familiar))
        for attack, number in _CROSSED.items():
            crossed = [cell for cell in cells if cell["fitted_on"] == attack != cell["evaluated_by"]]
            console.print_table(f"Table {number}: fitted on {_TITLES[attack]}", _COLUMNS, _rows(crossed))
    if report["adaptive"]:
        console.print_table(
            "Against an adaptive attacker, PGD",
            ["detector", "model", "fitted on", "norm", "images", "ACC-NADV", "ACC-COM", "no detector"],
            [
                [
                    row["detector"].upper(),
                    row["model"],
                    _TITLES[row["fitted_on"]],
                    row["norm"],
                    str(row["images"]),
                    *(_percent(row[key]) for key in ("acc_nadv", "acc_com", "without_detector")),
                ]
                for row in report["adaptive"]
            ],
        )
    console.output.print(
        "Positives: 'all' are the attacked versions of all images that are right when clean, 'successful' those of "
        "them that are misclassified, in fitting and in evaluating; negatives are all clean images. No detector: what "
        "ACC-COM is without one."
    )


def _rows(cells: Sequence[dict[str, Any]]) -> list[list[str]]:
    return [_row(cell) for cell in cells]


def _row(cell: dict[str, Any]) -> list[str]:
    separation, counts = cell["separation"] or {}, cell["counts"] or {"adversarial": 0}
    # With classification in it, the paper's ACC-COM can only be of all attacked images.
    paper = cell["paper"] if cell["positives"] == "all" else None
    auroc = separation.get("auroc")
    return [
        f"{cell['detector'].upper()}, {cell['model']}",
        f"{_TITLES[cell['fitted_on']]}, {_TITLES[cell['evaluated_by']]}",
        f"{cell['positives']} {counts['adversarial']:,}",
        f"{_percent(cell['acc_nadv'])}, {_percent(cell['acc_com'])}",
        f"{_percent(paper['acc_nadv'])}, {_percent(paper['acc_com'])}" if paper else "",
        _percent(cell["without_detector"]),
        f"{_percent(cell['acc_adv'])}, {_percent(cell['acc_cla'])}",
        "none" if auroc is None else f"{auroc:.3f}",
        _percent(separation.get("detection_rate_at_5")),
    ]


def _percent(fraction: float | None) -> str:
    return "none" if fraction is None else f"{100 * fraction:.2f}"
