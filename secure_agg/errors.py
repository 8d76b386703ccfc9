"""What can go wrong in secure aggregation: one code per cause and the sentence its operator reads.

A sentence names the site, the round or the field, never a key, a seed, a share or a value.
"""

from typing import Self

_NOTHING_SENT = "Nothing left this site."
_NOTHING_SHOWN = "Nothing was revealed; every update stays masked."

SENTENCES: dict[str, str] = {
    "E_DECODE": "The message from {site} is malformed at {field}. It was not used. Check that {site} runs "
    "the same version of Consilium as this machine.",
    "E_KEY_AUTH": "The key that {site} presents is not signed by a certificate under your root CA: {reason}. "
    "Do not go on with this site before its operator confirms the certificate.",
    "E_NOT_PINNED": "{site} presents a certificate that your institution has not approved. Compare its "
    "fingerprint with the operator of {site} by telephone, then pin it.",
    "E_STALE_ADVERT": "The key of {site} was announced for another job or has expired: {reason}. "
    "Submit the run again; if this repeats, check the clocks of both machines.",
    "E_DUPLICATE_KEY": "{site} presents a key that {peer} presents too. Two sites cannot share a key; "
    "ask both operators to restart their site software.",
    "E_SELF_MISSING": "The server left out or changed the key of this site. This site takes no part. "
    "Tell the governance of the federation: the server misbehaved or was altered.",
    "E_COHORT_TOO_SMALL": "Only {have} sites take part and {need} are needed to hide each one's update. "
    + _NOTHING_SHOWN
    + " Bring the missing sites back, then go on with the run.",
    "E_PLAN": "The masking plan of this round is not acceptable: {reason}. " + _NOTHING_SENT + " Correct the "
    "run's settings or the site's policy, then submit the run again.",
    "E_OVERFLOW_BUDGET": "{field} needs {needed} bits in a ring of {ring}, so the sum could wrap. "
    + _NOTHING_SENT
    + " Choose a smaller clip, a smaller weight limit or the larger ring.",
    "E_WEIGHT_RANGE": "The weight of this site is not between 1 and {limit}, the limit of the plan. "
    + _NOTHING_SENT
    + " Register the data set again so that the limit fits its size.",
    "E_NONFINITE": "{field} holds a value that is not a number or is infinite. "
    + _NOTHING_SENT
    + " Training has diverged here: lower the learning rate or look at this site's data.",
    "E_UNSUPPORTED_DTYPE": "{field} has the type {dtype}, which cannot be masked. " + _NOTHING_SENT + " Use "
    "float16, float32 or float64, or int64 as a sum in the ring of 64 bits.",
    "E_ROUND_REPLAY": "The server asks for round {round} again, which this site has already used. "
    + _NOTHING_SENT
    + " A failed round needs a new number: restart the run from its last committed round.",
    "E_MODEL_REPLAY": "The server sent a model that this site has already trained and shared once. "
    + _NOTHING_SENT
    + " Restart the run from its last committed round; if this repeats, tell the governance.",
    "E_STATE_ROLLBACK": "The masking state of this site is older than what the site has signed, or belongs "
    "to another job: {reason}. It was not used. Submit the run again, which makes new keys.",
    "E_CONTEXT_MISMATCH": "{site} works with another model, plan or cohort than this site in round {round}. "
    + _NOTHING_SHOWN
    + " Tell the governance: the server sent different orders to different sites.",
    "E_HEADER_AUTH": "The header of {site} is not signed by {site}. "
    + _NOTHING_SHOWN
    + " Tell the governance: it was altered on the way.",
    "E_PAIR_TAG": "{site} and {peer} do not agree on the key between them. "
    + _NOTHING_SHOWN
    + " Submit the run again, which makes new keys; if this repeats, one of the two is altered.",
    "E_EQUIVOCATION": "The server showed this site two different lists of survivors for round {round}. "
    "This site reveals nothing. Report this to the governance of the federation.",
    "E_NO_QUORUM": "Only {have} of {need} sites confirmed the list of survivors. " + _NOTHING_SHOWN + " The "
    "run goes on with a new round once enough sites are back.",
    "E_NOT_FROZEN": "The server asked for something out of turn: {reason}. This site reveals nothing. "
    "Start the round again; if this repeats, tell the governance.",
    "E_RECOVER_SCOPE": "The server asked for shares that the list of survivors does not cover: {reason}. "
    "This site reveals nothing. Report this to the governance of the federation.",
    "E_DROPPED": "This site is not in the list of survivors of round {round}. Its update stays masked; "
    "the site takes part again from the next round.",
    "E_BAD_BUNDLE": "The encrypted shares from {site} cannot be opened here. The round goes on without them; "
    "ask the operator of {site} to check its software if this repeats.",
    "E_BAD_SHARE": "What {site} revealed contradicts what it committed to before. It was not used. "
    "The round is abandoned unless the others can make up for it; ask the operator of {site} to check it.",
    "E_RECOVERY_FAILED": "Only {have} of {need} shares of {site} arrived, so the round cannot be opened. "
    "The sum was not computed. The run goes on with a new round once enough sites are back.",
    "E_SUM_RANGE": "The sum of round {round} is outside what its plan allows: {reason}. It was discarded. "
    "A site sent a wrong masked vector; run the round again and check the sites' software.",
    "E_DIFFERENCING": "Answering would let the server compute the values of {have} sites alone, and fewer "
    "than {need} is not allowed. This site signs nothing. Bring {missing} back and repeat with the "
    "same sites.",
    "E_TIMEOUT": "The time for {stage} has run out; {missing} did not answer. The round was not completed. "
    "The run goes on with a new round once enough sites are back.",
}  # fmt: skip

# The numbers travel in ABORT messages: a code keeps its number for ever, a new one goes to the end.
CODES: dict[str, int] = {code: number for number, code in enumerate(SENTENCES, start=1)}


class _Facts(dict[str, object]):
    """A fact nobody gave is shown as "?": an error must not hide behind the error of printing it."""

    def __missing__(self, name: str) -> str:
        return "?"


class SecureAggregationError(Exception):
    """One of the codes above, with the facts its sentence names."""

    def __init__(self, code: str, /, **facts: object) -> None:
        super().__init__(code)
        self.code = code
        self.facts = facts

    def __str__(self) -> str:
        return SENTENCES.get(self.code, self.code).format_map(_Facts(self.facts))

    def about(self, **facts: object) -> Self:
        """The same error with facts that only the caller knows, such as the site a message came from."""
        return type(self)(self.code, **{**self.facts, **facts})
