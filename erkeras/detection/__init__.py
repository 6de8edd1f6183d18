"""Detectors of adversarial images (sections 3.3 and 4.5), all on one contract. The names load on first use."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
