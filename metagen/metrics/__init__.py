"""What is measured of generated images, through a named extractor; knows no generator.

To add a metric: a file here and a line below.
"""

from metagen.metrics.base import Metric, Seen
from metagen.metrics.copying import CopyRatio, nearest_support
from metagen.metrics.diversity import Diversity, RelativeDiversity, diversity
from metagen.metrics.extractors import Extractor, extractors
from metagen.metrics.frechet import Frechet, TaskFrechet, frechet_distance
from metagen.metrics.kernel import Kernel, kernel_distance
from metagen.metrics.recognition import Recognisability, recognisability

metrics: dict[str, Metric] = {
    "fd": Frechet(),
    "fd_task": TaskFrechet(),
    "kid": Kernel(),
    "recognisability": Recognisability(),
    "diversity": Diversity(),
    "diversity_relative": RelativeDiversity(),
    "copy_ratio": CopyRatio(),
}

__all__ = [
    "Extractor",
    "Metric",
    "Seen",
    "diversity",
    "extractors",
    "frechet_distance",
    "kernel_distance",
    "metrics",
    "nearest_support",
    "recognisability",
]
