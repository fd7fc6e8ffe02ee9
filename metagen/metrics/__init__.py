"""Figures of generated images through a named extractor; no generator is known here.

To add a metric: a file here and a line below.
"""

from metagen.metrics.base import Column, QueryLoss, RealFeatures
from metagen.metrics.clusters import (
    Pairwise,
    PairwiseCluster,
    Perceptual,
    PerceptualCluster,
    cluster_distance,
    pairwise_distance,
)
from metagen.metrics.copying import CopyRatio, MemorisationInformed, NearCopies, mifid, near_copies, nearest_support
from metagen.metrics.coverage import Coverage, Density, Precision, Recall, density_coverage, precision_recall
from metagen.metrics.diversity import Diversity, RelativeDiversity, diversity
from metagen.metrics.energy import Energy
from metagen.metrics.extractors import Extractor, extractors
from metagen.metrics.frechet import Frechet, TaskFrechet, frechet_distance
from metagen.metrics.inception_score import InceptionScore, inception_score
from metagen.metrics.infinity import FrechetInfinity, fd_infinity
from metagen.metrics.kernel import Kernel, kernel_distance
from metagen.metrics.naming import figure_name, select_figures
from metagen.metrics.originality import Originality, RelativeOriginality, originality
from metagen.metrics.recognition import Recognisability, recognisability

metrics: dict[str, Column] = {
    "fd": Frechet(),
    "fd_task": TaskFrechet(),
    "fd_infinity": FrechetInfinity(),
    "kid": Kernel(),
    "energy": Energy(),
    "is": InceptionScore(),
    "precision": Precision(),
    "recall": Recall(),
    "density": Density(),
    "coverage": Coverage(),
    "recognisability": Recognisability(),
    "diversity": Diversity(),
    "diversity_relative": RelativeDiversity(),
    "pairwise": Pairwise(),
    "pairwise_cluster": PairwiseCluster(),
    "lpips": Perceptual(),
    "lpips_cluster": PerceptualCluster(),
    "originality": Originality(),
    "originality_relative": RelativeOriginality(),
    "copy_ratio": CopyRatio(),
    "near_copies": NearCopies(),
    "mifid": MemorisationInformed(),
}

__all__ = [
    "Column",
    "Extractor",
    "QueryLoss",
    "RealFeatures",
    "cluster_distance",
    "density_coverage",
    "diversity",
    "extractors",
    "fd_infinity",
    "figure_name",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "metrics",
    "mifid",
    "near_copies",
    "nearest_support",
    "originality",
    "pairwise_distance",
    "precision_recall",
    "recognisability",
    "select_figures",
]
