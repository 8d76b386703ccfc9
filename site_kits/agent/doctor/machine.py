"""What the machine must offer: Python and its packages, room, rights, clock, graphics card, ports."""

import os
import resource
import shutil
import tempfile
from importlib import metadata, util

import psutil
from packaging.requirements import Requirement

from site_kits.agent import preflight
from site_kits.agent.doctor.examination import NotExaminedError, Patient, WarningFoundError
from site_kits.errors import AgentError
from site_kits.ports import is_free
from site_kits.translation import _

PACKAGE = "consilium"
NEEDED_MODULES = ("nvflare", "torch", "numpy", "cryptography", "safetensors", "httpx")
MIN_MEMORY_MIB = 1024  # NVFlare's client, its job process with torch, and the predictions
MIN_OPEN_FILES = 1024
CLOCK_LIMIT_S = 120.0  # signed requests are refused beyond it


def python(_patient: Patient) -> None:
    preflight.check_python()


def packages(_patient: Patient) -> None:
    """Every needed module is there, and every installed version is one this release was made for."""
    remedy = _("Delete the folder venv and run ./start.sh again.")
    for module in NEEDED_MODULES:
        if util.find_spec(module) is None:
            sentence = _("The package {name} is not installed for this Python.").format(name=module)
            raise AgentError(f"{sentence} {remedy}")
    for requirement in map(Requirement, metadata.requires(PACKAGE) or ()):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": "site"}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            continue
        if requirement.specifier and not requirement.specifier.contains(version, prereleases=True):
            sentence = _("{name} {version} is installed; this release needs {wanted}.").format(
                name=requirement.name, version=version, wanted=requirement.specifier
            )
            raise AgentError(f"{sentence} {remedy}")


def folder_rights(patient: Patient) -> None:
    """The site's user may write where the site writes."""
    for folder in (patient.home.root, patient.home.state, patient.home.logs, patient.home.registered):
        if folder.is_dir():
            try:
                with tempfile.TemporaryFile(dir=folder):
                    pass
            except OSError as exc:
                raise AgentError(
                    _(
                        "Nothing can be written into {folder} ({reason}). Make the site's user its owner: "
                        "chown -R $(id -u) {folder}"
                    ).format(folder=folder, reason=exc.strerror)
                ) from exc


def disk(patient: Patient) -> None:
    preflight.check_disk(patient.home)


def memory(_patient: Patient) -> None:
    wished = os.environ.get("CONSILIUM_MIN_MEMORY_MB", "")
    needed = int(wished) if wished.isdigit() else MIN_MEMORY_MIB
    free = psutil.virtual_memory().available // 2**20
    if free < needed:
        sentence = _(
            "Only {free} MiB of memory are free; {needed} MiB are needed. End other programs, or give the "
            "machine more memory."
        )
        raise AgentError(sentence.format(free=free, needed=needed))


def open_files(_patient: Patient) -> None:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if 0 <= soft < MIN_OPEN_FILES:
        sentence = _(
            "This user may open only {limit} files at once; {needed} are needed. Raise it: ulimit -n "
            "{needed}, or LimitNOFILE in the service."
        )
        raise AgentError(sentence.format(limit=soft, needed=MIN_OPEN_FILES))


def graphics_card(_patient: Patient) -> None:
    """A card the machine has and torch cannot use (lost driver, container without it), or a wrong wish."""
    wished = os.environ.get("CONSILIUM_DEVICE", "").strip() or "auto"
    if wished == "cpu":
        raise NotExaminedError(_("CONSILIUM_DEVICE is cpu; training uses the processor"))
    if wished == "auto" and shutil.which("nvidia-smi") is None:
        raise NotExaminedError(_("no NVIDIA card here; training uses the processor"))
    from fl_jobs.device import CPU, site_device  # torch: two seconds, and only where a card is or is wished

    if site_device() == CPU:
        raise WarningFoundError(
            _(
                "The machine has an NVIDIA card that training cannot use. Look at nvidia-smi; after an "
                "update restart the machine; in a container start it with the card (--gpus all) and use the "
                "cgroupfs driver of Docker."
            )
        )


def prediction_port(patient: Patient) -> None:
    wished = os.environ.get("CONSILIUM_INFERENCE_PORT", "")
    if not wished:
        raise NotExaminedError(_("CONSILIUM_INFERENCE_PORT is not set; a free port is taken"))
    if patient.is_running:
        raise NotExaminedError(_("the site is running and uses it"))
    if not wished.isdigit() or not 0 < int(wished) < 65536:
        sentence = _("CONSILIUM_INFERENCE_PORT must be a port number, not {x}.").format(x=wished)
        raise AgentError(sentence)
    if not is_free(os.environ.get("CONSILIUM_INFERENCE_HOST", "127.0.0.1"), int(wished)):
        sentence = _(
            "Port {port} for predictions is taken by another program. End that one or set "
            "CONSILIUM_INFERENCE_PORT to a free port and start again."
        )
        raise AgentError(sentence.format(port=wished))


def log_size(patient: Patient) -> None:
    """Logs that grew beyond what the agent keeps: something else writes there, or its caps do not work."""
    total = sum(file.stat().st_size for file in patient.home.logs.rglob("*") if file.is_file())
    if total > 2**30:
        sentence = _("The folder {folder} has grown to {mib} MiB. Move old files away.")
        raise WarningFoundError(sentence.format(folder=patient.home.logs, mib=total >> 20))


def clock(patient: Patient) -> None:
    """Against the portal's answer, which the check of the portal asked for."""
    apart = patient.door.clock_difference_s
    if apart is None:
        raise NotExaminedError(_("the portal's answer has no time"))
    if abs(apart) > CLOCK_LIMIT_S:
        sentence = _(
            "This machine's clock is {seconds} seconds off the portal's, so its requests are refused. Set "
            "the clock, and keep it right: timedatectl set-ntp true"
        )
        raise AgentError(sentence.format(seconds=f"{apart:+.0f}"))


def folder_path(patient: Patient) -> None:
    preflight.check_path(patient.home)
