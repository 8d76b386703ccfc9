"""Gives the entries of the audit log their places and has its heads signed, until it is asked to end."""

import signal
from threading import Event
from typing import Any

from django.core.management.base import BaseCommand

from platform_web.audit import sequencer
from platform_web.audit.signing import signer


class Command(BaseCommand):
    help = "Sequence the audit log. A second one waits until the first has ended."

    def handle(self, **options: Any) -> None:  # noqa: ARG002 Django gives options
        stop = Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        sequencer.lead(signer(), stop)
