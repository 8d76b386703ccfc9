"""The thirteen messages of FLSA-1 in one place. Masked vectors travel beside the upload as raw bytes."""

from typing import Final

from secure_agg.framing import ECDSA_P256, ED25519, RSA_PSS_SHA256, Message, Signed, is_site_name, peek_type
from secure_agg.survivor_messages import (
    Abort,
    Cert,
    Freeze,
    FreezeSig,
    Recover,
    RecoverReq,
    Result,
    Reveal,
)
from secure_agg.upload_messages import Advert, Header, Roster, RosterAck, RoundStart, Upload

BY_TYPE: Final[dict[int, type[Message]]] = {
    kind.TYPE: kind
    for kind in (
        Advert, Roster, RosterAck, RoundStart, Upload, Freeze, FreezeSig, Cert, Reveal, RecoverReq, Recover,
        Result, Abort,
    )
}  # fmt: skip

__all__ = [
    "BY_TYPE", "ECDSA_P256", "ED25519", "RSA_PSS_SHA256", "Abort", "Advert", "Cert", "Freeze", "FreezeSig",
    "Header", "Message", "Recover", "RecoverReq", "Result", "Reveal", "Roster", "RosterAck", "RoundStart",
    "Signed", "Upload", "is_site_name", "peek_type",
]  # fmt: skip
