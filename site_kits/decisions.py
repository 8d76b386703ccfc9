"""A site's decision on a run as the portal gets it: a canonical statement, signed with the site's key."""

import base64
from typing import Annotated, Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from fl_jobs.approval.records import Moment
from fl_jobs.packaging.spec import NAME_PATTERN, canonical_json
from site_kits.errors import SignatureError
from site_kits.signing import sign_bytes, verify_bytes
from site_kits.translation import _

CONTEXT: Final = "consilium-decision-v1"
MAX_STATEMENT_BYTES: Final = 16_384
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
NoNul = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=2000)]


class DecisionStatement(BaseModel):
    """What the signature binds. Who clicked stays at the site; ``by`` says whether a person or a rule did."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    context: Literal["consilium-decision-v1"] = CONTEXT
    site: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
    run_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f-]{36}$")]
    run_digest: Digest
    approve: bool
    by: Literal["rule", "person"]
    reason: NoNul = ""
    rules: Annotated[tuple[NoNul, ...], Field(max_length=20)] = ()
    policy_digest: Digest
    decided_at: Moment

    def text(self) -> str:
        """The signed text."""
        return canonical_json(self.model_dump(mode="json")).decode()


def sign_decision(key: rsa.RSAPrivateKey, statement: DecisionStatement) -> dict[str, str]:
    """The body of ``POST /agent/v1/requests/<run>/decision``."""
    text = statement.text()
    return {"statement": text, "signature": base64.b64encode(sign_bytes(key, text.encode())).decode()}


def verify_decision(certificate: x509.Certificate, statement: str, signature: str) -> DecisionStatement:
    """``statement`` read, and proven to be of the holder of ``certificate``. Raises SignatureError."""
    try:
        raw = base64.b64decode(signature[:1024], validate=True)
        said = DecisionStatement.model_validate_json(statement[: MAX_STATEMENT_BYTES + 1])
        canonical = said.text()
    except (ValueError, ValidationError) as error:
        raise SignatureError(
            _("The decision is not one of this version. Update the site's software.")
        ) from error
    if canonical != statement:
        raise SignatureError(_("The decision is not in canonical form. Update the site's software."))
    verify_bytes(certificate, statement.encode(), raw)
    return said
