"""Bundles that are right in every rule, and what is asked of them beyond that: quorum, completeness, age."""

from compliance.note import Signature
from tests.compliance import small_log as log
from tests.compliance.bad_bundles import GOOD, MISSING, case, last
from tests.compliance.small_log import bundle, bundle_of, checkpoint, cosigned


def good_bundles() -> dict[str, dict[str, object]]:
    whole, fresh = bundle(range(20)), cosigned(checkpoint(20), at=log.FAR_AHEAD)
    mixed = cosigned(cosigned(checkpoint(20), log.SITES[:3], log.FAR_AHEAD), log.SITES[3:4])
    mixed_enough = cosigned(cosigned(checkpoint(20), log.SITES[:4], log.FAR_AHEAD), log.SITES[4:])
    stranger = checkpoint(20).with_signatures([Signature("elsewhere/witness", b"abcd", b"?" * 72)])
    same_name = cosigned(checkpoint(20)).with_signatures([Signature(log.ORIGIN, b"abcd", b"?" * 64)])
    return {
        "ranges and heads": case(0, "three ranges, two older checkpoints, four of five witnesses", GOOD),
        "whole log": case(0, "one range covers all leaves", whole, complete=True),
        "no heads": case(0, "older checkpoints are optional", bundle(heads=[])),
        "one entry log": case(0, "the smallest tree: no proof hash at all", bundle_of(log.ENTRIES[:1])),
        "first and last": case(0, "ranges at both ends", bundle([0, 19])),
        "empty head": case(
            0, "a checkpoint of size 0 is the beginning of every log", bundle(heads=[checkpoint(0)])
        ),
        "unknown signers": case(0, "signature lines of unknown keys are skipped", last(cosigned(stranger))),
        "name of the log, other key": case(
            0, "an unknown key id under a known name is skipped", last(same_name)
        ),
        "part asked to be complete": case(3, "four of twenty entries", GOOD, complete=True),
        "stale": case(5, "co-signed in 2001", GOOD, max_age=86400),
        "fresh": case(0, "co-signed in 2096", bundle(last=fresh), max_age=86400),
        "too few fresh": case(
            5, "three fresh, one of 2001: the fresh ones are no quorum", bundle(last=mixed), max_age=9
        ),
        "enough fresh": case(0, "four fresh, one of 2001", bundle(last=mixed_enough), max_age=9),
        "nobody fresh without quorum": case(
            5, "quorum none, and nobody says when", bundle(), policy=str(log.OPEN_POLICY), max_age=9
        ),
        "quorum missing": case(2, "three of five witnesses", bundle(last=MISSING)),
        "quorum missing and part": case(
            2, "quorum comes before completeness", bundle(last=MISSING), complete=True
        ),
        "part and stale": case(3, "completeness comes before age", GOOD, complete=True, max_age=9),
    }
