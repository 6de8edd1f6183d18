from erkeras.progress import Progress


def test_without_more_progress_says_nothing(capsys):
    progress = Progress()
    progress.stage("attack", 10)
    progress.advance(3)
    progress.advance(7, note="0.5")
    assert capsys.readouterr() == ("", "")


def test_a_subclass_hears_what_it_asks_for():
    class Counting(Progress):
        done = 0

        def advance(self, units, note=""):
            self.done += units

    progress = Counting()
    progress.stage("attack", 10)
    progress.advance(3)
    progress.advance(7, "half")
    assert progress.done == 10
