"""Why an NVFlare job of a run ended early: codes as the journal and our own watch say it, and in words."""

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

SERVER_DIED = "SERVER_DIED"  # said by MarkAbandoned when the server is up again
SERVER_SILENT = "SERVER_SILENT"  # the server does not answer at all
JOB_SILENT = "JOB_SILENT"  # the server answers, the job does not
JOB_UNHEARD = "JOB_UNHEARD"  # the job has never answered
JOB_UNKNOWN = "JOB_UNKNOWN"
JOB_ENDED = "JOB_ENDED"
NO_RESULT = "NO_RESULT"
NO_JOB = "NO_JOB"
REJOIN = "REJOIN"
DIFFERENCING = "E_DIFFERENCING"

DOUBTFUL = frozenset({SERVER_SILENT, JOB_SILENT, JOB_UNHEARD})  # NVFlare may still hold the job

# Of the portal itself first, then the controller's, then those of FLSA-1.
WORDS: dict[str, str | Promise] = {
    SERVER_DIED: gettext_lazy("The NVFlare server stopped in the middle of the run."),
    SERVER_SILENT: gettext_lazy("The NVFlare server does not answer."),
    JOB_SILENT: gettext_lazy("The run's job on the NVFlare server stopped answering and was ended."),
    JOB_UNHEARD: gettext_lazy("The run's job did not start within 15 minutes and was withdrawn."),
    JOB_UNKNOWN: gettext_lazy("The NVFlare server does not know the run's job any more."),
    JOB_ENDED: gettext_lazy("The run's job ended before its last step."),
    NO_RESULT: gettext_lazy("The results of the run's job could not be fetched whole."),
    NO_JOB: gettext_lazy("The job could not be handed to the NVFlare server."),
    REJOIN: gettext_lazy("A site that had been lost is back and takes part again."),
    "TOO_FEW": gettext_lazy("Too few sites were left to finish a round."),
    "E_DECODE": gettext_lazy("A site or the server sent a message that is not well formed."),
    "E_KEY_AUTH": gettext_lazy("A site's keys are not signed by a certificate of this federation."),
    "E_NOT_PINNED": gettext_lazy("A site shows a certificate that another institution has not approved."),
    "E_STALE_ADVERT": gettext_lazy("A site's keys are from an earlier job or have expired."),
    "E_DUPLICATE_KEY": gettext_lazy("Two sites show the same key."),
    "E_SELF_MISSING": gettext_lazy("The server left out or altered a site's own keys."),
    "E_COHORT_TOO_SMALL": gettext_lazy("Too few sites sent their masked update. Nothing was revealed."),
    "E_PLAN": gettext_lazy("A site refused what was to be summed."),
    "E_OVERFLOW_BUDGET": gettext_lazy(
        "The numbers would not fit the masks. Use fewer sites or smaller bounds."
    ),
    "E_WEIGHT_RANGE": gettext_lazy(
        "A site has more training cases than the run allows. Start a new run: it takes the present counts."
    ),
    "E_NONFINITE": gettext_lazy("A site's update holds values that are no numbers. Lower the learning rate."),
    "E_UNSUPPORTED_DTYPE": gettext_lazy("The model holds a kind of number that cannot be masked."),
    "E_ROUND_REPLAY": gettext_lazy("A site was asked for a round it has already taken part in."),
    "E_MODEL_REPLAY": gettext_lazy("A site was asked to train the same model twice under masks."),
    "E_STATE_ROLLBACK": gettext_lazy("A site's stored keys are older than its own signatures."),
    "E_CONTEXT_MISMATCH": gettext_lazy("The sites did not all receive the same model and plan."),
    "E_HEADER_AUTH": gettext_lazy("The head of an update is not signed by its site."),
    "E_PAIR_TAG": gettext_lazy("Two sites disagree on the key they share."),
    "E_EQUIVOCATION": gettext_lazy(
        "The server showed two different groups of survivors for one round. Report this to the federation."
    ),
    "E_NO_QUORUM": gettext_lazy("Too few sites signed the group of survivors. Nothing was revealed."),
    "E_NOT_FROZEN": gettext_lazy("The server asked for keys before the group of survivors was fixed."),
    "E_RECOVER_SCOPE": gettext_lazy("The server asked for keys outside the group of survivors."),
    "E_DROPPED": gettext_lazy("A site was left out of the sum; its update stays masked."),
    "E_BAD_BUNDLE": gettext_lazy("A site complained about key shares it received."),
    "E_BAD_SHARE": gettext_lazy("A site's key share contradicts what it had committed to."),
    "E_RECOVERY_FAILED": gettext_lazy("Too few key shares came in to finish the sum. Nothing was revealed."),
    "E_SUM_RANGE": gettext_lazy("The sum lies outside what is possible and was thrown away."),
    DIFFERENCING: gettext_lazy(
        "Going on with other sites would reveal one site's figures. The run waits for the same sites."
    ),
    "E_TIMEOUT": gettext_lazy("A step of the round took too long."),
}


def in_words(code: str) -> str:
    """The sentence of a code; empty for one that has none."""
    return str(WORDS.get(code, ""))


def given_up_waiting(sentence: str) -> str:
    """What a run says that nobody could bring back within a day."""
    return _(
        "The run waited 24 hours for its sites and was given up; its committed rounds are kept. Start it "
        "again when the sites are back. It had been interrupted because: %(reason)s"
    ) % {"reason": sentence}


def given_up_trying(jobs: int, sentence: str) -> str:
    """What a run says that made no progress in several jobs."""
    return _(
        "%(jobs)d NVFlare jobs in a row ended without a new round, so the run was given up; its committed "
        "rounds are kept. The last one ended because: %(reason)s"
    ) % {"jobs": jobs, "reason": sentence}
