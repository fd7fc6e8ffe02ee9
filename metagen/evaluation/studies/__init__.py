"""Studies of a model on held-out tasks. To add one: a file here and a line below."""

from metagen.evaluation.studies import gain, log_likelihood
from metagen.evaluation.studies.base import Study, StudyContext
from metagen.evaluation.studies.cost import adaptation_cost

studies: dict[str, Study] = {
    "log_likelihood": Study(log_likelihood.conditional_log_likelihood, log_likelihood.check),
    "gain": Study(gain.downstream_gain, gain.check),
    "cost": Study(adaptation_cost),
}

__all__ = ["Study", "StudyContext", "studies"]
