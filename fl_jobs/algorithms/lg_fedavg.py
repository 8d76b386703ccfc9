"""LG-FedAvg: each site's own base under a common head.

Liang et al., "Think Locally, Act Globally: Federated Learning with Local and Global Representations", 2020,
arXiv:2001.01523, algorithm 1, without the optional adversarial loss. The authors average plainly; the mean
is weighted by cases here, as in every other algorithm.
"""

from fl_jobs.algorithms.base import PersonalAlgorithm


class LGFedAvg(PersonalAlgorithm):
    """Head shared, base personal; a head's worth of numbers leaves the site."""

    shared_prefixes = ("head.",)
