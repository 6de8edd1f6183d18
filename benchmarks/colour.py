"""The strong recipe of colour images, from training to AutoAttack, as the commands of erkeras do it: made for a GPU.

    python benchmarks/colour.py --folder colour
    python benchmarks/colour.py --folder colour --dataset cifar10 --dataset tiny_imagenet:tiny-imagenet-200
    python benchmarks/colour.py --folder small --epochs 1 --limit 8 --width 16

For each data set and each defense it runs `erkeras train --recipe strong`, and then `erkeras attack`, each in a process
of its own. It prints the GPU and the seconds of each command. Run again with the same options, it
goes on where it was interrupted. The last example takes the same way on a processor, with a narrow network; with 4
filters TensorFlow 2.21 aborts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from workers import write

#: Kind of set -> epsilon, as erkeras takes it, by what it is called here.
EPSILONS = {"cifar10": {".03": 0.03, "8/255": 8 / 255}, "stl10": {".03": 0.03}, "tiny_imagenet": {".01": 0.01}}
#: Kind of set, epsilon, defense -> accuracy under AutoAttack in the paper's tables, in percent.
PAPER = {
    ("cifar10", ".03", "er-classifier"): 47.2,
    ("cifar10", ".03", "madry"): 35.6,
    ("tiny_imagenet", ".01", "er-classifier"): 11.1,
}
DEFENSES = ("er-classifier", "madry", "trades", "er-trades")
#: A module that `--width` writes: the strong recipe's network with another number of filters.
NARROW = '''"""The PreAct ResNet-18 of fewer filters."""

from erkeras.models.networks import build_colour_classifier, build_preact_resnet_encoder


def build(image_shape, classes, code_size):
    encoder = build_preact_resnet_encoder(image_shape, code_size, width={width})
    return encoder, build_colour_classifier(code_size, classes)
'''
#: Names the devices, in a process of its own: a program that has looked keeps a GPU's memory.
DEVICES = """
import platform, tensorflow as tf
gpus = tf.config.list_physical_devices("GPU")
names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
print(", ".join(names) or f"no GPU, {platform.processor() or platform.machine()}")
"""


class Commands:
    """Runs commands of erkeras in a folder, and keeps what each took."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._file = folder, folder / "seconds.json"
        self.done: list[dict[str, Any]] = json.loads(self._file.read_text()) if self._file.exists() else []

    def run(self, *arguments: str) -> float:
        """Runs a command unless it is done; gives its seconds, and ends the program where it fails."""
        line = " ".join(arguments)
        for known in self.done:
            if known["command"] == line:
                return known["seconds"]
        print(f"erkeras {line}", flush=True)
        started = time.perf_counter()
        code = subprocess.run([sys.executable, "-m", "erkeras", *arguments, "--resume"], cwd=self.folder).returncode
        if code:
            sys.exit(code)
        self.done.append({"command": line, "seconds": round(time.perf_counter() - started, 1)})
        write(self.done, self._file)
        print(f"{self.done[-1]['seconds']:.0f} seconds\n", flush=True)
        return self.done[-1]["seconds"]


def measure(options: argparse.Namespace, commands: Commands) -> Iterator[dict[str, Any]]:
    """Trains and attacks model after model, as long as the minutes last; a row for each attack."""
    started, longest = time.perf_counter(), 0.0
    for dataset in options.dataset:
        for defense in options.defense:
            before = time.perf_counter()
            if before + longest - started > 60 * options.minutes:
                print(f"{defense} on {dataset} is left out: {options.minutes:g} minutes would not last for it.")
                continue
            yield from _model(options, commands, dataset, defense)
            longest = max(longest, time.perf_counter() - before)


