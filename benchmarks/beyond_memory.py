"""The most memory that a job takes whose images do not fit into it.

    python benchmarks/beyond_memory.py --images 100000

Ten classes of generated PNG images go into a temporary folder. `erkeras train` does a whole job on them, with a limit
on the images that it keeps in memory. What it took at most is printed, with its seconds.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 10
JOB = ["--network", "mnist", "--epochs", "1", "--steps", "1", "--no-augment", "--limit", "200", "--restarts", "1"]


def make_class(folder: Path, label: int, images: int, side: int) -> None:
    """Writes images of one class: coarse squares around a pattern of its own."""
    random = np.random.RandomState(label)
    pattern = random.randint(0, 256, (8, 8, 3))
    (folder / f"class{label}").mkdir()
    for number in range(images):
        coarse = np.clip(pattern + random.randint(-60, 61, pattern.shape), 0, 255).astype(np.uint8)
        image = Image.fromarray(coarse).resize((side, side))
        image.save(folder / f"class{label}" / f"{number:06d}.png", compress_level=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--memory", type=float, default=0.25, help="gibibytes of images that are kept in memory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "images"
        folder.mkdir()
        with ThreadPoolExecutor() as threads:
            each = options.images // CLASSES
            list(threads.map(lambda label: make_class(folder, label, each, options.side), range(CLASSES)))
        command = [sys.executable, "-m", "erkeras", "train", "--dataset", f"folder:{folder}", *JOB]
        environment = {**os.environ, "ERKERAS_MEMORY": str(options.memory)}
        started = time.perf_counter()
        subprocess.run([*command, "--output", f"{place}/model"], env=environment, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    pixels = options.images * options.side**2 * 3
    print(f"{options.images:,} images, {pixels / 1e9:.2f} GB of pixels: at most {most / 1e9:.2f} GB, {seconds:.0f} s")


if __name__ == "__main__":
    main()
