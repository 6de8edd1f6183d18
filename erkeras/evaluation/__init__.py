"""Measuring robustness, and showing it. The names load on first use: a record is opened without TensorFlow."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
