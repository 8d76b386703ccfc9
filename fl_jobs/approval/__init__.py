"""What a site approved, and the one gate that job launcher, executor and result filter pass. Torch-free."""

from fl_jobs.approval.gate import Admission, admit, approved, site_policy
from fl_jobs.approval.records import RunRequest, SiteDecision, facts_of, read_decision, read_request

__all__ = [
    "Admission",
    "RunRequest",
    "SiteDecision",
    "admit",
    "approved",
    "facts_of",
    "read_decision",
    "read_request",
    "site_policy",
]
