"""Writing: whole or not at all, into what is there, and one sentence where there is no room."""

import json
import os
import resource
import signal
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest

from erkeras.errors import InputError
from erkeras.files import check_folder, check_writable, lock, read_regular, replacing, unlock, write_arrays, write_text


@pytest.fixture
def little_room():
    """No file may have more than 2,000 bytes, as on a full disk: EFBIG in the place of ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


def test_a_file_is_replaced_as_a_whole_and_keeps_its_mode(tmp_path):
    path = tmp_path / "out.json"
    write_text(path, "first")
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    path.chmod(0o600)
    write_text(path, "second")
    assert path.read_text() == "second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"third" * (1 // 0))
    assert path.read_text() == "second"
    assert os.listdir(tmp_path) == ["out.json"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_one(tmp_path, there):
    (tmp_path / "folder").mkdir()
    target = tmp_path / "folder" / "target"
    if there:
        target.write_text("old")
    (tmp_path / "link").symlink_to("folder/target")
    (tmp_path / "outer").symlink_to("link")
    write_text(tmp_path / "outer", "new")
    assert target.read_text() == "new"
    assert (tmp_path / "outer").is_symlink()
    assert (tmp_path / "link").is_symlink()


def test_a_link_at_a_name_that_could_be_guessed_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("old")
    for name in (".out.json.partial", ".out.json.partial.npz", "out.json.partial", ".erkeras-.partial"):
        (tmp_path / name).symlink_to(victim)
    write_text(tmp_path / "out.json", "new")
    write_arrays(tmp_path / "out.json", {"x": np.zeros(3)})
    assert victim.read_text() == "old"


def test_a_pipe_stays_one_and_gets_all(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    got = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_text()))
    reader.start()
    write_text(tmp_path / "pipe", "x" * 200_000)  # more than a pipe holds
    reader.join(10)
    assert got == ["x" * 200_000]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_pipe_without_a_reader_is_not_waited_for_without_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr("erkeras.files._WAIT", 0.1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="no program reads this pipe"):
        write_text(tmp_path / "pipe", "x")


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes devices")
def test_a_device_stays_one(tmp_path):
    os.mknod(tmp_path / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    write_text(tmp_path / "null", "x")
    assert stat.S_ISCHR((tmp_path / "null").stat().st_mode)


def test_standard_output_is_written_to_as_it_is_open(tmp_path):
    program = (
        "from erkeras.files import write_text; print('table', flush=True); write_text('/dev/stdout', 'json'); "
        "print('end')"
    )
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", program], stdout=out, check=True, timeout=60)
    assert (tmp_path / "out").read_text() in ("table\njsonend\n", "table\nend\n")


@pytest.mark.usefixtures("little_room")
def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(tmp_path):
    (tmp_path / "out").write_text("old")
    for write in (
        lambda path: write_text(path, "x" * 5000),
        lambda path: write_arrays(path, {"x": np.random.rand(1000)}),
    ):
        with pytest.raises(InputError, match=r"out cannot be written \(File too large\): make room"):
            write(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]


def test_what_cannot_be_written_to_is_found_before(tmp_path):
    check_writable(tmp_path / "new")
    check_folder(tmp_path)
    assert os.listdir(tmp_path) == []
    for path in (tmp_path, tmp_path / "missing" / "new", "/proc/new"):
        with pytest.raises(InputError):
            check_writable(path)


def test_what_is_no_regular_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        with pytest.raises(OSError, match="it is no regular file"):
            read_regular(path, 100)
    (tmp_path / "large").write_bytes(b"x" * 101)
    with pytest.raises(OSError, match="101 bytes, more than 100"):
        read_regular(tmp_path / "large", 100)


def test_a_second_process_is_refused_until_the_first_ends(tmp_path):
    program = f"from pathlib import Path; from erkeras.files import lock; lock(Path({str(tmp_path / 'record')!r}))"

    def other():
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60).stderr

    lock(tmp_path / "record")
    lock(tmp_path / "record")  # one process may go on with its own
    assert "is being written by another process" in other()
    unlock(tmp_path / "record")
    assert other() == ""
    assert os.listdir(tmp_path) == []


def test_weights_that_find_no_room_do_not_kill_the_process(tmp_path, little_room):
    import keras

    from erkeras.models import Checkpoint

    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(40)])
    model.compile("sgd", "mse")
    with pytest.raises(InputError, match=r"cannot be written \(File too large\)"):
        model.fit(np.zeros((4, 40)), np.zeros((4, 40)), verbose=0, callbacks=[Checkpoint(tmp_path / "checkpoint")])
    assert os.listdir(tmp_path / "checkpoint") == []


def test_a_record_that_finds_no_room_goes_on_from_its_last_whole_example(tmp_path, monkeypatch):
    from erkeras.evaluation import Examples, Record

    settings = {"images": 4, "image_shape": [2, 2, 1], "attacks": [{"name": "pgd", "config": {}}]}

    def examples(rows):
        zeros, table = np.zeros(len(rows), np.int32), np.zeros((len(rows), 1), np.int64)
        images = np.random.RandomState(rows[0]).rand(len(rows), 2, 2, 1).astype(np.float32)
        return Examples(rows, zeros, zeros, zeros, zeros, zeros.astype(np.float32), table, table, images)

    first, second = examples(np.arange(2)), examples(np.arange(2, 4))
    folder = tmp_path / "records" / "record"
    Record.create(folder, settings).append(first, [1.0])
    fsync = os.fsync

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\).*--resume"):
        Record.open(folder).append(second, [2.0])
    monkeypatch.setattr(os, "fsync", fsync)
    record = Record.open(folder)
    assert len(record.read()) in (2, 4)
    record.append(second, [2.0])
    np.testing.assert_array_equal(record.read().images[:2], first.images)
    record.finish({"seconds": {"pgd": 2.0}})
    assert sorted(os.listdir(folder)) == ["examples.jsonl", "images.npz", "result.json", "settings.json"]
    assert os.listdir(folder.parent) == ["record"]
    assert [json.loads(line)["index"] for line in (folder / "examples.jsonl").open()] == [0, 1, 2, 3]


def test_the_digest_is_of_weights_and_configuration(tmp_path):
    import hashlib

    import keras

    from erkeras.saved import fingerprint, is_fingerprint

    def digest(name, seed):
        keras.utils.set_random_seed(seed)
        keras.backend.clear_session()
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / name)
        return fingerprint(tmp_path / name)

    first, again, other = digest("a.keras", 0), digest("b.keras", 0), digest("c.keras", 1)
    assert first == again != other
    assert is_fingerprint(first, tmp_path / "b.keras")
    of_file = hashlib.sha256((tmp_path / "a.keras").read_bytes()).hexdigest()  # as older records have it
    assert is_fingerprint(of_file, tmp_path / "a.keras")
    for digest in (other, of_file, None):
        assert not is_fingerprint(digest, tmp_path / "b.keras")


def test_texts_of_users_are_no_formulas(tmp_path):
    from erkeras.evaluation import draw_gallery, draw_verdicts
    from erkeras.evaluation.embedding import draw_embedding
    from erkeras.evaluation.pictures import draw_curves, draw_scores

    image, points = np.zeros((1, 4, 4, 1), np.float32), np.zeros((2, 2))
    for text in ("$5_$ off", "$", "a\\$b$c$", "_x", "a\0b", "\ud800", "x\ny", "\N{SNOWMAN}", "{}^_%", "<b>"):
        draw_verdicts(tmp_path / "1.png", image, image, [(text, True, text, False)], text)
        draw_gallery(tmp_path / "2.png", image, image, [(text, text)], text)
        draw_curves(tmp_path / "3.png", [0, 1], {text: [0, 1]}, text)
        panel = {"natural": np.arange(3.0), "failed": np.zeros(0), "successful": np.ones(2), "threshold": 0.5}
        draw_scores(tmp_path / "4.png", {text: panel}, text)
        draw_embedding(tmp_path / "5.png", points, points, np.zeros(2, int), np.zeros(2, bool), (text,), text)
    assert len(os.listdir(tmp_path)) == 5
