"""What agent and console write into the site's own log; an act that it does not take is not done."""

from fl_jobs.approval import site_log
from fl_jobs.approval.site_log import Scalar
from fl_jobs.errors import SiteLogError
from site_kits.errors import AgentError
from site_kits.site_home import SiteHome


def log_act(home: SiteHome, act: str, *, run: str = "", obj: str = "", **data: Scalar) -> None:
    """One entry, before the act has its effect. Raises AgentError with what to do."""
    try:
        site_log.record_all(home.root, [(act, run, None, obj, data)])
    except SiteLogError as exc:
        raise AgentError(str(exc)) from exc
