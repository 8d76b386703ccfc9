"""Sites: invited with their first kit, suspended, resumed, seen."""

from collections.abc import Iterable
from datetime import datetime

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.utils.translation import gettext as _

from platform_web.audit import services as audit
from platform_web.federation import allow_list, authority
from platform_web.federation.errors import (
    FederationError,
    SiteNameError,
)
from platform_web.federation.models import Site
from platform_web.federation.names import check_site_name
from platform_web.federation.services.kits import Invitation, draw_link, new_kit


def invite_site(
    *,
    actor: User,
    name: str,
    title: str,
    organisation: str,
    zone: str = "",
    contact: str = "",
    language: str = Site.Language.ENGLISH,
) -> Invitation:
    """Add a site and promise its kit; the invitation holds the one-time link and the PIN.

    ``contact`` is an e-mail address, a personal datum: it stands in the site's row and nowhere else.
    Raises SiteNameError for a malformed, reserved or taken name, FederationError for other fields.
    """
    check_site_name(name, authority.the_federation())
    texts = [one_line(_("title"), title, 200), one_line(_("organisation"), organisation, 64)]
    zone = one_line(_("zone"), zone, 64, required=False)
    if language not in Site.Language.values:
        raise FederationError(_("Choose the site's language: Chinese or English."))
    fields = {"title": texts[0], "organisation": texts[1], "zone": zone, "language": language}
    drawn = draw_link()
    with transaction.atomic():
        site, is_new = Site.objects.get_or_create(
            name=name, defaults={**fields, "contact": _address(contact)}
        )
        if not is_new:
            raise SiteNameError(
                _("There is a site called %(name)s already. Choose another.") % {"name": name}
            )
        invitation = new_kit(site, actor, drawn)
        audit.record(
            act="site.invited",
            actor=actor,
            site=name,
            obj=[("site", name, ""), ("kit", str(invitation.kit.pk), "")],
            data={"title": site.title, "organisation": site.organisation, "zone": zone},
        )
        return invitation


@transaction.atomic
def suspend_site(*, actor: User, site: Site, reason: str = "") -> None:
    """None of the site's certificates counts from the commit on, until it is resumed.

    Raises FederationError when it is suspended, revoked or gone already, or for a reason of several lines.
    """
    reason = one_line(_("reason"), reason, 200, required=False)
    if (
        not Site.objects.filter(pk=site.pk)
        .exclude(status__in=Site.BARRED)
        .update(status=Site.Status.SUSPENDED)
    ):
        raise FederationError(_("%(site)s is suspended, revoked or gone already.") % {"site": site.name})
    allow_list.promise()
    audit.record(
        act="site.suspended",
        actor=actor,
        site=site.name,
        obj=[("site", site.name, "")],
        body={"reason": reason} if reason else None,
    )


@transaction.atomic
def resume_site(*, actor: User, site: Site, reason: str = "") -> None:
    """Let a suspended site take part again. Raises FederationError when it is not suspended."""
    has_certificate = site.certificates.filter(revoked_at=None, replaced_at=None).exists()
    status = Site.Status.ENROLLED if has_certificate else Site.Status.INVITED
    if not Site.objects.filter(pk=site.pk, status=Site.Status.SUSPENDED).update(status=status):
        raise FederationError(_("%(site)s is not suspended.") % {"site": site.name})
    allow_list.promise()
    audit.record(
        act="site.resumed",
        actor=actor,
        site=site.name,
        obj=[("site", site.name, "")],
        body={"reason": reason} if reason else None,
    )


@transaction.atomic
def record_flare_seen(*, names: Iterable[str], now: datetime) -> None:
    """These sites are registered with the NVFlare server at this moment."""
    Site.objects.filter(name__in=list(names)).update(flare_seen_at=now)


def _address(contact: str) -> str:
    contact = contact.strip()
    try:
        if contact:
            validate_email(contact)
    except ValidationError as error:
        sentence = _("The contact must be an e-mail address, like it@hospital.example.")
        raise FederationError(sentence) from error
    return contact


def one_line(field: str, value: str, limit: int, *, required: bool = True) -> str:
    """One line of text without control characters. Raises FederationError."""
    value = " ".join(value.split())
    if (
        (required and not value)
        or len(value.encode()) > limit * 3
        or len(value) > limit
        or not value.isprintable()
    ):
        raise FederationError(
            _("The %(field)s must be one line of at most %(limit)d characters.")
            % {"field": field, "limit": limit}
        )
    return value
