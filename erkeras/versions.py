"""Names the versions of packages and the processor, on which figures depend beside settings and seeds."""

from __future__ import annotations

import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path

__version__ = "0.2.0"

_PACKAGES = ("tensorflow", "keras", "numpy", "scikit-learn", "cleverhans")


def versions() -> dict[str, str]:
    """Lists the versions of everything that figures depend on."""
    return {"erkeras": __version__, "python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def processor() -> str:
    """Names what computes here, on which the last bit of every figure depends: the processor, and GPUs before it."""
    return ", ".join([*_gpus(), _cpu()])


def _gpus() -> list[str]:
    if "tensorflow.python" not in sys.modules:
        return []  # it was not loaded, and has computed nothing
    config = sys.modules["tensorflow"].config
    details = [config.experimental.get_device_details(gpu) for gpu in config.get_visible_devices("GPU")]
    return [str(detail.get("device_name", "a GPU")) for detail in details]


def _cpu() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()
