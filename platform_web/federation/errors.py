"""Errors of sites, kits and certificates."""

from platform_web.outbox.errors import PortalError, TransientError


class FederationError(PortalError):
    """Base of what this app refuses."""


class SiteNameError(FederationError):
    """The site's name is malformed or taken."""


class KitError(FederationError):
    """The kit link cannot be used."""


class KitLinkUnknownError(KitError):
    """No kit has this link."""


class KitLinkUsedError(KitError):
    """The link was used: a certificate was issued for it."""


class KitLinkExpiredError(KitError):
    """The link's time is over, or a newer kit replaced it."""


class PinWrongError(KitError):
    """The PIN is not the one of this link; one attempt is used up."""


class KitLockedError(KitLinkExpiredError):
    """Too many wrong PINs: the link is burnt."""


class KitNotReadyError(KitError):
    """The kit is still being built."""


class EnrolmentTokenError(FederationError):
    """The link a site enrols with is unknown, used or over."""


class TwinAgentError(FederationError):
    """Another agent with the same certificate is at work."""


class LinkUsedError(EnrolmentTokenError):
    """The link was used, by another key; said only to who has the PIN."""


class UnknownSiteError(FederationError):
    """A request comes from a site or certificate that is not known here or does not count (any more)."""

    def __init__(self, sentence: str, *, code: str = "signature") -> None:
        super().__init__(sentence)
        self.code = code


class RevocationError(FederationError):
    """The revocation cannot be asked for, confirmed or withdrawn like this."""


class AllowListError(TransientError):
    """The NVFlare server's list of certificates cannot be written now."""


class SetupError(FederationError):
    """The portal has not been set up, or not with this configuration."""


class FlareUnavailableError(TransientError):
    """The NVFlare server does not answer now."""


class FlareRefusedError(FederationError):
    """The NVFlare server answered no."""
