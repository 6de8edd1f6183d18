"""Charts as shapes: what a template draws as SVG. Sizes are in units of a drawing that is 360 wide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from erkeras.report.figures import Fraction, Histogram, Roc
from erkeras.saved import percent

WIDTH = 360
#: Of the plot: left, right, top; and the height without the room for the axis' title.
_LEFT, _RIGHT, _TOP, _PLOT = 50, 340, 8, 170
_SERIES = 6


@dataclass(frozen=True)
class Shape:
    """Holds one element of SVG: its name, its attributes, and its text."""

    kind: str
    attributes: dict[str, str | float]
    text: str = ""


@dataclass(frozen=True)
class Chart:
    """Holds a chart, and words that say what it shows.

    Attributes:
        title: above it.
        description: for who does not see it.
        height: of the drawing.
        shapes: in the order in which they are drawn.
        legend: (class of the style, words).
    """

    title: str
    description: str
    height: float
    shapes: tuple[Shape, ...]
    legend: tuple[tuple[str, str], ...] = ()


@dataclass
class _Plot:
    """Axes with ticks, from 0 or `x_low` to `x_high` and from 0 to `y_high`, and shapes in their units."""

    x_low: float
    x_high: float
    y_high: float
    shapes: list[Shape] = field(default_factory=list)

    def x(self, value: float) -> float:
        part = (value - self.x_low) / ((self.x_high - self.x_low) or 1)
        return round(_LEFT + part * (_RIGHT - _LEFT), 2)

    def y(self, value: float) -> float:
        return round(_TOP + _PLOT * (1 - value / (self.y_high or 1)), 2)

    def axes(self, x_title: str, y_title: str, y_as_percent: bool, x_as_percent: bool = False) -> None:
        bottom = _TOP + _PLOT
        for value in _ticks(0, self.y_high, 5):
            height = self.y(value)
            self.shapes.append(Shape("line", {"class": "grid", "x1": _LEFT, "x2": _RIGHT, "y1": height, "y2": height}))
            words = f"{100 * value:g}%" if y_as_percent else f"{value:g}"
            self._text(_LEFT - 5, height + 4, words, "end")
        for value in _ticks(self.x_low, self.x_high, 6):
            place = self.x(value)
            self.shapes.append(
                Shape("line", {"class": "axis", "x1": place, "x2": place, "y1": bottom, "y2": bottom + 4})
            )
            words = f"{100 * value:g}%" if x_as_percent else f"{value:g}"
            self._text(place, bottom + 16, words, "middle")
        self.shapes.append(Shape("line", {"class": "axis", "x1": _LEFT, "x2": _RIGHT, "y1": bottom, "y2": bottom}))
        self._text((_LEFT + _RIGHT) / 2, bottom + 33, x_title, "middle")
        middle = _TOP + _PLOT / 2
        turned = {"transform": f"rotate(-90 9 {middle:g})"}
        self.shapes.append(Shape("text", {"x": 9, "y": middle, "text-anchor": "middle", **turned}, y_title))

    def line(self, xs: Sequence[float], ys: Sequence[float], style: str, marks: bool = False) -> None:
        points = " ".join(f"{self.x(x):g},{self.y(y):g}" for x, y in zip(xs, ys, strict=True))
        self.shapes.append(Shape("polyline", {"class": f"line {style}", "points": points}))
        if marks:
            for x, y in zip(xs, ys, strict=True):
                self.mark(x, y, style, 2.6)

    def mark(self, x: float, y: float, style: str, radius: float = 4) -> None:
        self.shapes.append(Shape("circle", {"class": f"mark {style}", "cx": self.x(x), "cy": self.y(y), "r": radius}))

    def _text(self, x: float, y: float, words: str, anchor: str) -> None:
        self.shapes.append(Shape("text", {"x": round(x, 2), "y": round(y, 2), "text-anchor": anchor}, words))

    @property
    def height(self) -> float:
        return _TOP + _PLOT + 42


def bars(title: str, rows: Sequence[tuple[str, Fraction, str]]) -> Chart:
    """Draws a bar for each fraction, with its interval, below its name and its figure.

    Args:
        title: of the chart.
        rows: (name, fraction, class of the bar's style).
    """
    shapes, step = [], 40
    for number, (name, found, style) in enumerate(rows):
        top = 14 + step * number
        figure = f"{percent(found.value)} ({percent(found.low)} to {percent(found.high)})"
        shapes += [
            Shape("text", {"x": 0, "y": top}, name if len(name) < 36 else f"{name[:34]}..."),
            Shape("text", {"x": WIDTH, "y": top, "text-anchor": "end", "class": "figure"}, figure),
            Shape("rect", {"class": "track", "x": 0, "y": top + 6, "width": WIDTH, "height": 12, "rx": 2}),
            Shape("rect", {"class": f"fill {style}", "x": 0, "y": top + 6, "width": round(WIDTH * found.value, 2),
                           "height": 12, "rx": 2}),
        ]  # fmt: skip
        low, high = round(WIDTH * found.low, 2), round(WIDTH * found.high, 2)
        middle = top + 12
        for x1, y1, x2, y2 in (
            (low, middle, high, middle),
            (low, top + 8, low, top + 16),
            (high, top + 8, high, top + 16),
        ):
            shapes.append(Shape("line", {"class": "whisker", "x1": x1, "y1": y1, "x2": x2, "y2": y2}))
    words = "; ".join(f"{name} {percent(found.value)}" for name, found, _ in rows)
    return Chart(title, f"Bars from 0% to 100%: {words}.", step * len(rows) - 4, tuple(shapes))


def hundred(robust: int, broken: int, wrong: int) -> Chart:
    """Draws 100 images as squares: robust, broken, wrong when clean."""
    kinds = ["good"] * robust + ["bad"] * broken + ["none"] * wrong
    size, gap, columns = 16.2, 1.8, 20
    shapes = tuple(
        Shape("rect", {"class": f"square {kind}", "x": round((number % columns) * (size + gap), 2),
                       "y": round((number // columns) * (size + gap), 2), "width": size, "height": size, "rx": 2})
        for number, kind in enumerate(kinds)
    )  # fmt: skip
    legend = (
        ("good", f"{robust} stay right under every attack"),
        ("bad", f"{broken} broken by an attack"),
        ("none", f"{wrong} wrong without any attack"),
    )
    words = ", ".join(words for _, words in legend)
    return Chart("Of 100 images", f"Of 100 images {words}.", 5 * (size + gap) - gap, shapes, legend)


def lines(title: str, x_title: str, series: Sequence[tuple[str, Sequence[float], Sequence[float]]]) -> Chart:
    """Draws accuracies in [0, 1] over a number from 0, one line for each name."""
    plot = _Plot(0, max(max(xs) for _, xs, _ in series) or 1, 1)
    plot.axes(x_title, "robust accuracy", True)
    for number, (_, xs, ys) in enumerate(series):
        plot.line(xs, ys, f"s{number % _SERIES}", marks=len(xs) <= 30)
    legend = tuple((f"s{number % _SERIES}", name) for number, (name, _, _) in enumerate(series))
    words = "; ".join(f"{name} from {percent(ys[0])} to {percent(ys[-1])}" for name, _, ys in series)
    return Chart(title, f"Robust accuracy over epsilon: {words}.", plot.height, tuple(plot.shapes), legend)


def roc(title: str, curves: Sequence[Roc]) -> Chart:
    """Draws ROC curves, each with the point of the detector's own threshold."""
    plot = _Plot(0, 1, 1)
    plot.axes("clean images taken for attacked", "attacked images found", True, x_as_percent=True)
    plot.line([0, 1], [0, 1], "chance")
    for number, curve in enumerate(curves):
        plot.line(curve.false_positives, curve.found, f"s{number}")
        plot.mark(*curve.threshold, f"s{number}")
    legend = [(f"s{number}", f"{curve.name}: area {curve.area:.3f}") for number, curve in enumerate(curves)]
    words = "; ".join(f"{curve.name}, area {curve.area:.3f}" for curve in curves)
    return Chart(
        title, f"ROC curves: {words}.", plot.height, tuple(plot.shapes), (*legend, ("chance", "chance: 0.500"))
    )


def histogram(title: str, x_title: str, found: Histogram, styles: dict[str, str], at: float | None = None) -> Chart:
    """Draws how values are spread, for each kind as a fraction of its images.

    Args:
        title, x_title: words.
        found: counts in bins.
        styles: class of the style by kind.
        at: a value to mark.
    """
    parts = {name: [count / found.totals[name] for count in counts] for name, counts in found.counts.items()}
    highest = max(max(values) for values in parts.values())
    edges = found.edges
    plot = _Plot(edges[0], edges[-1], highest)
    plot.axes(x_title, "of its kind", True)
    for name, values in parts.items():
        for number, value in enumerate(values):
            if value:
                left, right = plot.x(edges[number]), plot.x(edges[number + 1])
                box = {"x": left, "y": plot.y(value), "width": round(max(right - left - 0.6, 0.6), 2)}
                height = round(_TOP + _PLOT - plot.y(value), 2)
                plot.shapes.append(Shape("rect", {"class": f"bar {styles[name]}", **box, "height": height}))
    legend = [(styles[name], f"{name} ({found.totals[name]:,})") for name in parts]
    if at is not None and edges[0] <= at <= edges[-1]:
        place = plot.x(at)
        ends = {"x1": place, "x2": place, "y1": _TOP, "y2": _TOP + _PLOT}
        plot.shapes.append(Shape("line", {"class": "limit", **ends}))
    words = "; ".join(f"{name}, {found.totals[name]:,} images" for name in parts)
    return Chart(title, f"Histogram over {x_title}: {words}.", plot.height, tuple(plot.shapes), tuple(legend))


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers from low to high, about so many."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) for number in range(first, math.floor(high / step + 1e-9) + 1)]
