"""``python -m tests.prove.certificate_trials FOLDER N``: one real NVFlare server under one portal's rows.

The portal's services run in this process, on a database and a home of their own below FOLDER; the server is a
process of its own, started from the files that the portal wrote. Prints one JSON object.
"""

import base64
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import django
import psutil
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.e2e.allowed import make_request
from tests.e2e.federation import free_port
from tests.prove.knocking import Knock, Papers, is_let_in, registers

CUT_LIMIT_S = 10.0
REASON = "trial: the key of this site was copied"


def main(folder: Path, trials: int) -> None:
    port = free_port()
    _set_up_django(folder, port)
    with _server(folder, port):
        found = Trials(folder, port).run(trials)
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    os._exit(0)  # NVFlare's threads would go on


def _set_up_django(folder: Path, port: int) -> None:
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "infra.settings.test",
        "CONSILIUM_HOME": str(folder / "portal"),
        "CONSILIUM_MASTER_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "CONSILIUM_FLARE_HOST": "localhost",
        "CONSILIUM_FLARE_PORT": str(port),
        "CONSILIUM_DOOR": "agents",
    }
    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    settings.ALLOWED_HOSTS = ["*"]
    call_command("setup_platform", stdout=sys.stderr)


@contextmanager
def _server(folder: Path, port: int) -> Iterator[None]:
    home = folder / "portal" / "flare" / "server"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HOME": str(home)}
    command = ["bash", str(home / "startup" / "sub_start.sh"), "--once"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 60
        while "Server started" not in (folder / "server.log").read_text(errors="replace"):
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError((folder / "server.log").read_text(errors="replace")[-2000:])
            time.sleep(0.1)
        yield
    finally:
        for each in [*psutil.Process(process.pid).children(recursive=True), process]:
            each.kill()
        process.wait(10)


class Trials:
    """Sites that are rows with a key of their own; each trial is a site of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        from platform_web.accounts import services as accounts
        from platform_web.accounts.models import Role
        from platform_web.federation import authority

        self._folder, self._port, self._count = folder, port, 0
        self._ann, self._bea = (
            accounts.add_person(actor=None, username=name, password=secrets.token_urlsafe(16),
                                role=Role.ADMINISTRATOR)
            for name in ("ann", "bea")
        )  # fmt: skip
        self._root = authority.the_federation().root_certificate_pem.encode()

    def run(self, trials: int) -> dict[str, Any]:
        found: dict[str, Any] = {"revoked": [self._revoke() for _ in range(trials)]}
        found["suspended"] = [self._suspend() for _ in range(max(trials // 10, 3))]
        found["expired"] = self._expire()
        found["refused"] = self._strangers(max(trials // 10, 3))
        found["registration"] = self._registrations()
        return found

    def _enrol(self, lifetime: timedelta | None = None) -> tuple[Any, Papers]:
        """A new site with its first certificate."""
        from django.conf import settings

        from platform_web.federation import services

        self._count += 1
        name = f"trial-{self._count:04d}"
        invited = services.invite_site(actor=self._ann, name=name, title=name, organisation="Trials")
        return invited.site, self._certify(invited, lifetime or settings.CONSILIUM_CERTIFICATE_LIFETIME)

    def _certify(self, invited: Any, lifetime: timedelta) -> Papers:
        from django.conf import settings

        from platform_web.federation import services

        services.record_kit_built(kit=invited.kit, zip_sha256="0" * 64)
        key, csr = make_request(invited.site.name)
        kept, settings.CONSILIUM_CERTIFICATE_LIFETIME = settings.CONSILIUM_CERTIFICATE_LIFETIME, lifetime
        answer = services.enrol_site(
            name=invited.site.name, token=invited.token, pin=invited.pin, csr_pem=csr.decode()
        )
        settings.CONSILIUM_CERTIFICATE_LIFETIME = kept
        return Papers(invited.site.name, key, answer.certificate_pem.encode(), self._root)

    def _revoke(self) -> dict[str, Any]:
        """An open stream, then the second administrator's commit."""
        from platform_web.federation import services

        site, papers = self._enrol()
        knock = Knock(self._port, papers)
        let_in, door_before = knock.is_let_in(), self._door(papers)
        asked = services.request_revocation(actor=self._ann, site=site, reason=REASON)
        began = time.time()
        services.confirm_revocation(actor=self._bea, revocation=asked)
        let_in_after = is_let_in(self._port, papers)
        cut_s = knock.cut_after(began, CUT_LIMIT_S)
        door_after = self._door(papers)
        return {
            "before": let_in and door_before == 200,
            "cut_s": cut_s,
            "let_in_after": let_in_after or is_let_in(self._port, papers),
            "door_after": door_after,
        }

    def _suspend(self) -> dict[str, Any]:
        from platform_web.federation import services

        site, papers = self._enrol()
        knock = Knock(self._port, papers)
        let_in = knock.is_let_in()
        began = time.time()
        services.suspend_site(actor=self._ann, site=site)
        cut_s = knock.cut_after(began, CUT_LIMIT_S)
        refused = not is_let_in(self._port, papers)
        services.resume_site(actor=self._ann, site=site)
        return {"before": let_in, "cut_s": cut_s, "refused": refused, "back": is_let_in(self._port, papers)}

    def _expire(self) -> dict[str, Any]:
        """A certificate of ten seconds with an open connection: when is that cut, and what comes after?"""
        _site, papers = self._enrol(timedelta(seconds=10))
        until = x509.load_pem_x509_certificate(papers.certificate).not_valid_after_utc.timestamp()
        knock = Knock(self._port, papers)
        let_in = knock.is_let_in()
        cut_s = knock.cut_after(until, 30)
        refused = not is_let_in(self._port, papers)
        return {"before": let_in, "cut_s": cut_s, "refused": refused, "door": self._door(papers)}

    def _strangers(self, times: int) -> dict[str, list[bool]]:
        """Certificates that never counted or do not any more, by kind: whether each was refused."""
        kinds = {
            "another root's": self._foreign,
            "signed by our root, never issued": self._unlisted,
            "of a former kit": self._former_kit,
            "renewed away": self._renewed_away,
        }
        return {
            name: [not is_let_in(self._port, make()) for _ in range(times)] for name, make in kinds.items()
        }

    def _foreign(self) -> Papers:
        from site_kits.provisioning import ca

        site, _papers = self._enrol()
        key, csr = make_request(site.name)
        pem = ca.sign_site_csr(*ca.create_ca("Foreign"), csr, site=site.name, organisation="Trials")
        return Papers(site.name, key, pem, self._root)

    def _unlisted(self) -> Papers:
        from platform_web.federation import authority
        from site_kits.provisioning import ca

        site, _papers = self._enrol()
        key, csr = make_request(site.name)
        root = authority.open_root(authority.the_federation())
        pem = ca.sign_site_csr(*root, csr, site=site.name, organisation="Trials")
        return Papers(site.name, key, pem, self._root)

    def _former_kit(self) -> Papers:
        from platform_web.federation import services

        site, old = self._enrol()
        again = services.issue_kit(actor=self._ann, site=site)
        new = self._certify(again, timedelta(days=1))
        assert is_let_in(self._port, new)
        return old

    def _renewed_away(self) -> Papers:
        """The site has used its renewed certificate once; the one before it is shown."""
        old, new = self._renewed()
        assert is_let_in(self._port, old)  # the overlap: the new one was not used yet
        assert is_let_in(self._port, new)
        assert self._door(new) == 200
        return old

    def _renewed(self) -> tuple[Papers, Papers]:
        """A certificate 7 of 10 seconds old and the one it was renewed by, for 90 days."""
        from platform_web.federation import services
        from platform_web.federation.models import Certificate

        site, old = self._enrol(timedelta(seconds=40))
        row = Certificate.objects.get(site=site)
        # not a wait of 27 seconds: only the portal's copy of the dates is read when it is asked to renew
        from unittest.mock import patch

        due = row.created - timedelta(seconds=1)
        with patch("platform_web.federation.services.certificates.renew_from", lambda _held: due):
            answer = services.renew_certificate(certificate=row)
        assert answer.serial != row.serial
        return old, Papers(site.name, old.key, answer.certificate_pem.encode(), self._root)

    def _registrations(self) -> dict[str, bool]:
        """NVFlare's registration: with what counts, and with the old certificate inside the new one's TLS."""
        from platform_web.federation.models import Federation

        project = Federation.objects.get().name
        _site, good = self._enrol()
        old, new = self._renewed()
        self._door(new)  # the first use replaces the old one
        ask = lambda name, shown, used: registers(self._port, self._folder / name, shown, used, project)  # noqa: E731
        return {"counts": ask("good", good, good), "old inside new TLS": ask("mixed", new, old)}

    def _door(self, papers: Papers) -> int:
        """What the agents' door answers a heartbeat signed with these papers."""
        from django.test import Client

        from site_kits.signing import serial_hex, sign_request

        body = json.dumps({"agent_version": "trial"}).encode()
        headers = sign_request(
            load_pem_private_key(papers.key, None),  # type: ignore[arg-type]
            site=papers.name,
            serial=serial_hex(x509.load_pem_x509_certificate(papers.certificate)),
            method="POST",
            path="/agent/v1/heartbeat",
            body=body,
        )
        answer = Client().post("/agent/v1/heartbeat", body, content_type="application/json", headers=headers)
        return int(answer.status_code)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
