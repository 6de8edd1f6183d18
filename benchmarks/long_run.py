"""Whether a long evaluation stays as it began: traces of the model, and memory, part by part.

    python benchmarks/long_run.py --model saved_models/mnist-er-classifier --images 2000

Standard AutoAttack on so many test images, as `erkeras attack` runs it. "Traces" counts how often TensorFlow has called
the model's Python code: after the first part it must not any more.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path
from typing import Any

from workers import add_options, model_and_images, prepare, tensorflow_on, write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epsilon", type=float, default=0.3)
    parser.add_argument("--images", type=int, default=2000)
    add_options(parser)
    options = parser.parse_args()
    prepare()
    parts = measure(options)
    first, last = parts[0], parts[-1]
    growth = max(part["mib"] for part in parts[1:]) / first["mib"] - 1 if len(parts) > 1 else 0.0
    print(
        f"{last['images']} images in {last['seconds']:.0f} s: {last['standing']} stand; traces after the first part "
        f"{first['traces']}, at the end {last['traces']}; memory {first['mib']:.0f} MiB after it, at most "
        f"{100 * growth:+.1f}% later."
    )
    write(parts, options.json)


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """What was so after each part of the images that the evaluation takes at once."""
    tensorflow_on(options.threads, intra_op=1)
    from erkeras import Progress, ThreatModel, evaluate_robustness
    from erkeras.attacks import AutoAttack, Victim

    model, split = model_and_images(options, options.images, 0)
    traces = 0

    def counted(images: Any) -> Any:
        nonlocal traces
        traces += 1
        return model(images, training=False)

    attack = AutoAttack(ThreatModel("l_inf", options.epsilon))
    parts: list[dict[str, Any]] = []
    started = time.perf_counter()

    class AfterEachPart(Progress):
        def advance(self, units: int, note: str = "") -> None:
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

    found = evaluate_robustness(Victim(counted), split, [attack], progress=AfterEachPart())
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
