"""The portal in a process of its own, for the proof that its log fails closed: every act, JSON out.

Started by ``tests.prove.audit_fail_closed``, which says a word a line: ``acts`` sends every protected act and
prints what each answered and how long it took; ``snapshot`` prints a digest of every table, and the files;
``entries`` counts; ``fill`` writes entries until the disk takes no more. Settings are those of a demo portal.
"""

import base64
import hashlib
import json
import os
import sys
import time
from datetime import timedelta

os.environ["DJANGO_SETTINGS_MODULE"] = "infra.settings.dev"
os.environ["CONSILIUM_MASTER_KEY"] = base64.b64encode(b"fail closed: 32 bytes of a proof").decode()

import django

django.setup()

from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.template.loader import render_to_string
from django.test import Client
from django.test.utils import setup_test_environment

from platform_web.audit import selectors, services
from tests.platform_web import protected_acts, protected_world

NOT_EFFECTS = {  # written before the act: attempts are counted, a nonce is used up whatever follows
    "axes_accessattempt",
    "axes_accessfailurelog",
    "axes_accesslog",
    "federation_agentnonce",
}


def snapshot() -> dict[str, str]:
    """Table → digest of its rows, read in a stable order."""
    digests = {}
    with connection.cursor() as cursor:
        for model in apps.get_models(include_auto_created=True):
            table = model._meta.db_table
            if table not in NOT_EFFECTS:
                cursor.execute(f"SELECT * FROM {table}")
                rows = sorted(repr(row) for row in cursor.fetchall())
                digests[table] = hashlib.sha256("\n".join(rows).encode()).hexdigest()
    return digests


def files() -> dict[str, str]:
    """File → digest in the portal's folder, but for the database's own files and the spool of refusals."""
    home = settings.CONSILIUM_HOME
    found = [path for path in sorted(home.rglob("*")) if path.is_file() and "sqlite" not in path.name]
    names = {path: path.relative_to(home) for path in found}
    return {
        str(name): hashlib.sha256(path.read_bytes()).hexdigest()
        for path, name in names.items()
        if name.parts[0] != "audit-spool"
    }


def send_all(acts: list[protected_acts.Act]) -> list[dict[str, object]]:
    answers = []
    for act in acts:
        connection.close()  # as under ASGI: a request has a connection of its own
        began = time.monotonic()
        answer = act.send()
        took = time.monotonic() - began
        answers.append({"act": act.url, "status": answer.status_code, "s": round(took, 3)})
        answer.close()
    connection.close()
    return answers


def main() -> None:
    setup_test_environment()
    # nobody signs here: after ten seconds models and evidence would be refused for that, not for a fault
    selectors.GRACE = timedelta(days=1)
    call_command("migrate", verbosity=0)
    acts = protected_acts.acts(protected_world.build())
    Client().get("/accounts/login/")
    render_to_string("503.html")  # a portal that has served before has its templates read
    connection.close()
    print(json.dumps({"acts": len(acts)}), flush=True)
    for line in sys.stdin:
        match line.strip():
            case "acts":
                answer: object = send_all(acts)
            case "snapshot":
                answer = {"tables": snapshot(), "files": files()}
                connection.close()
            case "entries":
                answer = apps.get_model("audit", "AuditEvent").objects.count()
                connection.close()
            case "fill":
                answer = fill()
        print(json.dumps(answer), flush=True)


def fill() -> int:
    """Entries until the full disk takes no more of this size: no page has room left then."""
    count = 0
    while count < 20_000:
        try:
            with transaction.atomic():
                services.record(act="kit.fetched", site="site-a")
        except DatabaseError:
            break
        count += 1
    connection.close()
    return count


if __name__ == "__main__":
    main()
