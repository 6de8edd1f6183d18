"""erkeras: adversarially robust image classifiers for Keras 3 and TensorFlow 2.

Names load on first use, so `import erkeras` costs milliseconds and no TensorFlow.
"""

import lazy_loader

from erkeras.registration import register_when_keras_loads
from erkeras.versions import __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
register_when_keras_loads()
