"""The portal's only door to NVFlare's administration. Used in the flare worker alone.

One long-lived session per identity, opened lazily after the fork (gRPC and its threads do not survive one)
and opened anew once when it has ended. NVFlare is imported on first use, so that importing this module
costs the other processes nothing.
"""

import shutil
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from django.utils.translation import gettext as _

from platform_web.federation import authority, places
from platform_web.federation.errors import FlareRefusedError, FlareUnavailableError
from platform_web.federation.models import ServiceIdentity

OPS, RUNS = "ops", "runs"
JOURNAL_TOPIC = "consilium.journal"
END_TOPIC = "consilium.end_at_boundary"
LOGIN_TIMEOUT_S = 8.0
COMMAND_TIMEOUT_S = 10.0
SILENT_S = 25.0  # a client beats every 10 s; NVFlare itself forgets it after 30 s
T = TypeVar("T")


class FlareGateway:
    """NVFlare as the portal needs it. Every method raises FlareUnavailableError or FlareRefusedError."""

    def __init__(self) -> None:
        self._sessions: dict[str, Any] = {}

    def online_sites(self) -> set[str]:
        """Names of the sites registered with the server and heard of in the last 25 s."""
        info = self._call(OPS, lambda session: session.get_system_info())
        now = time.time()
        return {client.name for client in info.client_info if _is_recent(client.last_connect_time, now)}

    def submit(self, folder: Path, token: str) -> str:
        """The NVFlare job id; ``token`` makes a second try find the first one's job.

        NVFlare writes signatures into the folder it is given, so it gets a scratch copy.
        """
        scratch = Path(tempfile.mkdtemp(prefix="submit-", dir=places.private_folder(places.home() / "flare")))
        try:
            shutil.copytree(folder, scratch / folder.name)
            return str(
                self._call(
                    RUNS, lambda session: session.submit_job(str(scratch / folder.name), submit_token=token)
                )
            )
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def journal(self, job_id: str, since: int) -> tuple[list[dict[str, Any]], int]:
        """(lines, next): the journal lines of a running job from number ``since`` on.

        Raises FlareRefusedError when the job does not run (yet, or any more).
        """
        answer = self._call(
            RUNS, lambda session: session.do_app_command(job_id, JOURNAL_TOPIC, {"since": since})
        )
        lines, following = (
            (answer.get("lines"), answer.get("next")) if isinstance(answer, dict) else (None, None)
        )
        if not isinstance(lines, list) or not isinstance(following, int):
            raise FlareRefusedError(_("The run's job on the NVFlare server does not answer as ours does."))
        return lines, following

    def end_at_boundary(self, job_id: str, reason: str) -> None:
        """Ask a running job to end before its next order; asked twice it ends once.

        Raises FlareRefusedError when the job does not run or does not know this.
        """
        answer = self._call(
            RUNS, lambda session: session.do_app_command(job_id, END_TOPIC, {"reason": reason})
        )
        if not isinstance(answer, dict) or answer.get("accepted") is not True:
            raise FlareRefusedError(_("The run's job on the NVFlare server does not answer as ours does."))

    def job_status(self, job_id: str) -> str | None:
        """NVFlare's status, for example RUNNING or FINISHED:COMPLETED; None for an unknown job."""
        from nvflare.fuel.flare_api.api_spec import JobNotFound

        def ask(session: Any) -> str | None:
            try:
                status = session.get_job_status(job_id)
            except JobNotFound:
                return None
            return None if status is None else str(status)

        return self._call(RUNS, ask)

    def refused_at(self, job_id: str) -> dict[str, str]:
        """Sites whose NVFlare client refused to take the job, with the reason it gave.

        Raises FlareRefusedError for an unknown job.
        """
        meta = self._call(RUNS, lambda session: session.get_job_meta(job_id))
        detail = meta.get("job_deploy_detail") if isinstance(meta, dict) else None
        pairs = [str(line).partition(": ") for line in detail or []]
        return {
            name: reason[:500]
            for name, colon, reason in pairs
            if colon
            and name not in {"server", "invalid_clients"}
            and not reason.startswith(("OK", "no reply"))
        }

    def download(self, job_id: str, destination: Path) -> Path:
        """The folder below ``destination`` with the job's results."""
        return Path(
            self._call(RUNS, lambda session: session.download_job_result(job_id, str(destination.resolve())))
        )

    def abort(self, job_id: str) -> None:
        """End the job; one that has ended already stays as it is."""
        self._call(RUNS, lambda session: session.abort_job(job_id))

    def close(self) -> None:
        """Give the sessions back."""
        for name in list(self._sessions):
            self._forget(name)

    def _call(self, identity: str, action: Callable[[Any], T]) -> T:
        """Run ``action`` with a session; once more with a new one when the session has ended.

        A server that was restarted knows no sessions. It makes them anew for commands, but not for a job
        that is handed over (2.9 fails in LoginModule.pre_command, an internal error): seen in the kill
        campaign, where from then on every run failed at its submission.
        """
        from nvflare.fuel.flare_api.api_spec import InternalError, NoConnection, SessionClosed

        for attempt in (1, 2):
            session = self._sessions.get(identity) or self._open(identity)
            try:
                return action(session)
            except (NoConnection, SessionClosed) as error:
                self._forget(identity)
                if attempt == 2:
                    raise _unavailable() from error
            except _refusals() as error:
                if isinstance(error, InternalError) and attempt == 1:
                    self._forget(identity)
                    continue
                raise FlareRefusedError(
                    _("The NVFlare server refused: %(reason)s") % {"reason": str(error)[:500]}
                ) from error
        raise _unavailable()

    def _open(self, identity: str) -> Any:
        from nvflare.apis.fl_exception import FLCommunicationError
        from nvflare.fuel.flare_api.api_spec import AuthenticationError, NoConnection, SessionClosed
        from nvflare.fuel.flare_api.flare_api import new_secure_session

        folder = _unpack(identity)
        try:
            session = new_secure_session(
                identity, str(folder), timeout=LOGIN_TIMEOUT_S, command_timeout=COMMAND_TIMEOUT_S
            )
        except (NoConnection, SessionClosed, FLCommunicationError) as error:
            raise _unavailable() from error
        except AuthenticationError as error:
            raise FlareRefusedError(
                _("The NVFlare server does not accept the portal's identity. Run setup_platform again.")
            ) from error
        self._sessions[identity] = session
        return session

    def _forget(self, identity: str) -> None:
        session = self._sessions.pop(identity, None)
        if session is not None:
            session.close()


