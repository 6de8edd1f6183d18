"""Many machines, by Ray, which schedules, retries and moves data. The names load on first use, and Ray with them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
