"""Sets the portal up on an empty machine; run again, it repairs what is missing and changes nothing else."""

import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from platform_web.accounts import services as accounts
from platform_web.accounts.models import Role
from platform_web.audit.signing import make_key
from platform_web.federation import founding
from platform_web.outbox.errors import PortalError
from site_kits.errors import SiteKitError


class Command(BaseCommand):
    help = "Make tables, roles, the federation's CA and keys, the server's files and the first administrator."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--admin", help="user name of the first administrator; password from the environment"
        )
        parser.add_argument(
            "--check-ports",
            action="store_true",
            help="refuse when a port of the portal is taken (nothing runs yet)",
        )

    def handle(self, *, admin: str | None, check_ports: bool, **options: Any) -> None:  # noqa: ARG002 Django gives more
        try:
            if check_ports:
                _refuse_taken_ports()
            call_command("migrate", interactive=False, verbosity=0)
            accounts.ensure_roles()
            federation = founding.found_federation()
            founding.write_files(federation)
            make_key()
            if admin:
                _ensure_administrator(admin)
            _forget_old_rings()
        except (PortalError, SiteKitError) as error:
            raise CommandError(str(error), returncode=2) from error
        except DatabaseError as error:
            raise CommandError(
                f"The database cannot be used: {str(error).splitlines()[0]}. Check DATABASE_URL.",
                returncode=2,
            ) from error
        except OSError as error:
            raise CommandError(
                f"{error.filename or settings.CONSILIUM_HOME} cannot be written: {error.strerror}.",
                returncode=2,
            ) from error
        self.stdout.write(f"The portal is set up in {settings.CONSILIUM_HOME}.")


def _ensure_administrator(username: str) -> None:
    if User.objects.filter(username=username).exists():
        return
    password = os.environ.get("CONSILIUM_ADMIN_PASSWORD", "")
    if not password:
        raise CommandError(
            "Set CONSILIUM_ADMIN_PASSWORD to the first administrator's password.", returncode=2
        )
    accounts.add_person(actor=None, username=username, password=password, role=Role.ADMINISTRATOR)


def _refuse_taken_ports() -> None:
    """NVFlare and the doors say little about a taken port; this says which."""
    for name, default in (("CONSILIUM_WEB_ORIGIN", 80), ("CONSILIUM_AGENTS_URL", 443)):
        _refuse_taken(name, urlsplit(getattr(settings, name)).port or default)
    _refuse_taken("CONSILIUM_FLARE_PORT", settings.CONSILIUM_FLARE_PORT)


def _refuse_taken(name: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise CommandError(
                f"Port {port} ({name}) is taken or not allowed. Stop what uses it, or set another port.",
                returncode=2,
            ) from error


def _forget_old_rings() -> None:
    """Ticks of a beat whose workers were down: each would cost a worker one look into the folder."""
    folder = settings.CELERY_BROKER_TRANSPORT_OPTIONS.get("data_folder_in")
    for message in Path(folder).glob("*.msg") if folder else ():
        message.unlink(missing_ok=True)
