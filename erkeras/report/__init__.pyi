from .page import render_report as render_report
from .page import write_report as write_report
from .sources import Curve as Curve
from .sources import Measured as Measured
from .sources import Reported as Reported
from .sources import read_sources as read_sources
