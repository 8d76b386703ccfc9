"""A site's side of a run, without a network: executes one task at a time and says what may leave."""

from fl_jobs.site_session.session import SiteSession

__all__ = ["SiteSession"]
