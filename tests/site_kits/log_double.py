"""The log's door of a portal: it serves whatever history it is given, and keeps what sites bring."""

import json
import uuid
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import parse_qs, urlsplit

from compliance.canonical import canonical_bytes
from compliance.merkle import cover, inclusion_proof, leaf_hash, range_proof, subtree_of
from compliance.note import Signature, SignedNote, VerifierKey, encode_base64, sign, verifier_key
from compliance.pieces import PIECE
from compliance.witness_policy import policy_of
from tests.compliance.logs import Log

ORIGIN = "test/audit/2026"


@dataclass
class PortalLog:
    log: Log = field(default_factory=lambda: Log(origin=ORIGIN).grown(5))
    witnesses: dict = field(default_factory=dict)
    lines: list = field(default_factory=list)  # (size, line) as sites sent them
    others: list = field(default_factory=list)  # lines of other sites below what is shown
    evidence: list = field(default_factory=list)
    anchors: list = field(default_factory=list)
    bends_proof: bool = False
    refuses: str = ""
    omits: bool = False  # gives receipts, and leaves the entries out of the log
    leaves: dict = field(default_factory=dict)  # id: (bytes, index or None)
    complaints: list = field(default_factory=list)

    def answer(self, path, body):
        name = urlsplit(path).path.rsplit("/", 1)[1]
        if self.refuses == name:
            return 503, {"detail": "not now"}
        if "/inclusion/" in path:
            return self._inclusion(name, int(parse_qs(urlsplit(path).query)["size"][0]))
        if name == "recount":
            return self._recount(*(int(parse_qs(urlsplit(path).query)[one][0]) for one in ("size", "start")))
        if name == "checkpoint":
            return self._checkpoint(int(parse_qs(urlsplit(path).query)["old"][0]))
        content = json.loads(body)
        if name == "witnesses":
            key = VerifierKey.parse(content["key"])
            self.witnesses[key.name] = key
        elif name == "cosignatures":
            self.lines.append((content["size"], Signature.parse(content["line"])))
        elif name == "evidence":
            self.evidence.append(content["evidence"])
        elif name == "anchors":
            self.anchors.append(content)
            return 201, self._receipt(content)
        elif name == "overdue":
            self.complaints.append(content["receipt"])
        return 201, {}

    def _recount(self, size, start):
        leaves = subtree_of(self.log.leaves[:size])
        end = min(start + PIECE, size)
        nodes, proof = (
            [leaves(*node) for node in cover(start, end, size)],
            range_proof(leaves, start, end, size),
        )
        answer = {"nodes": nodes, "proof": proof}
        return 200, {key: [encode_base64(one) for one in hashes] for key, hashes in answer.items()} | {
            "altered": []
        }

    def _receipt(self, content):
        name = str(uuid.uuid4())
        leaf = canonical_bytes({"act": "site.anchored", "data": {"note": content["checkpoint"]}, "id": name})
        promise = {"id": name, "leaf_hash": leaf_hash(leaf).hex(), "ts": "2026-01-01T00:00:00Z"}
        text = canonical_bytes(promise | {"index": None, "within_s": 60}).decode() + "\n"
        self.leaves[name] = leaf, None if self.omits else self.log.size
        if not self.omits:
            self.log.leaves.append(leaf_hash(leaf))
        return str(sign(text, self.log.origin, self.log.key)).encode()

    def _inclusion(self, name, size):
        leaf, index = self.leaves.get(name, (b"", None))
        if index is None or index >= size:
            return 404, {"detail": "there is no such entry"}
        proof = inclusion_proof(subtree_of(self.log.leaves), index, size)
        hashes = [encode_base64(one) for one in proof]
        return 200, {"index": index, "proof": hashes, "entry": encode_base64(leaf)}

    def _checkpoint(self, old):
        proof = self.log.proof(old) if old < self.log.size else []
        if self.bends_proof:
            proof = [bytes(32) for _ in proof]
        key = verifier_key(self.log.origin, self.log.key)
        note = SignedNote.parse(self.log.note()).with_signatures(self.others)
        return 200, {
            "checkpoint": str(note),
            "consistency": [],
            "growth": [encode_base64(one) for one in proof],
            "witnesses": str(policy_of(key, MappingProxyType(self.witnesses))),
        }
