"""FedAvg: one common model, the mean of the sites' models weighted by their numbers of cases.

McMahan et al., AISTATS 2017, arXiv:1602.05629.
"""

from fl_jobs.algorithms.base import PersonalAlgorithm


class FedAvg(PersonalAlgorithm):
    """The defaults of the base class; base and head are shared, the scaler stays."""
