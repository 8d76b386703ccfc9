"""The site's own gate: NVFlare runs it (privacy.json) on every result of every job before it leaves."""

from pathlib import Path

from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply

from fl_jobs.errors import SharedStateError
from fl_jobs.flare import wire
from fl_jobs.flare.outgoing import check_masked, check_message, check_outgoing
from fl_jobs.flare.site_home import find_site_home, shares_site_metrics
from fl_jobs.packaging.job import read_spec
from fl_jobs.packaging.spec import RunSpec


class SharedTensorFilter(Filter):
    """Lets out what the run specification on this site's disk declares, and nothing else.

    In a masked run that is a masked vector of exactly the declared length; a tensor in the clear stays here.

    An exception here makes NVFlare send an error reply in place of the result. What passes is built anew,
    so neither an undeclared key nor a header of the executor's making leaves with it.
    """

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Return what may leave. Raises SharedStateError or SpecError when the result must stay."""
        code = shareable.get_return_code(ReturnCode.OK)
        if code != ReturnCode.OK:
            return _only_the_refusal(shareable, str(code))
        task, passed = str(fl_ctx.get_prop(FLContextKey.TASK_NAME)), Shareable()
        if task.startswith(wire.PROTOCOL_PREFIX):
            passed[wire.FLSA_KEY] = wire.read_message(shareable)
            check_message(passed[wire.FLSA_KEY], task)
            return passed
        text, share = wire.read_text(shareable), shares_site_metrics(find_site_home())
        spec = _approved_spec(fl_ctx, str(text.get("run")))
        passed[wire.TEXT_KEY] = shareable[wire.TEXT_KEY]
        if spec.policy.secure_aggregation:
            passed[wire.FLSA_KEY] = wire.read_message(shareable)
            passed[wire.VECTOR_KEY] = wire.read_vector(shareable)
            check_message(passed[wire.FLSA_KEY], task)
            check_masked(text, passed[wire.VECTOR_KEY].size, spec, task, share_site_metrics=share)
        else:
            passed[wire.TENSORS_KEY] = wire.read_tensors(shareable)
            check_outgoing(text, passed[wire.TENSORS_KEY], spec, task, share_site_metrics=share)
        return passed


def _approved_spec(fl_ctx: FLContext, run_digest: str) -> RunSpec:
    job_id = fl_ctx.get_job_id()
    if not job_id:
        raise SharedStateError("A result outside a job does not leave.")
    folder = fl_ctx.get_engine().get_workspace().get_app_config_dir(job_id)
    return read_spec(Path(folder), run_digest)


def _only_the_refusal(shareable: Shareable, code: str) -> Shareable:
    reply = make_reply(code)
    sentence = shareable.get(wire.ERROR_KEY)
    if isinstance(sentence, str):
        reply[wire.ERROR_KEY] = sentence[: wire.SENTENCE_CHARACTERS_MAX]
        reply[wire.CODE_KEY] = wire.refusal_code(shareable)
    return reply