def _model(options: argparse.Namespace, commands: Commands, dataset: str, defense: str) -> Iterator[dict[str, Any]]:
    kind = dataset.partition(":")[0]
    name = f"{kind}-{defense}"
    given = ["--dataset", dataset, "--defense", defense, "--recipe", "strong", "--output", name]
    given += ["--seed", str(options.seed), "--limit", str(options.limit), "--restarts", "1"]
    if options.epochs:
        given += ["--epochs", str(options.epochs)]
    if options.batch_size:
        given += ["--batch-size", str(options.batch_size)]
    if options.width:
        given += ["--network", "narrow:build"]
    training = commands.run("train", *given)
    card = json.loads((commands.folder / name / "card.json").read_text())
    for called, epsilon in EPSILONS[kind].items():
        figures = f"{name}-{called.replace('/', '-')}.json"
        given = ["--attack", options.attack, "--epsilon", str(epsilon), "--limit", str(options.limit)]
        attack = commands.run("attack", name, *given, "--seed", str(options.seed), "--card", "--json", figures)
        found = json.loads((commands.folder / figures).read_text())
        yield {
            "dataset": dataset,
            "defense": defense,
            "epsilon": called,
            "images": found["images"],
            "clean": found["clean_accuracy"],
            "attacks": found["attacks"],
            "robust": found["robust_accuracy"],
            "paper": PAPER.get((kind, called, defense)),
            "epochs": card["job"]["recipe"]["epochs"],
            "training_seconds": training,
            "fit_seconds": card["training"]["seconds_of_last_run"],
            "attack_seconds": attack,
        }


def show(rows: list[dict[str, Any]], devices: str) -> None:
    columns = ["data set", "defense", "epsilon", "images", "clean", "robust", "paper", "train s", "fit s", "attack s"]
    table = Table(*columns, title=f"erkeras, {devices}", title_justify="left")
    for row in rows:
        table.add_row(
            row["dataset"],
            f"{row['defense']}, {row['epochs']} epochs",
            row["epsilon"],
            str(row["images"]),
            f"{row['clean']:.1%}",
            f"{row['robust']:.1%}",
            "" if row["paper"] is None else f"{row['paper']:.1f}%",
            *(f"{row[name]:.0f}" for name in ("training_seconds", "fit_seconds", "attack_seconds")),
        )
    Console(width=150).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("colour"), help="for models, records and figures")
    parser.add_argument("--dataset", action="append", help="cifar10 by default; also stl10, tiny_imagenet[:PATH]")
    parser.add_argument("--defense", action="append", choices=DEFENSES, help="er-classifier and madry by default")
    parser.add_argument("--epochs", type=int, help="the recipe's by default")
    parser.add_argument("--batch-size", type=int, help="the recipe's by default")
    parser.add_argument("--attack", default="autoattack", help="as erkeras attack has it")
    parser.add_argument("--limit", type=int, default=1000, help="of test images that are attacked")
    parser.add_argument("--width", type=int, help="filters of the first stage: the recipe's network has 64")
    parser.add_argument("--minutes", type=float, default=15.0, help="no model begins that would not end in so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to this file")
    options = parser.parse_args()
    options.dataset = options.dataset or ["cifar10"]
    options.defense = options.defense or list(DEFENSES[:2])
    unknown = [name for name in options.dataset if name.partition(":")[0] not in EPSILONS]
    if unknown:
        parser.error(f"there is no strong recipe for {unknown[0]}: give one of {', '.join(EPSILONS)}.")
    # Commands run in the folder, and a set may be named by its path from here.
    options.dataset = [_from_anywhere(name) for name in options.dataset]
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.width:
        (options.folder / "narrow.py").write_text(NARROW.format(width=options.width))
    devices = subprocess.run([sys.executable, "-c", DEVICES], capture_output=True, text=True, check=True).stdout.strip()
    print(f"{devices}\n", flush=True)
    rows = list(measure(options, Commands(options.folder)))
    show(rows, devices)
    write({"devices": devices, "rows": rows}, options.json)


def _from_anywhere(dataset: str) -> str:
    kind, colon, rest = dataset.partition(":")
    path, *classes = rest.split(":")
    return ":".join([kind, str(Path(path).absolute()) if path else "", *classes]) if colon else dataset


if __name__ == "__main__":
    main()
