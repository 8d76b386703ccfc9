"""Changes to sites, kits and certificates. Each public function is one transaction and one audit entry."""

from platform_web.federation.services.agents import (
    admit_agent,
    prune_nonces,
    record_heartbeat,
    use_nonce,
)
from platform_web.federation.services.certificates import (
    Enrolment,
    enrol_site,
    note_certificate_used,
    renew_certificate,
)
from platform_web.federation.services.kits import (
    Invitation,
    hand_out_kit,
    issue_kit,
    record_kit_built,
    record_kit_failed,
)
from platform_web.federation.services.pins import (
    PIN_ATTEMPTS,
    check_pin,
)
from platform_web.federation.services.revocations import (
    confirm_revocation,
    leave_site,
    request_revocation,
    withdraw_revocation,
)
from platform_web.federation.services.sites import (
    invite_site,
    record_flare_seen,
    resume_site,
    suspend_site,
)

__all__ = [
    "PIN_ATTEMPTS",
    "Enrolment",
    "Invitation",
    "admit_agent",
    "check_pin",
    "confirm_revocation",
    "enrol_site",
    "hand_out_kit",
    "invite_site",
    "issue_kit",
    "leave_site",
    "note_certificate_used",
    "prune_nonces",
    "record_flare_seen",
    "record_heartbeat",
    "record_kit_built",
    "record_kit_failed",
    "renew_certificate",
    "request_revocation",
    "resume_site",
    "suspend_site",
    "use_nonce",
    "withdraw_revocation",
]
