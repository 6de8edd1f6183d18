"""Damaged cards, records and curves: a report all the same, or one sentence and no file."""

import json
import shutil

import numpy as np
import pytest

from erkeras.report import write_report
from erkeras.saved import MODEL, fingerprint
from fuzz.damage import choose, damage_arrays, damage_bytes, damage_json, dump
from fuzz.test_fuzz import harmless
from helpers.reports import examples_of, model_of

RECORD = "records/apgd-ce-square-l_inf-0.2-test"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A model of few images, and a curve of it."""
    made = examples_of(broken=(1, 2), later=(3,), n=9, shape=(3, 3, 1))
    model = model_of(tmp_path_factory.mktemp("fuzz") / "model", made=made)
    curve = {
        "epsilons": [0, 0.1], "attacks": ["pgd"], "accuracies": {"model": [1.0, 0.5]}, "norm": "l_inf",
        "dataset": "digits", "images": 20, "seed": 0, "with_detector": False,
        "digests": {"model": fingerprint(model / MODEL)},
    }  # fmt: skip
    (model / "curve.json").write_text(json.dumps(curve))
    return model


def test_reports(draws, whole, tmp_path):
    folder, output = tmp_path / "model", tmp_path / "report.html"
    files = ("card.json", "curve.json", *(f"{RECORD}/{name}.json" for name in ("settings", "result")))
    written = 0
    for seed in draws(60):
        random = np.random.RandomState(seed)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        name = choose(random, (*files, "card.json", f"{RECORD}/examples.jsonl", f"{RECORD}/answers.npz"))
        path = folder / name
        if name.endswith(".npz"):
            with np.load(path) as arrays:
                path.write_bytes(damage_arrays(dict(arrays), random))
        elif name.endswith(".jsonl"):
            lines = path.read_text().splitlines()
            row = random.randint(len(lines))
            lines[row] = dump(damage_json(json.loads(lines[row]), random))
            path.write_text("\n".join([*lines, ""]), errors="surrogatepass")
        elif random.randint(4):
            path.write_text(dump(damage_json(json.loads(path.read_text()), random)), errors="surrogatepass")
        else:
            path.write_bytes(damage_bytes(path.read_bytes(), random))
        output.unlink(missing_ok=True)
        records = [folder / RECORD] if random.randint(2) else []
        with harmless(seed):
            write_report([folder], output, records=records, curves=[folder / "curve.json"])
            assert output.stat().st_size < 5e6
        written += output.exists()
    assert written
