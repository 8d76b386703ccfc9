"""What a witness keeps at its site: its key, the log it knows, its memory, and evidence.

Below ``state/witness/``: ``key.pem`` (0600), ``log.json``, ``YEAR.json``, ``policy.txt``, ``evidence-*.txt``.
"""

import hashlib
import re
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compliance.note import ED25519, SignedNote, VerifierKey, verify
from compliance.witness import WitnessState
from compliance.witness_store import FileWitnessStore, StateDamagedError
from fl_jobs.tensor_files import write_bytes
from site_kits.errors import AgentError
from site_kits.site_home import SiteHome, read_state, write_state
from site_kits.translation import _

_YEAR = re.compile(r"\d{4}")


@dataclass(frozen=True)
class KnownLog:
    """The portal's log as this site learnt it: one key for the trees of all years."""

    name: str  # the origin without its year
    public: bytes
    learnt_at: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the public key, in hex."""
        return fingerprint_of(self.public)


def fingerprint_of(public: bytes) -> str:
    """How two operators compare a key by phone."""
    return hashlib.sha256(public).hexdigest()


def year_of(origin: str, federation: str) -> str:
    """The year of an origin of the portal's log. Raises AgentError for an origin of another log."""
    name, _slash, year = origin.rpartition("/")
    if name != f"{federation}/audit" or not _YEAR.fullmatch(year):
        sentence = _("The portal shows a log named {origin}, which is not this federation's.")
        raise AgentError(sentence.format(origin=origin))
    return year


def store_of(home: SiteHome, origin: str) -> FileWitnessStore:
    """The memory of one year's tree."""
    return FileWitnessStore(home.witness / f"{origin.rpartition('/')[2]}.json", origin)


def memory(home: SiteHome, federation: str) -> WitnessState | None:
    """What was signed last, of the newest year; None before the first time. Raises AgentError if damaged."""
    years = sorted(path.stem for path in home.witness.glob("*.json") if _YEAR.fullmatch(path.stem))
    if not years:
        return None
    try:
        return store_of(home, f"{federation}/audit/{years[-1]}").read()
    except StateDamagedError as exc:
        raise AgentError(_damaged(home)) from exc


def begin_memory(home: SiteHome, origin: str) -> None:
    """The empty memory, on disk."""
    store_of(home, origin).replace(WitnessState(origin), WitnessState(origin))


def keep_policy(home: SiteHome, text: str) -> None:
    """The witnesses as the portal names them, for ``verify.py --policy``; written when they change."""
    path = home.witness / "policy.txt"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_bytes(path, text.encode())


def _damaged(home: SiteHome) -> str:
    sentence = _(
        "The witness's memory in {folder} is damaged, so this site signs nothing. Run: consilium-site "
        "witness new-key"
    )
    return sentence.format(folder=home.witness)


def known_log(home: SiteHome) -> KnownLog | None:
    """The log as learnt at the first contact; None before."""
    known = read_state(home.witness / "log.json")
    try:
        return KnownLog(str(known["name"]), bytes.fromhex(known["public"]), str(known["learnt_at"]))
    except (KeyError, ValueError, TypeError):
        return None


def learn_log(home: SiteHome, key: VerifierKey, at: str) -> KnownLog:
    """Write down, for good, which key the portal's log has."""
    known = KnownLog(key.name.rpartition("/")[0], key.public, at)
    facts = {"name": known.name, "public": known.public.hex(), "learnt_at": at}
    write_state(home.witness / "log.json", facts)
    return known


def load_key(home: SiteHome) -> Ed25519PrivateKey | None:
    """The witness's key; None when there is none. Raises AgentError for one that cannot be read."""
    return _read_key(home.witness / "key.pem")


def make_key(home: SiteHome) -> Ed25519PrivateKey:
    """A fresh key of the witness, on disk, readable by this user alone."""
    return _write_key(home.witness / "key.pem")


def load_or_make_key(path: Path) -> Ed25519PrivateKey:
    """The key in ``path``, made when there is none. Raises AgentError for one that cannot be read."""
    return _read_key(path) or _write_key(path)


def is_signed_by(note: SignedNote, known: KnownLog) -> bool:
    """Whether a line of one of the known log's trees fits. Raises NoteError when one does not."""
    for line in note.signatures:
        key = VerifierKey(line.name, ED25519, known.public)
        if line.name.rpartition("/")[0] == known.name and line.key_id == key.key_id:
            verify(note.text, line, key)
            return True
    return False


def _read_key(path: Path) -> Ed25519PrivateKey | None:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, OSError) as exc:
        sentence = _("The key {path} cannot be read. If it is the witness's: consilium-site witness new-key")
        raise AgentError(sentence.format(path=path)) from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise AgentError(_("The key {path} is of another kind.").format(path=path))
    return key


def _write_key(path: Path) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_bytes(path, pem, mode=0o600)
    return key


def retire(home: SiteHome, *, forget_log: bool) -> Path:
    """Put key and memory aside: what this key signed stays true, and it signs nothing more.

    With ``forget_log`` the log's key and evidence go aside too, so that the site learns the log anew.
    """
    aside = home.witness / f"retired-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    aside.mkdir(parents=True, exist_ok=True)
    stays = () if forget_log else ("log.json", "policy.txt", "evidence-")
    names = [path.name for path in home.witness.iterdir() if path.is_file()]
    # the key first: a memory without a key is harmless, a key without its memory is not
    for name in sorted(names, key=lambda one: one != "key.pem"):
        if not name.startswith((*stays, ".")):
            (home.witness / name).replace(aside / name)
    return aside


def keep_evidence(home: SiteHome, evidence: str) -> Path:
    """Write evidence under the name of its digest, durably."""
    data = evidence.encode()
    path = home.witness / f"evidence-{hashlib.sha256(data).hexdigest()[:16]}.txt"
    if not path.exists():
        write_bytes(path, data)
    return path


def evidence_files(home: SiteHome) -> list[Path]:
    """What proves that the portal's log contradicted itself; oldest first."""
    return sorted(home.witness.glob("evidence-*.txt"), key=lambda path: path.stat().st_mtime)
