"""A page of what cards and records hold. No model runs, and TensorFlow is not loaded."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
