"""The error a user can mend."""


class InputError(ValueError):
    """What was given cannot be used.

    The message is one sentence: what was given, what is allowed, what to do. The command line prints it and
    exits with code 2.
    """


class RobustnessWarning(UserWarning):
    """What makes a robust accuracy doubtful: said once of a model, by the attack that finds it."""


class UnavailableError(InputError):
    """A server that does not answer, or not in time; the same request may succeed later."""
