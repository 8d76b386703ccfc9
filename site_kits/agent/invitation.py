"""What a person brings to enrol a site: the link that came by mail and the PIN told by telephone.

Neither is ever written down here. The kit pins the federation's root (``site.json`` names its fingerprint),
so the PIN is sent to nobody else; the operator compares the fingerprint by telephone before typing the PIN,
which is what stands against a forged kit.
"""

import argparse
import getpass
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from site_kits.agent import preflight
from site_kits.agent.enrolment import Identity, enrol, identity_here
from site_kits.agent.peers import grouped
from site_kits.agent.portal import PortalDoor
from site_kits.agent.processes import HomeLock
from site_kits.errors import AgentError
from site_kits.manifest import KitManifest
from site_kits.site_home import SiteHome
from site_kits.translation import _

PIN_VARIABLE = "CONSILIUM_PIN"
PIN_DIGITS = 8
_LINK = re.compile(r"(https?://[A-Za-z0-9.\-\[\]:]{1,253})/kits/([A-Za-z0-9_-]{20,200})/?")
_PIN_FILE_BYTES = 64


@dataclass(frozen=True)
class Invitation:
    """The link's token and the PIN; good for one certificate."""

    token: str = field(repr=False)
    pin: str = field(repr=False)


def add_command(commands: Any) -> None:
    """Add ``enrol`` to the parser of ``consilium-site``."""
    command = commands.add_parser("enrol", help=_("make the key here and get its certificate with your link"))
    command.add_argument("link", metavar="LINK", help=_("the link of the invitation"))
    add_pin_option(command)
    command.set_defaults(command=enrol_here)


def add_pin_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--pin-file",
        metavar="FILE",
        help=_("file that holds the PIN (default: CONSILIUM_PIN, or you are asked)"),
    )


def enrol_here(home: SiteHome, parsed: argparse.Namespace) -> int:
    """Enrol and stop; an enrolled site stays as it is."""
    manifest = preflight.load_manifest(home)
    with HomeLock(home):
        try:
            identity = identity_here(home, manifest)
        except AgentError as exc:
            sys.stdout.write(_("{sentence} The link is used for a new certificate.\n").format(sentence=exc))
            identity = None
        if identity is not None:
            day = identity.certificate.not_valid_after_utc.date().isoformat()
            sentence = _("This site is enrolled already, until {day}; nothing was changed.\n")
            sys.stdout.write(sentence.format(day=day))
            return 0
        invitation = read_invitation(parsed.link, parsed.pin_file, manifest)
        door = PortalDoor(manifest.agents_url, home.root_ca)
        try:
            _tell(enrol(home, manifest, door, invitation.token, invitation.pin))
        finally:
            door.close()
    return 0


def _tell(identity: Identity) -> None:
    day = identity.certificate.not_valid_after_utc.date().isoformat()
    sys.stdout.write(
        _("Enrolled until {day}: the key was made here and stays here. Now run ./start.sh\n").format(day=day)
    )


def read_invitation(link: str | None, pin_file: str | None, manifest: KitManifest) -> Invitation:
    """Link and PIN; the PIN is asked for where a person sits. Raises AgentError in a sentence."""
    if not link:
        raise AgentError(
            _(
                "This site has no certificate yet. Start it with the link of your invitation: "
                "./start.sh LINK (the administrator makes a new one if it is over)."
            )
        )
    return Invitation(_token_of(link, manifest), _read_pin(pin_file, manifest))


def _token_of(link: str, manifest: KitManifest) -> str:
    found = _LINK.fullmatch(link.strip())
    if found is None:
        raise AgentError(
            _(
                "That is not the link of an invitation; it looks like {origin}/kits/…/ and stands in the "
                "mail. Copy the whole of it."
            ).format(origin=manifest.web_origin)
        )
    if found[1] != manifest.web_origin:
        raise AgentError(
            _(
                "The link is of {there}, but this kit is of {here}. Open the link, get its kit and start "
                "that one."
            ).format(there=found[1], here=manifest.web_origin)
        )
    return found[2]


def _read_pin(pin_file: str | None, manifest: KitManifest) -> str:
    given = os.environ.pop(PIN_VARIABLE, "")  # children of this process have no business with it
    if pin_file:
        with Path(pin_file).open("rb") as file:
            given = file.read(_PIN_FILE_BYTES).decode("ascii", errors="replace")
    elif not given and sys.stdin.isatty():
        sys.stdout.write(root_sentence(manifest) + "\n")
        given = getpass.getpass(_("PIN (nothing is shown while you type): "))
    pin = "".join(given.split()).replace("-", "")
    if len(pin) != PIN_DIGITS or not (pin.isascii() and pin.isdigit()):
        raise AgentError(
            _(
                "The PIN of an invitation has {count} digits; nothing was sent. The administrator tells it "
                "by telephone. Start in a terminal and type it, or name a file with --pin-file."
            ).format(count=PIN_DIGITS)
        )
    return pin


def root_sentence(manifest: KitManifest) -> str:
    """What the operator compares before typing the PIN."""
    return _(
        "This kit trusts the federation with the root {fingerprint}. Type the PIN only if the administrator "
        "reads the same to you by telephone."
    ).format(fingerprint=grouped(manifest.root_fingerprint_sha256))
