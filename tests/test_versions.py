import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import erkeras
from erkeras import versions as module
from erkeras.versions import processor, versions


def test_versions_are_those_that_are_loaded():
    found = versions()
    assert found["erkeras"] == erkeras.__version__
    assert (found["keras"], found["numpy"]) == (keras.__version__, np.__version__)
    assert found["tensorflow"] == tf.__version__
    assert found["python"] == platform.python_version()
    assert found["cleverhans"] == version("cleverhans")
    assert found["scikit-learn"] == version("scikit-learn")
    assert len(found) == 7


def test_the_version_is_a_number_of_three_parts():
    assert re.fullmatch(r"\d+\.\d+\.\d+", erkeras.__version__)


def test_the_processor_is_named_as_the_system_names_it(monkeypatch):
    listed = "processor\t: 0\nmodel name\t: A Fast One @ 3 GHz \nmodel name\t: Another\n"
    monkeypatch.setattr(Path, "read_text", lambda self: listed)
    assert processor() == "A Fast One @ 3 GHz"


def test_a_gpu_is_named_before_the_processor(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda self: "model name\t: A Fast One\n")
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: ["first", "second"] if kind == "GPU" else [])
    details = {"first": {"device_name": "NVIDIA H200", "compute_capability": (9, 0)}, "second": {}}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.__getitem__)
    assert processor() == "NVIDIA H200, a GPU, A Fast One"
    monkeypatch.delitem(sys.modules, "tensorflow.python")
    assert processor() == "A Fast One"


def test_without_a_list_of_processors_the_platform_is_asked(monkeypatch):
    def missing(self):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(module.platform, "processor", lambda: "")
    monkeypatch.setattr(module.platform, "machine", lambda: "riscv64")
    assert processor() == "riscv64"
    monkeypatch.setattr(module.platform, "processor", lambda: "arm")
    assert processor() == "arm"
    # Some lists have no model name.
    monkeypatch.setattr(Path, "read_text", lambda self: "processor\t: 0\n")
    assert processor() == "arm"
