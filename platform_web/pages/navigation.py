"""The links of the sidebar, by role."""

from dataclasses import dataclass

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from platform_web.accounts.models import Role
from platform_web.accounts.scope import role_of

A, S, D, C, X = (
    Role.ADMINISTRATOR,
    Role.SITE_OPERATOR,
    Role.DATA_SCIENTIST,
    Role.CLINICIAN,
    Role.AUDITOR,
)
# (name of the URL, label, icon, roles)
ENTRIES = (
    ("home", _("Home"), "home", (A, S, D, C, X)),
    ("clinic", _("Ask the model"), "clinic", (C,)),
    ("sites", _("Sites"), "site", (A, S, D, X)),
    ("studies", _("Studies"), "study", (A, S, D, X)),
    ("runs", _("Runs"), "run", (A, S, D, X)),
    ("models", _("Models in use"), "model", (A, S, D, X)),
    ("people", _("People"), "people", (A,)),
    ("audit", _("Audit log"), "audit", (A, X)),
    ("admin:index", _("Tables"), "gear", (A,)),
)


@dataclass(frozen=True)
class Link:
    url: str
    label: str
    icon: str
    current: bool


def links_for(request: HttpRequest) -> list[Link]:
    """What this person's role can open; the page being read is marked."""
    role = role_of(request.user)
    links = []
    for name, label, icon, roles in ENTRIES:
        if role not in roles:
            continue
        url = reverse(name)
        here = request.path == url if url == "/" else request.path.startswith(url)
        links.append(Link(url=url, label=str(label), icon=icon, current=here))
    return links
