"""At the server's console, where the only administrator forgot the password.

Django's own ``changepassword`` stores one without an entry in the audit log.
"""

from getpass import getpass
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from platform_web.accounts import passwords
from platform_web.accounts.errors import AccountError


class Command(BaseCommand):
    help = (
        "Give a person a new password, which is asked for twice; whoever is signed in as them is signed out."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--reason", required=True, help="why, in one line; it stands in the audit log")

    def handle(self, *, username: str, reason: str, **options: Any) -> None:  # noqa: ARG002 Django gives more
        person = User.objects.filter(username=username).first()
        if person is None:
            raise CommandError(f"There is nobody called {username!r}.", returncode=2)
        try:
            password, again = getpass("New password: "), getpass("The same password again: ")
        except (EOFError, KeyboardInterrupt) as error:
            raise CommandError("No password was typed. Nothing was changed.", returncode=2) from error
        if again != password:
            raise CommandError("The two passwords are not the same. Nothing was changed.", returncode=2)
        try:
            passwords.reset(actor=None, person=person, password=password, reason=reason)
        except AccountError as error:
            raise CommandError(str(error), returncode=2) from error
        self.stdout.write(f"{username} signs in with the new password now.")
