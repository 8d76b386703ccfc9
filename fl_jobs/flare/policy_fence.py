"""The second fence at a site's exit: what ``privacy.json`` permitted when the job process started."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable

from compliance.policy import policy_from
from fl_jobs.approval import Admission
from fl_jobs.approval.job_folder import named_run
from fl_jobs.approval.refusals import note_refusal
from fl_jobs.errors import NotApprovedError, SharedStateError, SpecError
from fl_jobs.flare import wire
from fl_jobs.flare.site_filter import checked
from fl_jobs.flare.site_home import find_site_home
from fl_jobs.packaging.job import read_spec


class PolicyFence(Filter):
    """Stops every result of a run that is not listed, or that its listed policy keeps here.

    ``runs``: run id → digest of the run, digest of its policy; ``policies``: digest → policy. Written by the
    site's agent. Stands before ``SharedTensorFilter``, which reads approval and policy anew and meters.
    """

    def __init__(self, runs: Mapping[str, list[str]], policies: Mapping[str, Mapping[str, Any]]) -> None:
        """Raises PolicyError or ValueError: then NVFlare does not start the job process."""
        super().__init__()
        known = {digest: policy_from(content) for digest, content in policies.items()}
        if any(policy.digest() != digest for digest, policy in known.items()):
            raise ValueError(
                "privacy.json holds a policy under another digest than its own; restart the site."
            )
        self._runs = {run_id: (digest, known[policy]) for run_id, (digest, policy) in runs.items()}

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Return ``shareable`` itself, or a refusal in its place. Raises SharedStateError."""
        if shareable.get_return_code(ReturnCode.OK) != ReturnCode.OK:
            return shareable  # of a refusal the next filter lets out the sentence alone
        job_id = fl_ctx.get_job_id()
        if not job_id:
            raise SharedStateError("A result outside a job does not leave.")
        folder = Path(fl_ctx.get_engine().get_workspace().get_app_dir(job_id))
        try:
            admission = self._listed(folder)
        except (NotApprovedError, SpecError) as error:
            note_refusal(find_site_home(), job_id=job_id, run_id="", sentence=str(error))
            return wire.refusal(str(error))
        checked(shareable, str(fl_ctx.get_prop(FLContextKey.TASK_NAME)), admission, job_id)
        return shareable

    def _listed(self, app_folder: Path) -> Admission:
        run = named_run(app_folder)
        digest, policy = self._runs.get(run.run_id, ("", None))
        if policy is None or digest != run.run_digest:
            raise NotApprovedError(
                f"The site's privacy.json did not list run {run.run_id[:8]} when its job started, so nothing "
                "leaves. With the run's next job it does, once the site has approved it."
            )
        return Admission(run.run_id, read_spec(app_folder / "config", digest), policy)
