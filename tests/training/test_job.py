import dataclasses

import pytest

from erkeras.errors import InputError
from erkeras.saved import read_card
from erkeras.training import check_output, train
from helpers.interruptions import Interrupt


def test_done_is_done_with_resume_alone(saved_model, tiny_job):
    with pytest.raises(InputError, match="add --resume"):
        train(tiny_job, saved_model)
    assert train(tiny_job, saved_model, resume=True) == read_card(saved_model)
    other = dataclasses.replace(tiny_job, seed=7, recipe=dataclasses.replace(tiny_job.recipe, epochs=9))
    with pytest.raises(InputError, match=r"seed 0 \(now 7\)") as caught:
        train(other, saved_model, resume=True)
    assert "epochs 2 (now 9)" in str(caught.value)


def test_an_unfinished_job_asks_for_resume(tmp_path, tiny_job):
    output = tmp_path / "model"
    with pytest.raises(KeyboardInterrupt):
        train(tiny_job, output, progress=Interrupt(after=5))
    assert not output.exists()
    with pytest.raises(InputError, match="add --resume to go on with it"):
        check_output(output, tiny_job, resume=False)
    assert check_output(output, tiny_job, resume=True) is False
    with pytest.raises(InputError, match=r"seed 0 \(now 1\)"):
        check_output(output, dataclasses.replace(tiny_job, seed=1), resume=True)
