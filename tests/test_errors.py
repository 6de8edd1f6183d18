import pytest

from erkeras.errors import InputError, UnavailableError


def test_what_python_takes_for_a_wrong_value_it_takes_input_errors_for():
    with pytest.raises(ValueError, match=r"^given, allowed, do$"):
        raise InputError("given, allowed, do")


def test_a_server_that_does_not_answer_is_told_apart_and_caught_alike():
    assert issubclass(UnavailableError, InputError)
    with pytest.raises(InputError):
        raise UnavailableError("later")
