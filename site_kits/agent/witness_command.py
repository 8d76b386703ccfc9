"""``consilium-site witness``: what this site signed of the portal's log, and what the operator may decide."""

import argparse
import sys
from datetime import UTC, datetime
from typing import Any

from compliance.note import COSIGNATURE_V1, encode_base64, verifier_key
from site_kits.agent import preflight
from site_kits.agent import witness_files as files
from site_kits.agent.peers import grouped
from site_kits.agent.witness_words import contradiction_sentence
from site_kits.manifest import KitManifest
from site_kits.site_home import SiteHome, read_state
from site_kits.translation import _


def add_command(commands: Any) -> None:
    """Add ``witness`` and its decisions to the parser of ``consilium-site``."""
    parser = commands.add_parser("witness", help=_("what this site signed of the portal's log"))
    parser.set_defaults(command=show)
    decisions = parser.add_subparsers(metavar="DECISION")
    decisions.add_parser(
        "new-key", help=_("retire the witness's key and its memory; a new one is made")
    ).set_defaults(command=new_key)
    decisions.add_parser(
        "trust-again", help=_("after a contradiction was cleared up: learn the portal's log anew")
    ).set_defaults(command=trust_again)


def show(home: SiteHome, _parsed: argparse.Namespace) -> int:
    """Key, log, last signature and the other sites; 1 when the log contradicted itself."""
    manifest = preflight.load_manifest(home)
    key, known = files.load_key(home), files.known_log(home)
    seen = files.memory(home, manifest.federation)
    if key is None or known is None or seen is None:
        sys.stdout.write(_("This site has not witnessed the portal's log yet. Is it running?") + "\n")
        return 1
    own = verifier_key(_name(manifest), key, COSIGNATURE_V1)
    lines = [
        _("Portal's log:     {name}").format(name=seen.origin),
        _("  its key:        {key} (learnt on {day})").format(
            key=grouped(known.fingerprint), day=known.learnt_at[:10]
        ),
        _("  signed size:    {size}").format(size=seen.size),
        _("  root:           {root}").format(root=encode_base64(seen.root)),
        _("This site's key:  {key}").format(key=own),
        *_others(home),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    evidence = files.evidence_files(home)
    if evidence:
        sys.stdout.write(contradiction_sentence(evidence[-1]) + "\n")
    return 1 if evidence else 0


def new_key(home: SiteHome, _parsed: argparse.Namespace) -> int:
    """Put key and memory aside. What the former key signed stays true."""
    preflight.load_manifest(home)
    files.retire(home, forget_log=False)
    sys.stdout.write(_("The key is retired. The running site makes a new one within a minute.") + "\n")
    return 0


def trust_again(home: SiteHome, _parsed: argparse.Namespace) -> int:
    """Forget which log this site knows: evidence and key go aside, nothing is deleted."""
    preflight.load_manifest(home)
    kept = files.retire(home, forget_log=True)
    sentence = _(
        "Key, memory and evidence lie in {folder}. The running site learns the portal's log anew within a "
        "minute; compare its key with another site then."
    )
    sys.stdout.write(sentence.format(folder=kept) + "\n")
    return 0


def _name(manifest: KitManifest) -> str:
    return f"{manifest.federation}/{manifest.site}/witness"


def _others(home: SiteHome) -> list[str]:
    others: dict[str, dict[str, int]] = (read_state(home.status_json).get("witness") or {}).get("others", {})
    lines = [_("Other sites:")] if others else []
    for name, seen in sorted(others.items()):
        site = name.split("/")[-2]
        if not seen:
            lines.append(_("  {site}: not seen yet").format(site=site))
            continue
        moment = datetime.fromtimestamp(seen["at"], UTC).isoformat(timespec="seconds")
        lines.append(_("  {site}: size {size}, {time}").format(site=site, size=seen["size"], time=moment))
    return lines
