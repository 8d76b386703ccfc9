"""When a site's certificate was made and when it is renewed: portal and agent count alike."""

from datetime import datetime, timedelta

from cryptography import x509

CLOCK_SKEW = timedelta(minutes=5)  # a site whose clock is behind must still accept a fresh certificate
RENEW_AT = 2 / 3


def renew_from(certificate: x509.Certificate) -> datetime:
    """The moment from which the agent asks for the next one: two thirds of its life are over."""
    issued = certificate.not_valid_before_utc + CLOCK_SKEW
    return issued + (certificate.not_valid_after_utc - issued) * RENEW_AT
