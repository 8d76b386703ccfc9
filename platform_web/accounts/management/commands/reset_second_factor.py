"""At the server's console, where the only administrator lost both the phone and the recovery codes."""

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from platform_web.accounts import factors
from platform_web.accounts.errors import AccountError


class Command(BaseCommand):
    help = "Take the second factor off a person; they enrol a new one after the next password."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--reason", required=True, help="why, in one line; it stands in the audit log")

    def handle(self, *, username: str, reason: str, **options: Any) -> None:  # noqa: ARG002 Django gives more
        try:
            factors.reset(actor=None, person=User.objects.get(username=username), reason=reason)
        except User.DoesNotExist as error:
            raise CommandError(f"There is nobody called {username!r}.", returncode=2) from error
        except AccountError as error:
            raise CommandError(str(error), returncode=2) from error
        self.stdout.write(f"{username} enrols a new second factor after the next password.")
