"""What a saved model costs to serve: its signatures against the bare network, and a server under load, on the CPU.

    python benchmarks/serving.py --model saved_models/mnist-er-classifier

First in one process, without a network between: the network of `model.keras` alone, images to logits, and the
signatures of the newest SavedModel, called alike. Then the server of the tests (tests/helpers/prediction_server.py),
which speaks TensorFlow Serving's gRPC over the same SavedModel in Python. Several clients ask it for verdicts, one
image a request, without retries: a request that fails, or gives another verdict than before, is counted. It is not
TensorFlow Serving, which batches and answers in C++.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from workers import Worker, add_options, model_and_images, prepare, tensorflow_on, write

SERVER = Path(__file__).parent.parent / "tests" / "helpers" / "prediction_server.py"
BATCHES = (1, 64)
SEED = 0
#: Turns that all calls take, and the seconds of each: what else the machine does meets all of them.
_TURNS, _SECONDS = 10, 0.5


def in_one_process(options: argparse.Namespace) -> tuple[Callable[[int], dict[str, Any]], None]:
    """In a worker: batch size -> name of what is called -> its figures."""
    tf = tensorflow_on(options.threads)
    from erkeras.saved import newest_version

    model, split = model_and_images(options, max(BATCHES), SEED)
    images = split.images
    files = [tf.io.encode_png(tf.cast(tf.round(image * 255), tf.uint8)).numpy() for image in images]
    specification = tf.TensorSpec((None, *images.shape[1:]), tf.float32)
    network = tf.function(lambda images: {"logits": model(images, training=False)}, input_signature=[specification])
    loaded = tf.saved_model.load(str(options.model / str(newest_version(options.model))))
    signatures = loaded.signatures

    def measure(batch: int) -> dict[str, Any]:
        pixels, encoded = tf.constant(images[:batch]), tf.constant(files[:batch])
        calls = {
            "network alone": lambda: network(pixels),
            "serving_default": lambda: signatures["serving_default"](images=pixels),
            "detect": lambda: signatures["detect"](images=pixels),
            "detect_bytes": lambda: signatures["detect_bytes"](encoded_images=encoded),
        }
        for call in calls.values():
            call()
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(_TURNS):
            for name, call in calls.items():
                call()  # the other calls' data leaves the caches
                end = time.perf_counter() + _SECONDS
                while (start := time.perf_counter()) < end:
                    {key: value.numpy() for key, value in call().items()}
                    seconds[name].append(time.perf_counter() - start)
        return {name: _figures(found, batch * len(found) / sum(found)) for name, found in seconds.items()}

    return measure, None


def under_load(options: argparse.Namespace) -> dict[str, Any]:
    """The server of the tests and so many clients, each in a thread, for so many seconds."""
    from erkeras import load_dataset
    from erkeras.errors import InputError
    from erkeras.saved import read_card
    from erkeras.serving import Client

    images = load_dataset(read_card(options.model).dataset.name).test.sample(64, SEED).images
    program = [sys.executable, str(SERVER), "model", str(options.model)]
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = f"grpc://localhost:{json.loads(process.stdout.readline())['grpc']}/model"
        with Client(url) as first:
            expected = first.detect(images)
        seconds: list[float] = []
        failures: list[str] = []
        end = time.perf_counter() + options.seconds

        def ask(number: int) -> None:
            with Client(url, retries=0) as client:
                row = number
                while (start := time.perf_counter()) < end:
                    row = (row + 1) % len(images)
                    try:
                        found = client.detect(images[row : row + 1])
                    except InputError as error:
                        failures.append(str(error))
                        continue
                    seconds.append(time.perf_counter() - start)
                    if found["verdict"][0] != expected["verdict"][row]:
                        failures.append(f"another verdict on image {row}")

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(options.clients)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        elapsed = time.perf_counter() - start
        process.stdin.close()
    figures = _figures(seconds, len(seconds) / elapsed)
    return {**figures, "requests": len(seconds), "failed": len(failures), "failures": failures[:10], "seconds": elapsed}


def _figures(seconds: list[float], images_per_second: float) -> dict[str, Any]:
    percentiles = {f"p{percent}_ms": 1000 * float(np.percentile(seconds, percent)) for percent in (50, 95, 99)}
    return {**percentiles, "calls": len(seconds), "images_per_second": images_per_second}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    worker = Worker(in_one_process, options)
    alone = {str(batch): worker.ask(batch) for batch in BATCHES}
    memory = worker.peak_mib
    worker.close()
    return {
        "options": vars(options),
        "versions": {name: version(name) for name in ("tensorflow", "keras", "grpcio", "tensorflow-serving-api")},
        "in_one_process": alone,
        "peak_memory_mib": memory,
        "under_load": under_load(options),
    }


def show(results: dict[str, Any]) -> None:
    """Prints the tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    columns = ("p50 ms", "p95 ms", "p99 ms", "images/s")

    def cells(row: dict[str, Any]) -> list[str]:
        return [*(f"{row[f'p{percent}_ms']:.2f}" for percent in (50, 95, 99)), f"{row['images_per_second']:,.0f}"]

    for batch, rows in results["in_one_process"].items():
        table = Table("", *columns, "times the network's p50", title=f"Batch {batch}, in one process")
        for name, row in rows.items():
            table.add_row(name, *cells(row), f"{row['p50_ms'] / rows['network alone']['p50_ms']:.2f}")
        console.print(table)
    load, options = results["under_load"], results["options"]
    table = Table(
        "clients",
        "requests",
        "failed",
        *columns,
        title=f"detect through the tests' gRPC server, {load['seconds']:.0f} s",
    )
    table.add_row(str(options["clients"]), f"{load['requests']:,}", str(load["failed"]), *cells(load))
    console.print(table)
    for failure in load["failures"]:
        console.print(failure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=8, help="that ask at once")
    parser.add_argument("--seconds", type=float, default=60.0, help="that they ask for")
    add_options(parser)
    options = parser.parse_args()
    prepare("tensorflow_serving")
    results = measure(options)
    show(results)
    write(results, options.json)
    sys.exit(1 if results["under_load"]["failed"] else 0)


if __name__ == "__main__":
    main()
