import json

import pytest

from erkeras.errors import InputError
from erkeras.recipes import Place, find_place

TWO = {"worker": ["a:2222", "[::1]:2222"]}


def found(cluster, kind="worker", index=0):
    return find_place({"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})})


def test_the_chief_is_the_first():
    assert found(TWO, index=1) == Place(1, ("a:2222", "[::1]:2222"))
    chief = {"worker": ["b:1", "c:1"], "chief": ["a:1"]}
    assert found(chief, "chief") == Place(0, ("a:1", "b:1", "c:1"))
    assert found(chief, "worker", 1) == Place(2, ("a:1", "b:1", "c:1"))
    assert found(TWO).workers == 2


def test_one_worker_is_none():
    assert find_place({}) is None
    assert find_place({"TF_CONFIG": " "}) is None
    assert found({"worker": ["a:1"]}) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "has no cluster"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}}', "has no task"),
        ('{"cluster": {"worker": []}, "task": {}}', "is no list of workers"),
        ('{"cluster": {"worker": "a:1"}, "task": {}}', "is no list of workers"),
        ('{"cluster": {"ps": ["a:1"], "worker": ["b:1"]}, "task": {}}', "has ps in it"),
        ('{"cluster": {"worker": ["a:1", "b"]}, "task": {}}', "has the address 'b'"),
        ('{"cluster": {"worker": ["a:1", "b:99999"]}, "task": {}}', "has the address 'b:99999'"),
        ('{"cluster": {"worker": ["a:1", 3]}, "task": {}}', "has the address 3"),
        ('{"cluster": {"worker": ["a:1", "a:1"]}, "task": {}}', "has an address twice"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}', "task is worker 2"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": true}}', "task is worker True"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": ["x"], "index": 0}}', "which is not in its cluster"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(text, message):
    with pytest.raises(InputError) as refused:
        find_place({"TF_CONFIG": text})
    assert message in str(refused.value)
    assert str(refused.value).endswith("or unset it.")
