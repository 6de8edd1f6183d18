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
