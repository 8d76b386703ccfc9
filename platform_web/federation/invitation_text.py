"""What an invitation says in words: the link, the PIN in groups, the mail, the line to paste."""

from django.conf import settings
from django.template.loader import render_to_string
from django.utils import translation

from platform_web.federation import authority
from platform_web.federation.models import Site
from platform_web.federation.services import Invitation
from site_kits.provisioning.ca import fingerprint_sha256

_GROUP = 4


def link_of(token: str) -> str:
    """The one-time link as people copy it."""
    return f"{settings.CONSILIUM_WEB_ORIGIN}/kits/{token}/"


def grouped_pin(pin: str) -> str:
    """In groups of four, as one reads it aloud."""
    return _grouped(pin)


def root_fingerprint() -> str:
    """SHA-256 of the root certificate, in groups of four: the same that the kit shows in the terminal."""
    return _grouped(fingerprint_sha256(authority.the_federation().root_certificate_pem.encode()))


def mail_text(invitation: Invitation) -> str:
    """A mail in the site's language. It names the link and never the PIN, which goes another way."""
    context = {
        "site": invitation.site,
        "link": link_of(invitation.token),
        "expires": invitation.kit.link_expires,
        "organisation": invitation.site.organisation,
    }
    with translation.override(invitation.site.language):
        return render_to_string("federation/invitation_mail.txt", context).strip() + "\n"


def archive_name(site: Site) -> str:
    """The kit's name in the operator's downloads."""
    return f"consilium-kit-{site.name}.zip"


def start_line(site: Site, token: str) -> str:
    """The one line to paste where the kit was saved: unpack and start. Site names need no quoting in a shell.

    Python's zipfile is the way out where ``unzip`` is not installed; it does not keep modes, hence ``bash``.
    """
    archive, folder = archive_name(site), f"consilium-{site.name}"
    unpack = f"(unzip -qo {archive} -d {folder} || python3 -m zipfile -e {archive} {folder})"
    return f"{unpack} && cd {folder} && bash start.sh {link_of(token)}"


def _grouped(text: str) -> str:
    return " ".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))
