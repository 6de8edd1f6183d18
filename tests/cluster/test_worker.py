"""What travels to a worker, and what it makes of it."""

import dataclasses

import pytest

from erkeras.cluster.worker import Plan, load_model, pack, pack_modules
from erkeras.errors import InputError
from erkeras.evaluation import Subject


def plan_for(path, **changes):
    subject = Subject.find(path)
    known = {
        "with_detector": False,
        "attacks": (),
        "seed": 0,
        "internal_batch": 128,
        "jit_compile": False,
        "first": None,
        "threads": 1,
        "gpus": 0,
        "folder": None,
    }
    whole = Plan(subject=subject, digest=subject.digest, files=pack(subject), sources={}, **known)
    return dataclasses.replace(whole, **changes)


def test_a_model_travels_as_its_file_and_its_detector(saved_model):
    assert set(pack(Subject.find(saved_model))) == {"model.keras", "detector.npz"}


def test_a_saved_model_travels_whole(saved_model):
    subject = Subject.find(saved_model / "1")
    files = pack(subject)
    assert {"1/saved_model.pb", "1/variables/variables.index"} <= set(files)
    assert all(content == (saved_model / name).read_bytes() for name, content in files.items())


@pytest.mark.parametrize("with_detector", [False, True])
def test_what_arrives_is_loaded(saved_model, with_detector, tmp_path):
    plan = plan_for(saved_model, with_detector=with_detector, folder=str(tmp_path))
    assert callable(load_model(plan))
    assert not list(tmp_path.iterdir())


def test_another_model_than_the_evaluations_is_refused(saved_model, tmp_path):
    plan = plan_for(saved_model)
    changed = {**plan.files, "model.keras": plan.files["model.keras"][:-1]}
    with pytest.raises(InputError, match="is not as it was when the evaluation began: begin again"):
        load_model(dataclasses.replace(plan, files=changed))


def test_modules_of_the_working_folder_travel_and_installed_ones_do_not(tmp_path, monkeypatch):
    (tmp_path / "alone_here.py").write_text("a = 1\n")
    (tmp_path / "package_here" / "deep").mkdir(parents=True)
    for name in ("__init__", "own", "deep/__init__"):
        (tmp_path / "package_here" / f"{name}.py").write_text(f"# {name}\n")
    (tmp_path / "beside.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    found = pack_modules(["alone_here", "package_here.own", "json", "numpy.linalg"])
    assert set(found) == {
        "alone_here.py",
        "package_here/__init__.py",
        "package_here/own.py",
        "package_here/deep/__init__.py",
    }
    assert found["alone_here.py"] == b"a = 1\n"
