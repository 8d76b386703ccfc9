"""The site as a witness: its key, its memory, and whether the portal's log ever contradicted itself."""

import time

from site_kits.agent import witness_files as files
from site_kits.agent.doctor.examination import NotExaminedError, Patient
from site_kits.agent.receipts import overdue
from site_kits.agent.recounting import altered
from site_kits.agent.witness_words import contradiction_sentence
from site_kits.errors import AgentError
from site_kits.site_home import read_state
from site_kits.translation import _


def key(patient: Patient) -> None:
    """Readable by this user alone, and with the memory that belongs to it."""
    if files.load_key(patient.home) is None:
        raise NotExaminedError(_("nothing witnessed yet"))
    path = patient.home.witness / "key.pem"
    if path.stat().st_mode & 0o077:
        sentence = _("Others on this machine can read the witness's key. Close it: chmod 600 {path}")
        raise AgentError(sentence.format(path=path))
    files.memory(patient.home, patient.manifest.federation)


def log(patient: Patient) -> None:
    """Nothing that convicts the portal's log lies here, and it kept all that this site knows of."""
    if evidence := files.evidence_files(patient.home):
        raise AgentError(contradiction_sentence(evidence[-1]))
    if sentence := overdue(patient.home, time.time()) or altered(patient.home):
        raise AgentError(sentence)
    if sentence := read_state(patient.home.status_json).get("problems", {}).get("portal's check"):
        raise AgentError(sentence)
