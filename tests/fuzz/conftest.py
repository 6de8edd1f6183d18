"""How many damaged inputs of each kind the fuzz tries: few in the suite, `--fuzz 5000` for thousands."""

import pytest


def pytest_addoption(parser):
    parser.addoption("--fuzz", type=int, default=None, help="Try so many damaged inputs of each kind.")
    parser.addoption("--fuzz-seed", type=int, default=0, help="Draw them by this seed.")


@pytest.fixture(scope="session")
def draws(request):
    """Gives seeds for some damaged inputs: a number of the suite's own, or `--fuzz`."""
    seed = request.config.getoption("--fuzz-seed", 0)

    def numbers(usual):
        count = request.config.getoption("--fuzz", None) or usual
        return [(seed, number) for number in range(count)]

    return numbers
