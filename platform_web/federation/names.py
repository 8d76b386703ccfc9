"""What may be a site's name: it stands in addresses, folders and certificates and never changes."""

import re

from django.utils.translation import gettext as _

from fl_jobs.packaging.spec import NAME_PATTERN
from platform_web.federation.errors import SiteNameError
from platform_web.federation.models import Federation

MEANT_BY_NVFLARE = frozenset({"server", "admin", "ops", "runs", "localhost", "all"})
PAGES = frozenset({"add", "cards"})  # stand below /sites/ themselves
RESERVED_NAMES = MEANT_BY_NVFLARE | PAGES


def check_site_name(name: str, federation: Federation) -> None:
    """Raises SiteNameError for a malformed name and for one that means something else."""
    if not re.fullmatch(NAME_PATTERN, name) or name.endswith("\n"):
        raise SiteNameError(
            _("%(name)s cannot be a site's name. Use 1 to 63 of a-z, 0-9 and -, with - inside only.")
            % {"name": name[:80] or "''"}
        )
    if name in RESERVED_NAMES:
        raise SiteNameError(
            _("%(name)s is kept for the platform itself. Choose another name.") % {"name": name}
        )
    if name in {federation.name, federation.server_name}:
        raise SiteNameError(
            _("%(name)s is the name of the federation's server. Choose another.") % {"name": name}
        )
