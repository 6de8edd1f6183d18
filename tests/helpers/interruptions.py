"""Progress that stops what it listens to."""

from erkeras.progress import Progress


class Interrupt(Progress):
    """Presses Ctrl-C after some units."""

    def __init__(self, after):
        self.left = after

    def advance(self, units, note=""):
        self.left -= units
        if self.left < 0:
            raise KeyboardInterrupt


class Killed(Exception):
    """What `KilledAfter` raises: no interruption that anybody waits for."""


class KilledAfter(Progress):
    """Dies in the middle of the part after some; parts are told apart by the figure that attacks report with them."""

    def __init__(self, parts):
        self.parts, self.notes = parts, set()

    def advance(self, units, note=""):
        self.notes.add(note)
        if len(self.notes - {""}) >= self.parts and units:
            raise Killed
