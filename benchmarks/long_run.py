"""Whether a long evaluation stays as it began: traces of the model, and memory, part by part.

    python benchmarks/long_run.py --model saved_models/mnist-er-classifier --images 2000

Standard AutoAttack on so many test images, as `erkeras attack` runs it. "Traces" counts how often TensorFlow has called
the model's Python code: after the first part it must not any more.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from workers import tensorflow_on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, metavar="MODEL", help="a folder of erkeras train")
    parser.add_argument("--dataset", help="the model's own by default")
    parser.add_argument("--epsilon", type=float, default=0.3)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to this file")
    options = parser.parse_args()
    parts = measure(options)
    first, last = parts[0], parts[-1]
    growth = max(part["mib"] for part in parts[1:]) / first["mib"] - 1 if len(parts) > 1 else 0.0
    print(
        f"{last['images']} images in {last['seconds']:.0f} s: {last['standing']} stand; traces after the first part "
        f"{first['traces']}, at the end {last['traces']}; memory {first['mib']:.0f} MiB after it, at most "
        f"{100 * growth:+.1f}% later."
    )
    if options.json:
        options.json.write_text(json.dumps(parts, indent=1) + "\n")


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """What was so after each part of the images that the evaluation takes at once."""
    tensorflow_on(options.threads, intra_op=1)
    from erkeras import ThreatModel, evaluate_robustness, load_dataset
    from erkeras.attacks import AutoAttack, Victim
    from erkeras.serving.folder import find_model, load_model

    kind, path, card = find_model(options.model)
    model = load_model(kind, path)
    traces = 0

    def counted(images: Any) -> Any:
        nonlocal traces
        traces += 1
        return model(images, training=False)

    name = options.dataset or (card or {"dataset": {"name": "mnist"}})["dataset"]["name"]
    split = load_dataset(name).test.sample(options.images, 0)
    attack = AutoAttack(ThreatModel("l_inf", options.epsilon))
    parts: list[dict[str, Any]] = []
    started = time.perf_counter()

    def progress(units: int, note: str) -> None:
        if not note or (parts and note == parts[-1]["note"]):
            return
        images = int(note.split()[-1])
        parts.append(
            {
                "note": note,
                "images": images,
                "seconds": time.perf_counter() - started,
                "traces": traces,
                "mib": resident_mib(),
            }
        )
        print(f"{note}: {parts[-1]['traces']} traces, {parts[-1]['mib']:.0f} MiB", file=sys.stderr, flush=True)

    found = evaluate_robustness(Victim(counted), split, [attack], progress=progress)
    parts[-1]["standing"] = int(found.robust.sum())
    return parts


def resident_mib() -> float:
    """Memory held now, where the system says it; else the most that was."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
