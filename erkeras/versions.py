"""What figures depend on, beside settings and seeds: the versions of packages, and the processor."""

from __future__ import annotations

import platform
import re
from importlib.metadata import version
from pathlib import Path

__version__ = "0.2.0"

_PACKAGES = ("tensorflow", "keras", "numpy", "scikit-learn", "cleverhans")


def versions() -> dict[str, str]:
    """Lists the versions of everything that figures depend on."""
    return {"erkeras": __version__, "python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def processor() -> str:
    """Names this machine's processor, on which the last bit of every figure depends."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()
