"""``consilium-site peers | pin | unpin``: which keys of other sites this site has approved by hand.

A pin is agreed outside the federation, by phone for instance: then neither the server nor whoever holds the
federation's CA can put a key of its own between two sites.
"""

import argparse
import hashlib
import re
import sys
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fl_jobs.errors import SiteHomeError
from fl_jobs.flare.site_home import read_pins, read_seen, write_pins
from fl_jobs.packaging.spec import NAME_PATTERN
from site_kits.agent import preflight
from site_kits.agent.enrolment import stored_identity
from site_kits.agent.site_acts import log_act
from site_kits.errors import AgentError
from site_kits.site_home import SiteHome, read_state
from site_kits.translation import _

_GROUP = 4
_NAME, _KEY = re.compile(NAME_PATTERN), re.compile(r"[0-9a-f]{64}")


def add_commands(commands: Any) -> None:
    """Add the three commands to the parser of ``consilium-site``."""
    show = commands.add_parser("peers", help=_("this site's key and the keys of other sites you pinned"))
    show.set_defaults(command=show_peers)
    pin = commands.add_parser("pin", help=_("approve another site's key, as its operator read it to you"))
    pin.add_argument("name", metavar="NAME", help=_("the other site's short name"))
    pin.add_argument("fingerprint", metavar="FINGERPRINT", nargs="+", help=_("64 letters and digits"))
    pin.set_defaults(command=pin_peer)
    unpin = commands.add_parser("unpin", help=_("take the approval of another site's key back"))
    unpin.add_argument("name", metavar="NAME", help=_("the other site's short name"))
    unpin.set_defaults(command=unpin_peer)


def pins_of(home: SiteHome) -> dict[str, str] | None:
    """The pinned keys. Raises AgentError when the file cannot be used: then no masked run can start here."""
    try:
        return read_pins(home.root)
    except SiteHomeError as error:
        raise AgentError(_("The pinned keys cannot be used: {reason}").format(reason=error)) from error


def show_peers(home: SiteHome, _parsed: argparse.Namespace) -> int:
    """Print this site's own fingerprint, the pinned ones and those still to be pinned."""
    site, own = _own_key(home)
    pins, seen, suggested = pins_of(home), _seen(home), _suggested(home)
    lines = [
        _("This site is {site}. Read its fingerprint to the other operators by phone:").format(site=site),
        f"  {grouped(own)}",
    ]
    if pins is None:
        lines.append(_("No site is pinned: the federation's CA alone vouches for the other sites."))
    else:
        lines.append(
            _("Pinned sites ({count}); a site that is not among them is refused:").format(count=len(pins))
        )
        lines += [_pinned_line(name, pins[name], seen, suggested) for name in sorted(pins)]
    known = {**suggested, **seen}
    missing = sorted(known.keys() - (pins or {}).keys() - {site})
    if missing:
        lines.append(_("Not pinned yet. Ask for the fingerprint by phone; do not copy it from here unheard:"))
        lines += [f"  {name}  {grouped(known[name])}" for name in missing]
    sys.stdout.write("\n".join(lines) + "\n")
    changed = [name for name, key in (pins or {}).items() if known.get(name, key) != key]
    return 1 if changed or (pins is not None and missing) else 0


def pin_peer(home: SiteHome, parsed: argparse.Namespace) -> int:
    """Approve one key. An approved key is never replaced in passing: it must be taken back first."""
    site, own = _own_key(home)
    name, fingerprint = parsed.name, normalised("".join(parsed.fingerprint))
    pins = pins_of(home) or {}
    if name == site or fingerprint == own:
        raise AgentError(_("That is this site's own key. Pin the key that another operator read to you."))
    if pins.get(name, fingerprint) != fingerprint:
        raise AgentError(
            _(
                "{name} is pinned with another key. If its operator confirms by phone that the key has "
                "changed, run: consilium-site unpin {name}"
            ).format(name=name)
        )
    twin = next((other for other, key in pins.items() if key == fingerprint and other != name), None)
    if twin is not None:
        raise AgentError(
            _("This key is pinned for {twin} already; two sites never have one key. Ask both again.").format(
                twin=twin
            )
        )
    log_act(home, "peer.confirmed", obj=name, key=fingerprint)
    _write(home, {**pins, name: fingerprint})
    sys.stdout.write(_("Pinned {name}: {fingerprint}\n").format(name=name, fingerprint=grouped(fingerprint)))
    if not pins:
        sys.stdout.write(_("From the next run on, only pinned sites are trusted. Pin all the others too.\n"))
    return 0


