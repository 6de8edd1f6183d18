"""What each worker gets of the machines."""

import pytest

from erkeras.cluster.shares import Machine, Share, share
from erkeras.errors import InputError


@pytest.mark.parametrize(
    ("machines", "workers", "expected"),
    [
        ([Machine(2, 0)], 2, Share(2, 1, 0)),
        ([Machine(2, 0)], 1, Share(1, 2, 0)),
        ([Machine(16, 0)], 3, Share(3, 5, 0)),
        ([Machine(16, 0)], None, Share(4, 4, 0)),
        ([Machine(2, 0), Machine(64, 0)], None, Share(17, 3, 0)),  # 17 times 3 fit on the larger one
        ([Machine(4, 0), Machine(8, 0)], 2, Share(2, 4, 0)),
        ([Machine(0, 0), Machine(8, 0)], None, Share(2, 4, 0)),  # a head that gives nothing away
        ([Machine(4, 0), Machine(16, 2), Machine(16, 2)], None, Share(4, 8, 1)),
        ([Machine(96, 8)], 2, Share(2, 48, 1)),
    ],
)
def test_workers_share_processors_or_have_a_gpu_each(machines, workers, expected):
    assert share(machines, workers) == expected


@pytest.mark.parametrize(
    ("machines", "workers", "message"),
    [
        ([Machine(2, 0)], 3, "3 workers were asked for and there are 2 processors, one for each: give 2 or fewer."),
        ([Machine(64, 4)], 8, "8 workers were asked for and there are 4 GPUs, one for each: give 4 or fewer."),
        ([Machine(1, 4)], 2, "each with a GPU and a processor, and there are 1 such pairs: give 1 or fewer."),
        ([Machine(0, 0)], None, "there are 0 processors"),
    ],
)
def test_more_workers_than_there_is_room_for_are_refused(machines, workers, message):
    with pytest.raises(InputError) as caught:
        share(machines, workers)
    assert message in str(caught.value)
