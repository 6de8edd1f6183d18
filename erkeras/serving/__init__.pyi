from .client import Client as Client
from .export import detect_with as detect_with
from .export import export_classifier as export_classifier
from .export import export_saved_model as export_saved_model
from .export import open_detect as open_detect
from .served import Served as Served
from .signatures import MOST_PIXELS as MOST_PIXELS
from .signatures import SIGNATURES as SIGNATURES
