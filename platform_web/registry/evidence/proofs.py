"""Proofs of the audit entries about a run, for a verifier that has nothing else; and what the entries say."""

import csv
import io
from collections import Counter
from importlib.resources import files as resources
from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet

from compliance.bundle import ranges_of
from compliance.canonical import CanonicalError
from compliance.evidence.archive import json_bytes
from platform_web.accounts.models import Role
from platform_web.audit import selectors as log
from platform_web.audit import services as audit
from platform_web.audit.models import AuditEvent
from platform_web.registry.evidence.case import Case

COLUMNS = ("time", "actor", "roles", "act", "outcome", "site", "round", "objects", "entry")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run


def proof_files(case: Case) -> dict[str, bytes]:
    """The bundle and the policy it is verified with; empty while nothing is signed. And the verifiers."""
    files = {"verify.py": resources("compliance").joinpath("verify.py").read_bytes()}
    page = resources("compliance").joinpath("verifier.html")
    if page.is_file():
        files["verifier.html"] = page.read_bytes()
    if case.head is None or case.policy is None or not case.places:
        return files
    lines = log.bundle(case.head, ranges_of([place.idx for place in case.places]))
    return {
        **files,
        "proofs/bundle.txt": "".join(lines).encode(),
        "proofs/policy.txt": str(case.policy).encode(),
    }


def access_report(case: Case) -> bytes:
    """Who did what about this run, by the numbers the log has for people; an altered entry says so."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for event in case.entries:
        writer.writerow([_text(value) for value in _access(event)])
    return out.getvalue().encode()


def access_counts(case: Case) -> list[tuple[str, str, int]]:
    """(act, outcome, how many), for the printed report."""
    counted = Counter((str(row[3]), str(row[4])) for row in map(_access, case.entries))
    return [(act, outcome, number) for (act, outcome), number in sorted(counted.items())]


def roles_report(case: Case) -> bytes:  # noqa: ARG001 - one signature for all documents
    """Who holds which role now, by number; ``sees_all``: the roles that see every site."""
    people: QuerySet[User] = User.objects.filter(is_active=True).prefetch_related("groups").order_by("pk")
    rows = [
        {
            "person": f"user:{person.pk}",
            "roles": sorted(group.name for group in person.groups.all() if group.name in Role.values),
            "superuser": person.is_superuser,
        }
        for person in people
    ]
    return json_bytes({"source": "people of the portal, at the pack's time", "people": rows})


def _access(event: AuditEvent) -> list[Any]:
    try:
        said = audit.envelope_of(event)
    except CanonicalError:
        return ["", event.actor, "", event.act, "altered", event.site, "", event.obj, event.event_id]
    actor = said["actor"]
    objects = " ".join(f"{item['type']}:{item['id']}" for item in said["obj"])
    roles = " ".join(actor["roles"])
    who = f"{actor['type']}:{actor['id']}"
    return [said["ts"], who, roles, said["act"], said["out"], said["site"], said["rnd"], objects, said["id"]]


def _text(value: object) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(FORMULA) else text
