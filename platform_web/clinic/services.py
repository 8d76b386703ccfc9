"""Issuing tickets. The portal signs who may ask which model; what is asked never passes it."""

import time
from dataclasses import dataclass

from django.contrib.auth.models import User
from django.db import transaction
from django.utils.translation import gettext as _

from platform_web.audit import services as audit
from platform_web.clinic import acts as acts
from platform_web.clinic.errors import ClinicError
from platform_web.federation.authority import open_ticket_key
from platform_web.registry.models import Promotion
from site_kits.tickets import issue_ticket, new_claims


@dataclass(frozen=True)
class Ticket:
    """A ticket, the site's inference address, and when the ticket is over (Unix seconds)."""

    ticket: str
    url: str
    expires: int


@transaction.atomic
def give_ticket(*, actor: User, promotion: Promotion) -> Ticket:
    """A ticket of five minutes for one model of the person's own institution.

    Not checked here: that the person belongs to the site; the page reads ``promotion`` in their scope.
    Raises ClinicError when the model was withdrawn or the site has not said where it answers.
    """
    if promotion.withdrawn:
        raise ClinicError(_("This model was withdrawn. Reload the page to see which one serves now."))
    url = promotion.site.inference_url
    if not url:
        raise ClinicError(
            _(
                "Your institution's model has not reported where it answers. Ask your site operator "
                "to check the agent."
            )
        )
    kid, key = open_ticket_key()
    claims = new_claims(
        site=promotion.site.name,
        study=promotion.study.slug,
        promotion=promotion.pk,
        subject=audit.pseudonym("person", str(actor.pk)),
        now=time.time(),
    )
    audit.record(
        act="ticket.issued",
        actor=actor,
        site=promotion.site.name,
        obj=[("promotion", str(promotion.pk), promotion.site_model.personal_sha256)],
        data={"study": promotion.study.slug, "arm": promotion.site_model.version.arm, "expires": claims.exp},
    )
    return Ticket(ticket=issue_ticket(key, kid, claims), url=url, expires=claims.exp)