@cache
def gateway() -> FlareGateway:
    """The gateway of the calling process."""
    return FlareGateway()


def _unpack(name: str) -> Path:
    """The identity's folder, written anew (0700) with the key from its sealed row."""
    from site_kits.provisioning.flare_kit import write_admin_kit

    federation = authority.the_federation()
    identity = ServiceIdentity.objects.get(name=name)
    folder = places.admin_kit(name)
    places.private_folder(folder.parent)
    write_admin_kit(
        places.private_folder(folder),
        authority.facts(federation),
        name,
        authority.open_identity_key(identity),
        identity.certificate_pem.encode(),
        federation.root_certificate_pem.encode(),
    )
    return folder


def _is_recent(last_connect_time: object, now: float) -> bool:
    return not isinstance(last_connect_time, int | float) or now - last_connect_time < SILENT_S


def _refusals() -> tuple[type[Exception], ...]:
    """What NVFlare raises when it has heard us and says no."""
    from nvflare.fuel.flare_api import api_spec as spec

    return (
        spec.AuthorizationError,
        spec.CommandError,
        spec.InternalError,
        spec.InvalidArgumentError,
        spec.InvalidJobDefinition,
        spec.InvalidTarget,
        spec.JobNotDone,
        spec.JobNotFound,
        spec.JobNotRunning,
        spec.JobTimeout,
        spec.NoClientsAvailable,
        spec.NoReply,
        spec.SubmitTokenConflict,
        spec.SubmitTokenJobDeleted,
    )


def _unavailable() -> FlareUnavailableError:
    return FlareUnavailableError(_("The NVFlare server does not answer. Is it running?"))