def unpin_peer(home: SiteHome, parsed: argparse.Namespace) -> int:
    """Take one approval back; with the last one the site trusts the CA again, and says so."""
    pins = pins_of(home) or {}
    if parsed.name not in pins:
        raise AgentError(
            _("{name} is not pinned. The pinned sites are: {names}.").format(
                name=parsed.name, names=", ".join(sorted(pins)) or "–"
            )
        )
    left = {name: key for name, key in pins.items() if name != parsed.name}
    log_act(home, "peer.unconfirmed", obj=parsed.name)
    _write(home, left or None)
    sys.stdout.write(_("{name} is not pinned any more.\n").format(name=parsed.name))
    if not left:
        sys.stdout.write(
            _("No site is pinned: the federation's CA alone vouches for the other sites.") + "\n"
        )
    return 0


def grouped(fingerprint: str) -> str:
    """In groups of four, as one reads it aloud."""
    return " ".join(fingerprint[at : at + _GROUP] for at in range(0, len(fingerprint), _GROUP))


def normalised(text: str) -> str:
    """64 lower-case hex digits from what a person typed: blanks, colons and capitals do not matter."""
    plain = "".join(text.split()).replace(":", "").replace("-", "").lower()
    if len(plain) != 2 * hashlib.sha256().digest_size or set(plain) - set("0123456789abcdef"):
        raise AgentError(
            _(
                "A fingerprint has 64 letters a to f and digits; this one has {count} characters. Ask again."
            ).format(count=len(plain))
        )
    return plain


def _own_key(home: SiteHome) -> tuple[str, str]:
    manifest = preflight.load_manifest(home)
    identity = stored_identity(home, manifest)
    if identity is None:
        raise AgentError(_("This site has no certificate yet. Start it with the link: ./start.sh LINK"))
    public = identity.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return manifest.site, hashlib.sha256(public).hexdigest()


def _seen(home: SiteHome) -> dict[str, str]:
    """What peers presented in runs; only a hint, so an unreadable file is none."""
    try:
        return read_seen(home.root)
    except SiteHomeError:
        return {}


def _suggested(home: SiteHome) -> dict[str, str]:
    """What the portal named when this site enrolled; only a hint, and what is not well formed is none."""
    peers = read_state(home.suggested_peers_json).get("peers")
    pairs = peers.items() if isinstance(peers, dict) else ()
    return {name: key for name, key in pairs if _NAME.fullmatch(name) and _KEY.fullmatch(str(key))}


def _pinned_line(name: str, pinned: str, seen: dict[str, str], suggested: dict[str, str]) -> str:
    line = f"  {name}  {grouped(pinned)}"
    if name in seen:
        sentence = _("{line}\n    came with ANOTHER key in the last run: {seen}")
        return line if seen[name] == pinned else sentence.format(line=line, seen=grouped(seen[name]))
    if suggested.get(name, pinned) != pinned:
        sentence = _("{line}\n    has ANOTHER key by what the portal named at enrolment: {named}")
        return sentence.format(line=line, named=grouped(suggested[name]))
    return line


def _write(home: SiteHome, pins: dict[str, str] | None) -> None:
    try:
        write_pins(home.root, pins)
    except SiteHomeError as error:
        raise AgentError(_("Nothing was changed: {reason}").format(reason=error)) from error
