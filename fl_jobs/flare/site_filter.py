"""The site's own gate: NVFlare runs it (privacy.json) on every result of every job before it leaves."""

from pathlib import Path

from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply

from compliance.policy import within
from fl_jobs.approval import Admission, admit, site_log
from fl_jobs.approval.egress import NAMES_KEPT, EgressLine, append_line
from fl_jobs.approval.records import now
from fl_jobs.approval.refusals import note_refusal
from fl_jobs.errors import NotApprovedError, SharedStateError, SiteHomeError, SiteLogError
from fl_jobs.flare import wire
from fl_jobs.flare.footprint import payload_bytes
from fl_jobs.flare.outgoing import check_masked, check_message, check_outgoing
from fl_jobs.flare.site_home import find_site_home
from fl_jobs.packaging.spec import RunSpec


class SharedTensorFilter(Filter):
    """Lets out what the run this site approved declares, as long as it is approved, and nothing else.

    In a masked run that is a masked vector of exactly the declared length; a tensor in the clear stays here.

    An exception here makes NVFlare send an error reply in place of the result. What passes is built anew,
    so neither an undeclared key nor a header of the executor's making leaves with it; it is written into
    the egress meter first.
    """

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Return what may leave. Raises SharedStateError when the result must stay."""
        code = shareable.get_return_code(ReturnCode.OK)
        if code != ReturnCode.OK:
            return _only_the_refusal(shareable, str(code))
        job_id, home = fl_ctx.get_job_id(), find_site_home()
        if not job_id:
            raise SharedStateError("A result outside a job does not leave.")
        try:
            admission = admit(home, Path(fl_ctx.get_engine().get_workspace().get_app_dir(job_id)))
        except (NotApprovedError, SiteHomeError) as error:
            note_refusal(home, job_id=job_id, run_id="", sentence=str(error))
            return wire.refusal(str(error))
        passed, line = checked(shareable, str(fl_ctx.get_prop(FLContextKey.TASK_NAME)), admission, job_id)
        append_line(home, line)
        try:
            _log(home, line)
        except SiteLogError as error:
            note_refusal(home, job_id=job_id, run_id=admission.run_id, sentence=str(error))
            return wire.refusal(str(error))
        return passed


def _log(home: Path, line: EgressLine) -> None:
    site_log.record(
        home,
        "update.sent",
        run=line.run_id,
        rnd=line.round,
        obj=line.job,
        task=line.task,
        sha256=line.sha256,
        number_bytes=line.number_bytes,
        masked=line.masked,
    )


def checked(
    shareable: Shareable, task: str, admission: Admission, job_id: str
) -> tuple[Shareable, EgressLine]:
    """What of a result may leave, built anew, and its line in the meter. Raises SharedStateError."""
    spec, share = admission.spec, admission.policy.output.share_site_metrics
    passed, text, names, number_bytes = Shareable(), {}, [], 0
    if task.startswith(wire.PROTOCOL_PREFIX):
        passed[wire.FLSA_KEY] = wire.read_message(shareable)
        check_message(passed[wire.FLSA_KEY], task)
    else:
        text = wire.read_text(shareable)
        if text.get("run") != spec.digest():
            raise SharedStateError("The result is of another run than the one that this site approved.")
        passed[wire.TEXT_KEY] = shareable[wire.TEXT_KEY]
        if spec.policy.secure_aggregation:
            passed[wire.FLSA_KEY] = wire.read_message(shareable)
            passed[wire.VECTOR_KEY] = vector = wire.read_vector(shareable)
            check_message(passed[wire.FLSA_KEY], task)
            check_masked(text, vector.size, spec, task, share_site_metrics=share)
            names, number_bytes = _summed(spec, task), int(vector.size)
        else:
            passed[wire.TENSORS_KEY] = tensors = wire.read_tensors(shareable)
            check_outgoing(text, tensors, spec, task, share_site_metrics=share)
            names, number_bytes = sorted(tensors), payload_bytes(tensors)
    if not within(number_bytes, admission.policy.output.max_answer_bytes):
        raise SharedStateError("The result holds more bytes than this site's policy lets out at once.")
    return passed, EgressLine(
        at=now(),
        run_id=admission.run_id,
        job=job_id,
        task=task[:64],
        round=int(text.get("round", 0)),
        tensors=tuple(names[:NAMES_KEPT]),
        tensor_count=len(names),
        masked=spec.policy.secure_aggregation,
        number_bytes=number_bytes,
        sha256=wire.numbers_sha256(passed),
        message_bytes=len(passed.get(wire.FLSA_KEY, b"")),
        text_bytes=len(str(passed.get(wire.TEXT_KEY, "")).encode()),
    )


def _summed(spec: RunSpec, task: str) -> list[str]:
    """The tensors under the masks: those of training, or of the one-off phases."""
    if task == "train":
        return sorted(spec.shared())
    return sorted(t.wire_name for t in spec.tensors if task == "phase" and t.phase != "train")


def _only_the_refusal(shareable: Shareable, code: str) -> Shareable:
    reply = make_reply(code)
    sentence = shareable.get(wire.ERROR_KEY)
    if isinstance(sentence, str):
        reply[wire.ERROR_KEY] = sentence[: wire.SENTENCE_CHARACTERS_MAX]
        reply[wire.CODE_KEY] = wire.refusal_code(shareable)
    return reply
