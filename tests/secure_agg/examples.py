"""One valid message of each type, filled with every kind of list the type has."""

from secure_agg.messages import (
    Abort,
    Advert,
    Cert,
    Freeze,
    FreezeSig,
    Header,
    Recover,
    RecoverReq,
    Result,
    Reveal,
    Roster,
    RosterAck,
    RoundStart,
    Upload,
)
from secure_agg.plan import Plan, Purpose, TensorField, Weighting, make_plan

A, B, C, D = (bytes([number]) * 32 for number in (0xA1, 0xB2, 0xC3, 0xD4))
SIGNATURE = C + D
SHARE = b"\0" + B

PLAN: Plan = make_plan(
    fields=[
        TensorField("layer.weight", "float32", (3, 5), Weighting.MEAN, 0),
        TensorField("layer.bias", "float16", (), Weighting.EACH, -4),
        TensorField("count", "int64", (2,), Weighting.SUM, 20),
    ],
    statistics=["loss", "accuracy"], purpose=Purpose.TRAIN, ring=64, weight_max=1024, colluding=1,
    cohort_min=3, site_count=4, context=A,
)  # fmt: skip


def advert(name: str) -> Advert:
    return Advert("job-7 of the lung study", 2, name, (b"own", b"root"), A, B, 2**40, 2, b"signature")


HEADER = Header(1, A, B, C, ((0, A[:16]), (2, B[:16])), SIGNATURE)
HEADERS = ((0, HEADER.encode()), (1, HEADER.encode()))
MESSAGES = (
    advert("north"),
    Roster((advert("east"), advert("north"), advert("west"))),
    RosterAck(A, True, SIGNATURE),
    RoundStart(3, (0, 1, 2, 300), PLAN.encode(), B),
    Upload(HEADER, ((0, b"bundle"), (2, b""))),
    Freeze((0, 1, 2), HEADERS, ((0, b"bundle"), (2, b"other"))),
    FreezeSig(A, (2, 3), SIGNATURE),
    Cert(((0, SIGNATURE), (1, SIGNATURE))),
    Reveal(A, B, ((3, C), (4, D)), SIGNATURE),
    RecoverReq(A, (1, 2)),
    Recover(A, ((1, (SHARE, ((3, SHARE), (4, SHARE)))), (2, (SHARE, ()))), SIGNATURE),
    Result(7, A, B, 12345, C),
    Abort(5, 9, "Two sites were lost."),
)
STRUCTS = (*MESSAGES, HEADER, PLAN)
