"""LG-FedAvg: each site's own base under a common head.

Liang et al., "Think Locally, Act Globally: Federated Learning with Local and Global Representations", 2020,
arXiv:2001.01523, without the optional adversarial loss. The mean is weighted by cases, as in the paper; the
authors' code averages plainly.
"""

from fl_jobs.algorithms.base import PersonalAlgorithm


class LGFedAvg(PersonalAlgorithm):
    """Head shared, base personal; a head's worth of numbers leaves the site."""

    shared_prefixes = ("head.",)
