"""The site as a witness of the portal's log: it looks every 15 s and at each round, and signs what only grew.

A thread of its own. What it finds stands among the problems; a proof that the log contradicts itself is kept
on disk, sent to the portal, and ends the signing until the operator decides.
"""

import json
import logging
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compliance.note import NoteError, SignedNote, VerifierKey, decode_base64
from compliance.sqlite_log import LogUnavailableError
from compliance.witness import (
    ContradictionError,
    ForgottenError,
    Witness,
    WitnessError,
)
from compliance.witness_policy import PolicyTextError, WitnessPolicy
from compliance.witness_store import StateDamagedError
from fl_jobs.approval import site_log
from fl_jobs.errors import SiteLogError
from site_kits.agent import witness_files as files
from site_kits.agent.anchoring import Anchoring
from site_kits.agent.peers import grouped
from site_kits.agent.portal import PortalDoor, PortalRefusedError, PortalUnreachableError
from site_kits.agent.receipts import overdue_receipts
from site_kits.agent.recounting import portals_own_check, recount
from site_kits.agent.renewal import Credentials
from site_kits.agent.status import StatusBoard, utc_now
from site_kits.agent.witness_words import contradiction_sentence, refusal_sentence
from site_kits.errors import AgentError
from site_kits.manifest import KitManifest
from site_kits.site_home import SiteHome
from site_kits.translation import _

log = logging.getLogger("consilium.site")

INTERVAL_S = 15.0
LOOK_EVERY_S = 1.0
ALONE_S = 600.0  # how long a site may be without a quorum of the others before it is said
_PATH = "/audit/v1/"


@dataclass(frozen=True)
class Shown:
    """An answer of the portal, parsed; nothing is proven yet."""

    note: str
    growth: tuple[bytes, ...]
    policy: WitnessPolicy
    policy_text: str
    stored: Any  # what the portal says of its own check

    @classmethod
    def parse(cls, content: bytes) -> "Shown":
        """Raises AgentError."""
        try:
            answer = json.loads(content)
            note, text = str(answer["checkpoint"]), str(answer["witnesses"])
            growth = tuple(decode_base64(str(one)) for one in answer["growth"])
            return cls(note, growth, WitnessPolicy.parse(text), text, answer.get("stored"))
        except (ValueError, KeyError, TypeError, NoteError, PolicyTextError) as exc:
            raise AgentError(_("The portal's answer about its log is not of this version.")) from exc


