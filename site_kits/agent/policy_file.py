"""``policy.toml`` of the site: written once, then the operator's own. A new kit never replaces it."""

from fl_jobs.approval.gate import POLICY_FILE
from fl_jobs.tensor_files import write_bytes
from site_kits.manifest import SitePolicy
from site_kits.site_home import SiteHome

DEFAULT = """\
# What this site permits. Every run must keep to all of it, and to the policies of platform and study.
# Stricter settings count at once, also for runs that are under way; looser ones count for new approvals.
# A setting that is left out permits everything. Check this file with: consilium-site doctor
version = 1

[approval]
mode = "ask"                        # "ask": a person approves each run; "standing": this policy does

[cohort]
min_sites = 1                       # a run must go on with at least so many sites

[studies]
# allow = ["breast-cytology"]       # take part in these studies only
# deny = []

[algorithms]
# allow = ["dbe", "fedavg"]         # local-only and FedAvg are trained in every run, for comparison
# deny = []

[privacy]
secure_aggregation = "optional"     # "required": no run in which the server sees this site's update
differential_privacy = "optional"   # "required": no run without it
{budget}
[output]
share_site_metrics = {share}           # false: this site's own figures stay here, only sums leave
# max_answer_bytes = 200000000      # the most bytes of numbers in one answer to the server
# max_rounds = 100                  # the most rounds of one run
"""
_BUDGET = """\
# epsilon = 8.0                     # what each patient may pay over all runs, with delta
# delta = 1e-6
"""


def write_missing_policy(home: SiteHome, told: SitePolicy) -> bool:
    """Write the default when there is no policy yet, with what ``site.json`` says; whether it was written."""
    path = home.root / POLICY_FILE
    if path.is_symlink() or path.exists():
        return False
    budget = _BUDGET
    if told.privacy_budget is not None:
        budget = f"epsilon = {told.privacy_budget.epsilon!r}\ndelta = {told.privacy_budget.delta!r}\n"
    share = str(told.share_site_metrics).lower()
    write_bytes(path, DEFAULT.format(budget=budget, share=share).encode())
    return True
