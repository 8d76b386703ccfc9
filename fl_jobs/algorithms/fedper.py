"""FedPer: a common base under each site's own head, trained together.

Arivazhagan et al., "Federated Learning with Personalization Layers", 2019, arXiv:1912.00818.
The personalisation layers are the head here.
"""

from fl_jobs.algorithms.base import PersonalAlgorithm


class FedPer(PersonalAlgorithm):
    """Base shared, head personal. A late joiner starts with the initial head."""

    shared_prefixes = ("base.",)
