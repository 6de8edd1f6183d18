"""Kills train, attack and export at random moments, and lets their disk be full: what goes on ends with the same bits.

    python benchmarks/kills.py --kills 20 --full 6

Each command is killed by SIGKILL after a random time and run again with --resume (export: again), until it ends. Then
its files must be those of a run that nobody disturbed. A full disk is RLIMIT_FSIZE with SIGXFSZ ignored: no file may
have more than so many bytes. The command must then end with code 2 and one sentence, and with room go on to the same
bits.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TRAIN = "--dataset digits --epochs 2 --limit 20 --restarts 1 --steps 1 --output model --resume"
ATTACK = "--limit 300 --attack fgsm --attack pgd --steps 10 --restarts 1 --record record"
COMMANDS = (
    (["train", *shlex.split(TRAIN)], "model", 0.5),
    (["attack", "model", *shlex.split(ATTACK)], "record", 0.35),
    (["export", "model"], "model/2", 0.15),
)


def run(arguments: list[str], folder: Path, after: float | None = None, most: int | None = None) -> tuple[int, str]:
    """Runs a command; kills it after some seconds, or allows files of `most` bytes.

    Returns:
        The exit code, and what it said on standard error.
    """

    def limit() -> None:
        if most is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    command = [sys.executable, "-m", "erkeras", *arguments]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=limit
    )
    try:
        said = process.communicate(timeout=after)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        said = process.communicate()[1]
    return process.returncode, said


def bits(folder: Path, name: str) -> str:
    """Takes the digest of what a command made, but for times and the SavedModel's random names."""
    from erkeras.saved import fingerprint

    found = hashlib.sha256()
    place = folder / name
    if name == "model":
        with np.load(place / "detector.npz") as archive:
            arrays = {key: archive[key].tobytes() for key in sorted(archive)}
        card = json.loads((place / "card.json").read_text())
        known = {key: card[key] for key in ("dataset", "evaluation", "detector")}
        for part in (str(fingerprint(place / "model.keras")), json.dumps(known), *map(repr, arrays.values())):
            found.update(part.encode())
        return found.hexdigest()
    if name == "record":
        for part in ("settings.json", "examples.jsonl", "images.npz"):
            found.update((place / part).read_bytes())
        return found.hexdigest()
    import tensorflow as tf

    # TensorFlow's own files differ from one export to the next: the order and the names of what they hold.
    reader = tf.train.load_checkpoint(str(place / "variables" / "variables"))
    names = [key for key in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in key]
    parts = sorted(hashlib.sha256(np.asarray(reader.get_tensor(key)).tobytes()).hexdigest() for key in names)
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def resumed(arguments: list[str], folder: Path) -> list[str]:
    """The command as it goes on."""
    return [*arguments, "--resume"] if arguments[0] == "attack" and (folder / "record").exists() else arguments


def undisturbed(arguments: list[str], name: str, start: Path, work: Path) -> tuple[str, float]:
    """What a command makes that nobody disturbs, and its seconds."""
    folder = work / f"straight-{arguments[0]}"
    shutil.copytree(start, folder)
    started = time.perf_counter()
    code, said = run(arguments, folder)
    if code:
        raise SystemExit(f"{arguments[0]} failed undisturbed: {said}")
    return bits(folder, name), time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="over all commands")
    parser.add_argument("--full", type=int, default=6, help="full disks, over all commands")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    work = Path(tempfile.mkdtemp(prefix="erkeras-kills-"))
    start, faults = work / "start", []
    start.mkdir()
    counts = {"kills": 0, "full disks": 0}
    for arguments, name, share in COMMANDS:
        wanted, seconds = undisturbed(arguments, name, start, work)
        kills, full = round(share * options.kills), max(1, round(options.full / 3))
        print(f"{arguments[0]}: {seconds:.0f} s undisturbed, {kills} kills, {full} full disks", flush=True)
        folder = work / f"killed-{arguments[0]}"
        while kills:
            if not folder.exists():
                shutil.copytree(start, folder)
            code, said = run(resumed(arguments, folder), folder, after=draw.uniform(0.3, 1.0) * seconds)
            print(f"  {arguments[0]}: code {code}", flush=True)
            if code == -signal.SIGKILL:
                kills, counts["kills"] = kills - 1, counts["kills"] + 1
            elif code:
                faults.append(f"{arguments[0]} after a kill: code {code}, {said[-300:]}")
                break
            if code == 0:  # ended before it was killed
                faults += [] if bits(folder, name) == wanted else [f"{arguments[0]}: other bits"]
                shutil.rmtree(folder)
        for _ in range(full):
            if folder.exists():
                shutil.rmtree(folder)
            shutil.copytree(start, folder)
            most = draw.choice((3000, 30_000, 100_000, 300_000))
            code, said = run(resumed(arguments, folder), folder, most=most)
            counts["full disks"] += 1
            print(f"  {arguments[0]}, files of {most} bytes: code {code} {said.strip()[-160:]}", flush=True)
            if code not in (0, 2) or "Traceback" in said:
                faults.append(f"{arguments[0]} with files of {most} bytes: code {code}, {said[-300:]}")
            code, said = run(resumed(arguments, folder), folder) if code else (0, "")
            if code or bits(folder, name) != wanted:
                faults.append(f"{arguments[0]} after a full disk: code {code}, or other bits; {said[-300:]}")
        shutil.copytree(work / f"straight-{arguments[0]}", start, dirs_exist_ok=True)
    print(json.dumps({**counts, "faults": faults}, indent=1))
    shutil.rmtree(work)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
