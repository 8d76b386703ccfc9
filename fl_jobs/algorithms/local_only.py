"""Local only: nothing leaves the site; the yardstick every other algorithm is measured with."""

from fl_jobs.algorithms.base import PersonalAlgorithm


class LocalOnly(PersonalAlgorithm):
    """The same network and loop as FedAvg, with an empty allow-list."""

    shared_prefixes = ()
