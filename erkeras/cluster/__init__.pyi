from .training import train_on_cluster as train_on_cluster
from .workers import Workers as Workers
