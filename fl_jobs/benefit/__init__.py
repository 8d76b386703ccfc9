"""Does the federation help a site, or harm it? The rule, fixed in the run specification; torch-free.

``answers`` counts right answers by group, ``resampling`` has interval and test, ``difference`` the verdict on
one arm at one site, ``federation`` what may be said of all sites together, ``evidence`` joins runs of several
seeds (``python -m fl_jobs.benefit FILE …``).
"""

from fl_jobs.benefit.answers import Answers, answers_of
from fl_jobs.benefit.difference import Difference, Verdict, compare_arms, propose
from fl_jobs.benefit.federation import FederationVerdict, holm, judge_federation

__all__ = [
    "Answers",
    "Difference",
    "FederationVerdict",
    "Verdict",
    "answers_of",
    "compare_arms",
    "holm",
    "judge_federation",
    "propose",
]
