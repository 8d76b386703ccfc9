"""The list of certificates that count, kept for the NVFlare server in a file of its folder.

It is written right after the commit, by whichever process committed, and again by a worker: a revocation must
not wait for a queue, and must not depend on one process living on.
"""

import fcntl
import logging
from collections import defaultdict
from datetime import datetime

from cryptography import x509
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from fl_jobs.packaging.allow_list import ALLOW_LIST, encode_allow_list
from platform_web.federation import places
from platform_web.federation.errors import AllowListError
from platform_web.federation.models import Certificate, ServiceIdentity, Site
from platform_web.outbox import services as outbox
from site_kits.signing import serial_hex

log = logging.getLogger(__name__)


def promise() -> None:
    """Have the list written once the caller's transaction has committed. Call it inside that."""
    outbox.enqueue("federation.write_allow_list")
    transaction.on_commit(_write_now, robust=True)  # the act is done; a worker writes it again


def write() -> None:
    """Write the list as the rows stand now. Raises AllowListError: a worker tries again."""
    path = places.server_kit() / ALLOW_LIST
    try:
        places.private_folder(path.parent.parent)
        path.parent.mkdir(exist_ok=True)
        with (path.parent / ".allowed_certificates.lock").open("w") as lock:
            # the rows are read under the lock: an earlier reader must not overwrite a later revocation
            fcntl.flock(lock, fcntl.LOCK_EX)
            places.write_private(path, encode_allow_list(_counting(), _replaced()))
    except OSError as error:
        raise AllowListError(
            _("%(file)s cannot be written (%(reason)s): the NVFlare server goes by the list before.")
            % {"file": path, "reason": error.strerror}
        ) from error


def _write_now() -> None:
    try:
        write()
    except AllowListError as error:
        log.error("%s", error)  # noqa: TRY400 - the sentence says it; the worker tries again


def _counting() -> dict[str, dict[str, float]]:
    """Name to serial number to the end of validity, of sites and of the portal's own two identities."""
    allowed: dict[str, dict[str, float]] = defaultdict(dict)
    for name, serial, until in _of_sites().filter(replaced_at=None):
        allowed[name][serial] = until.timestamp()
    for identity in ServiceIdentity.objects.all():
        own = x509.load_pem_x509_certificate(identity.certificate_pem.encode())
        allowed[identity.name][serial_hex(own)] = own.not_valid_after_utc.timestamp()
    return allowed


def _replaced() -> dict[str, dict[str, float]]:
    """Those before a renewed one: what is open with them ends in a pause."""
    replaced: dict[str, dict[str, float]] = defaultdict(dict)
    for name, serial, until in _of_sites().filter(replaced_at__isnull=False):
        replaced[name][serial] = until.timestamp()
    return replaced


def _of_sites() -> QuerySet[Certificate, tuple[str, str, datetime]]:
    """Site, serial number and end of what sites hold that take part."""
    rows = Certificate.objects.filter(
        site__status=Site.Status.ENROLLED, revoked_at=None, not_after__gt=timezone.now()
    )
    return rows.values_list("site__name", "serial", "not_after")