class Witnessing(threading.Thread):
    """Looks, judges and signs. ``visit`` may also be called by hand."""

    def __init__(
        self,
        home: SiteHome,
        manifest: KitManifest,
        credentials: Credentials,
        door: PortalDoor,
        board: StatusBoard,
        stop: threading.Event,
    ) -> None:
        super().__init__(name="witness", daemon=True)
        self._home, self._manifest = home, manifest
        self._credentials, self._door, self._board = credentials, door, board
        self._stop_event = stop
        self._name = f"{manifest.federation}/{manifest.site}/witness"
        self._anchoring = Anchoring(home, manifest, door)
        self._registered = ""
        self._sent: set[str] = set()  # evidence that the portal has
        self._complained: set[str] = set()  # receipts that the portal was told it did not keep
        self._confirmed = time.monotonic()  # when a quorum last stood under what this site was shown

    def run(self) -> None:
        """Visit until stopped; whatever goes wrong is said, and the next visit comes."""
        while not self._stop_event.is_set():
            self.visit()
            self.demand()
            self.recount()
            self.anchor()
            self._wait()

    def _wait(self) -> None:
        """Until the next visit: at once when a run started here or a round's result left."""
        until = time.monotonic() + INTERVAL_S
        while time.monotonic() < until and not self._stop_event.wait(LOOK_EVERY_S):
            with suppress(LogUnavailableError):  # ``anchor`` says it
                if self._anchoring.has_new_round():
                    return

    def visit(self) -> bool:
        """One look; True when this site co-signed what it was shown."""
        try:
            sentence = self._look()
        except PortalUnreachableError:
            return False  # the heartbeat says it
        except PortalRefusedError as exc:
            if exc.status != 404:  # no checkpoint yet, or a portal without a log
                self._say(_("The portal does not take part in witnessing its log: {s}").format(s=exc))
            return False
        except AgentError as exc:
            sentence = str(exc)
        except (OSError, StateDamagedError) as exc:
            sentence = _("The witness's files cannot be used: {e}. Nothing was signed.").format(e=exc)
        self._say(sentence)
        return sentence is None

    def anchor(self) -> None:
        """Let the site's own log and the portal's hold each other, when something happened here."""
        sentence = None
        try:
            self._anchoring.anchor_if_grown(self._credentials.current.signer())
        except PortalUnreachableError:
            return
        except (AgentError, SiteLogError, LogUnavailableError) as exc:
            sentence = _("This site's own log could not be anchored at the portal: {s}").format(s=exc)
        except OSError as exc:
            sentence = _("The site's folder cannot be written: {e}. Make room on its disk.")
            sentence = sentence.format(e=exc.strerror)
        self._say(sentence, "site log")

    def demand(self) -> None:
        """Let the portal prove that it kept what it gave receipts for; loud when it is overdue."""
        sentence = None
        try:
            signer = self._credentials.current.signer()
            sentence = self._anchoring.demand_inclusion(signer)
            for receipt in overdue_receipts(self._home, time.time()):
                if receipt not in self._complained:
                    self._post("overdue", {"receipt": receipt})
                    self._complained.add(receipt)
        except PortalUnreachableError:
            return
        except AgentError as exc:
            log.warning(_("The portal did not take the complaint about its log: %s"), exc)
        except OSError as exc:
            sentence = _("The site's folder cannot be written: {e}. Make room on its disk.")
            sentence = sentence.format(e=exc.strerror)
        self._say(sentence, "receipts")

    def recount(self) -> None:
        """Have a piece of the stored log hashed again; loud when it is not what this site signed."""
        try:
            signer = self._credentials.current.signer()
            sentence = recount(self._home, self._manifest.federation, self._door, signer)
        except PortalUnreachableError:
            return
        except (AgentError, StateDamagedError):  # ``visit`` says it
            return
        except OSError as exc:
            sentence = _("The site's folder cannot be written: {e}. Make room on its disk.")
            sentence = sentence.format(e=exc.strerror)
        self._say(sentence, "stored log")

    def _look(self) -> str | None:
        """Ask, judge, sign, hand in; a sentence when something is wrong. Raises AgentError, OSError."""
        seen = files.memory(self._home, self._manifest.federation)
        if seen and seen.evidence:
            return self._contradicted(seen.evidence)
        path = f"{_PATH}checkpoint?old={seen.size if seen else 0}"
        shown = Shown.parse(self._door.ask(self._credentials.current.signer(), "GET", path))
        self._check_log(shown.policy.log)
        self._say(portals_own_check(shown.stored, time.time()), "portal's check")
        key, origin = shown.policy.log, shown.policy.log.name
        store = files.store_of(self._home, origin)
        witness = Witness(key, self._name, self._key(origin), store, time.time)
        self._register(witness)
        try:
            line = witness.sign(shown.note, shown.growth)
        except WitnessError as refusal:
            return self._refused(refusal)
        size = int(SignedNote.parse(shown.note).text.split("\n")[1])
        self._post("cosignatures", {"size": size, "line": str(line)})
        return self._note_others(shown, size)

    def _check_log(self, key: VerifierKey) -> None:
        """The log's key is learnt once. Raises AgentError for another one, or another log."""
        files.year_of(key.name, self._manifest.federation)
        known = files.known_log(self._home)
        if known is None:
            known = files.learn_log(self._home, key, utc_now())
            log.warning(
                _("This site now knows the portal's log by its key. Compare it with another site: %s"),
                grouped(known.fingerprint),
            )
        if known.public != key.public:
            sentence = _(
                "THE PORTAL SHOWS A LOG WITH ANOTHER KEY than the one this site learnt on {day} ({known}…; "
                "now {now}…). Nothing is signed. Ask the administrator why, and other sites what they see. "
                "If all agree that the log begins anew: consilium-site witness trust-again"
            )
            raise AgentError(
                sentence.format(
                    day=known.learnt_at[:10],
                    known=known.fingerprint[:16],
                    now=files.fingerprint_of(key.public)[:16],
                )
            )

    def _key(self, origin: str) -> Ed25519PrivateKey:
        """The witness's key. One whose memory is gone is retired: it may have signed anything."""
        key = files.load_key(self._home)
        has_memory = files.memory(self._home, self._manifest.federation) is not None
        if key is not None and not has_memory:
            log.warning(_("The witness's memory is gone, so its key is retired and a new one is made."))
            files.retire(self._home, forget_log=False)
            key = None
        if key is None:
            if not has_memory:  # before the key, so that a key without one has lost it
                files.begin_memory(self._home, origin)
            key = files.make_key(self._home)
        return key

    def _register(self, witness: Witness) -> None:
        key = str(witness.verifier_key)
        if self._registered != key:
            self._post("witnesses", {"key": key})
            self._registered = key

    def _refused(self, refusal: WitnessError) -> str:
        """What the operator reads. A witness that forgot gets a new key at the next visit."""
        if isinstance(refusal, ContradictionError):
            with suppress(SiteLogError):  # a full disk must not silence this
                site_log.record(self._home.root, "witness.contradicted", obj=self._manifest.federation)
            return self._contradicted(refusal.evidence)
        if isinstance(refusal, ForgottenError):
            files.retire(self._home, forget_log=False)
        return refusal_sentence(refusal)

    def _contradicted(self, evidence: str) -> str:
        """Keep the proof and give it to the portal, which shows it to everybody who signs in."""
        path = files.keep_evidence(self._home, evidence)
        if path.name not in self._sent:
            try:
                self._post("evidence", {"evidence": evidence})
                self._sent.add(path.name)
            except AgentError as exc:  # it stays here, and the next visit tries again
                log.warning(_("The portal did not take the evidence: %s"), exc)
        return contradiction_sentence(path)

    def _note_others(self, shown: Shown, size: int) -> str | None:
        """Remember who else stands under it; a sentence when the others have been missing for long."""
        try:
            signers = shown.policy.signers(SignedNote.parse(shown.note))
        except NoteError as exc:
            sentence = _("The portal shows a cosignature that is not its site's: {e} Tell the administrator.")
            return sentence.format(e=exc)
        if shown.policy.is_met_by({*signers, self._name}):
            self._confirmed = time.monotonic()
        files.keep_policy(self._home, shown.policy_text)
        before = self._board.fact("witness") or {"others": {}}
        others = {name: before["others"].get(name, {}) for name in shown.policy.witnesses}
        others |= {name: {"size": size, "at": at} for name, at in signers.items()}
        others.pop(self._name, None)
        root = SignedNote.parse(shown.note).text.split("\n")[2]
        self._board.put(witness={"size": size, "root": root, "at": utc_now(), "others": others})
        if time.monotonic() - self._confirmed > ALONE_S:
            sentence = _(
                "For {minutes} minutes too few other sites have confirmed what this site is shown of the "
                "portal's log. Either they are offline, or they are shown another log: ask one of them by "
                "phone for the size and root that “consilium-site witness” prints there."
            )
            return sentence.format(minutes=int((time.monotonic() - self._confirmed) / 60))
        return None

    def _post(self, name: str, body: dict[str, Any]) -> None:
        signer = self._credentials.current.signer()
        self._door.ask(signer, "POST", _PATH + name, json.dumps(body, ensure_ascii=False).encode())

    def _say(self, sentence: str | None, topic: str = "witness") -> None:
        if self._board.problem(topic, sentence) and sentence:
            log.warning("%s", sentence)
