"""Errors of kits and agents. Each message is a sentence for a person and says what to do next."""


class SiteKitError(Exception):
    """Base of all errors this package raises on purpose."""


class ProvisioningError(SiteKitError):
    """A kit, certificate or server folder could not be made."""


class CertificateRequestError(SiteKitError):
    """A certificate request is malformed or asks for something that is not its own."""


class ForeignNameError(CertificateRequestError):
    """A certificate request asks for the name of another site."""


class SignatureError(SiteKitError):
    """A signed request or ticket does not verify."""


class MasterKeyError(SiteKitError):
    """The master key is missing or is not the one the secrets were sealed with."""


class AgentError(SiteKitError):
    """The site's agent cannot go on; the operator must act."""
