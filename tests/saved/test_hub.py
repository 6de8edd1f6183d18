"""The metadata of a model's README.md, read by YAML and, where it is installed, by the hub's own library."""

import dataclasses
import re

import pytest

from erkeras.saved import Card, DatasetEntry, render_card
from erkeras.saved.hub import metadata
from helpers.golden import GOLDEN

BARE = Card("mine", DatasetEntry((8, 8, 1), ("a", "b")), {"erkeras": "0.1.0"})
HOSTILE = '---\n"name": {x}\t\x1b\x85\u2028 \U0001f600 \udcff: [é'


def block_of(text):
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    found = re.match(r"---\n(.*?)\n---\n\n# ", text, re.DOTALL)
    return yaml.safe_load(found[1])


def test_the_block_names_task_data_and_accuracies():
    found = block_of(render_card(GOLDEN))
    assert found["library_name"] == "keras"
    assert found["pipeline_tag"] == "image-classification"
    assert found["tags"] == ["adversarial-robustness", "erkeras", "er-trades"]
    assert found["datasets"] == ["digits"]
    (index,) = found["model-index"]
    assert index["name"] == "golden"
    report, recorded = index["results"]
    assert report["dataset"] == {"name": "digits", "type": "digits", "split": "test"}
    assert [metric["value"] for metric in report["metrics"]] == [0.95, 0.7]
    assert report["metrics"][1]["name"] == "Robust accuracy, fgsm + pgd, l_inf epsilon 0.15"
    assert recorded["dataset"]["name"] == "npz:more.npz"
    assert [metric["value"] for metric in recorded["metrics"]] == [0.9, 0.6]


def test_a_card_that_says_little_makes_little():
    found = block_of(render_card(BARE))
    assert found == {
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["adversarial-robustness", "erkeras"],
    }


def test_names_stay_text():
    card = dataclasses.replace(GOLDEN, name=HOSTILE, dataset=dataclasses.replace(GOLDEN.dataset, name=f"npz:{HOSTILE}"))
    found = block_of(f"{metadata(card)}\n\n# ")
    assert found["model-index"][0]["name"] == HOSTILE.replace("\udcff", "?")
    assert "datasets" not in found
    assert len(found) == 5


def test_small_figures_stay_numbers():
    summary = dataclasses.replace(GOLDEN.evaluation.summary, robust_accuracy=0.00001)
    found = block_of(
        render_card(dataclasses.replace(GOLDEN, evaluation=dataclasses.replace(GOLDEN.evaluation, summary=summary)))
    )
    assert found["model-index"][0]["results"][0]["metrics"][1]["value"] == 0.00001


def test_the_hubs_own_library_reads_it():
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    found = hub.ModelCard(render_card(GOLDEN)).data
    assert found.library_name == "keras"
    assert [result.metric_value for result in found.eval_results] == [0.95, 0.7, 0.9, 0.6]
