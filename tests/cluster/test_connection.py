"""The way to Ray, where there is none. What needs a Ray that runs is in test_workers.py."""

import importlib
import importlib.util
import socket
import time

import pytest

from erkeras.cluster.connection import connected
from helpers.commands import refused, run

MODEL = ["linear.keras", "--dataset", "digits", "--epsilon", "0.1"]


def test_without_ray_one_sentence_says_what_to_install(monkeypatch, at_home):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else find_spec(name, *rest)
    )
    result = run("attack", *MODEL, "--workers", 2)
    refused(result, "workers were asked for and Ray is not installed: pip install 'erkeras[cluster]'.")


@pytest.mark.parametrize("address", ["here", "ray://head:10001", "head:", ":6379", "head:6379/x", ""])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValueError, match="no address of a Ray cluster: give HOST:PORT"), connected(address):
        pass


@pytest.mark.parametrize("listens", [False, True], ids=["nothing", "something else"])
def test_an_address_where_no_ray_listens_is_refused_within_seconds(listens, at_home):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen()
        address = "{}:{}".format(*server.getsockname())
        started = time.monotonic()
        refused(run("attack", *MODEL, "--cluster", address), f"no Ray cluster answers at {address}: give HOST:PORT")
    assert time.monotonic() - started < 30


def test_auto_on_a_machine_of_no_cluster_is_refused(at_home, monkeypatch):
    services = importlib.import_module("ray._private.services")
    monkeypatch.setattr(services, "canonicalize_bootstrap_address", lambda address: None)
    refused(run("attack", *MODEL, "--cluster", "auto"), "this machine is in no Ray cluster: run ray start on it")
