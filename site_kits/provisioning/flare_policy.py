"""What server and administrators allow, as the contents of NVFlare's local/*.json. Plain data, no NVFlare.

What a site allows stands in :mod:`site_kits.fence`. ``class_allow_list`` is the whole of what a job may load
at the server: our controller, and none of the ~80 built-in classes that NVFlare's default list has. The
server's own components (launcher, MarkAbandoned, the gate) are not checked against it.
"""

from pathlib import Path
from typing import Any

from site_kits.fence import NO_RIGHT

SERVER_CLASSES = ["fl_jobs.flare.controller.ConsiliumController"]
_CERTIFICATE_GATE = {
    "id": "certificate_gate",
    "path": "fl_jobs.flare.certificate_gate.CertificateGate",
    "args": {},
}
_STORAGE = "nvflare.app_common.storages.filesystem_storage.FilesystemStorage"

# Two identities exist: ops (project_admin) and runs (lead). Neither may bring code or open a shell.
SERVER_AUTHORIZATION: dict[str, Any] = {
    "format_version": "1.0",
    "permissions": {
        "project_admin": {
            **NO_RIGHT,
            "view": "any",
            "operate": "any",
            "manage_job": "any",
            "app_command": "any",
        },
        "lead": {
            **NO_RIGHT,
            "submit_job": "any",
            "manage_job": "n:submitter",
            "download_job": "n:submitter",
            "app_command": "n:submitter",
            "view": "any",
        },
    },
}
ADMINISTRATOR_SETTINGS: dict[str, Any] = {
    "format_version": 1,
    "admin": {
        # the worker that owns the session lives for weeks; the server ends idle sessions itself
        "idle_timeout": 86_400.0,
        "login_timeout": 10.0,
        "with_debug": False,
        "authenticate_msg_timeout": 2.0,
        "prompt": "> ",
    },
}


def server_resources(folder: Path) -> dict[str, Any]:
    """Return the server's resources.json; everything it stores lies below ``folder`` (absolute)."""
    return {
        "format_version": 2,
        "class_list_enforcement_mode": "enforce",
        "class_allow_list": SERVER_CLASSES,
        "servers": [
            {
                "admin_storage": "transfer",
                "max_num_clients": 1000,
                # clients beat every 10 s; NVFlare's 600 s would leave a dead machine "online" for 11 minutes
                "heart_beat_timeout": 30,
                "download_job_url": "",
                "admin_timeout": 10.0,
            }
        ],
        "snapshot_persistor": _snapshots(folder),
        "components": [
            {
                "id": "job_scheduler",
                "path": "nvflare.app_common.job_schedulers.job_scheduler.DefaultJobScheduler",
                "args": {"max_jobs": 4},
            },
            {
                "id": "job_manager",
                "path": "nvflare.apis.impl.job_def_manager.SimpleJobDefManager",
                "args": {"uri_root": str(folder / "jobs"), "job_store_id": "job_store"},
            },
            {"id": "job_store", "path": _STORAGE},
            {
                "id": "process_launcher",
                "path": "nvflare.app_common.job_launcher.server_process_launcher.ServerProcessJobLauncher",
                "args": {},
            },
            # no log_receiver: no site sends its logs
            {"id": "mark_abandoned", "path": "fl_jobs.flare.server_parts.MarkAbandoned", "args": {}},
            _CERTIFICATE_GATE,
        ],
    }


def _snapshots(folder: Path) -> dict[str, Any]:
    storage = {"path": _STORAGE, "args": {"root_dir": str(folder / "snapshots"), "uri_root": "/"}}
    return {
        "path": "nvflare.app_common.state_persistors.storage_state_persistor.StorageStatePersistor",
        "args": {"uri_root": "/", "storage": storage},
    }
