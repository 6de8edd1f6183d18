"""The error a user can mend."""


class InputError(ValueError):
    """Says that what was given cannot be used.

    The message is one sentence: what was given, what is allowed, what to do. The command line prints it and
    exits with code 2.
    """


class OutOfMemoryError(InputError):
    """Says that memory ran out, and what to make smaller."""


class RobustnessWarning(UserWarning):
    """Warns of what makes a robust accuracy doubtful, once for a model, from the attack that finds it."""


class UnavailableError(InputError):
    """Says that a server does not answer, or not in time; the same request may succeed later."""
