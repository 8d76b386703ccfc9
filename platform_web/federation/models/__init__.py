"""Sites and what they hold: kits, certificates, data sets; and the federation's own identities."""

from platform_web.federation.models.credentials import Certificate, Kit, Revocation
from platform_web.federation.models.own import Federation, ServiceIdentity, TicketKey
from platform_web.federation.models.sites import AgentNonce, Dataset, Site

__all__ = [
    "AgentNonce",
    "Certificate",
    "Dataset",
    "Federation",
    "Kit",
    "Revocation",
    "ServiceIdentity",
    "Site",
    "TicketKey",
]
