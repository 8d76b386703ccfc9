"""One way to turn each control off (or on), as it would happen, undone by a rollback."""

from collections.abc import Callable
from contextlib import contextmanager

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.test import override_settings
from django.utils import timezone

from compliance.note import COSIGNATURE_V1, verifier_key
from fl_jobs.packaging.spec import PrivacySpec
from platform_web.accounts.models import Role
from platform_web.audit import services as audit
from platform_web.audit import triggers, witnessing
from platform_web.audit.models import AuditEvent, AuditEvidence
from platform_web.federation import places
from platform_web.federation.models import Certificate, Federation
from platform_web.registry.models import ModelVersion, SiteModel
from platform_web.training.models import Round, RunApproval
from tests.platform_web.evidence_world import EvidenceWorld
from tests.platform_web.finished import sha

Switch = Callable[[EvidenceWorld, ModelVersion], object]
SCALED = ((0.0, 1.0),)


@contextmanager
def switched(name: str, at: EvidenceWorld, version: ModelVersion):
    """The world with one control the other way round; afterwards as before."""
    with transaction.atomic():
        savepoint = transaction.savepoint()
        undo = SWITCHES[name](at, ModelVersion.objects.get(pk=version.pk))
        try:
            yield
        finally:
            if undo is not None:
                undo()
            transaction.savepoint_rollback(savepoint)


def _unmask(at, version):
    Round.objects.filter(run=version.run).update(masking=None)
    at.respecify(version.run, secure_aggregation=False)


def _lose_a_site(at, version):
    row = Round.objects.get(run=version.run, number=2)
    row.masking["cohort"] = row.masking["cohort"][:-1]
    row.save()


def _forge_an_approval(at, version):
    rows = RunApproval.objects.filter(run=version.run).order_by("pk")
    rows.filter(pk=rows[0].pk).update(signature=rows[1].signature)


def _change_the_specification(at, version):
    run = version.run
    run.spec = run.spec | {"seed": run.spec["seed"] + 1}
    run.save(update_fields=["spec"])


def _change_an_aggregate(at, version):
    row = Round.objects.get(run=version.run, number=1)
    row.aggregate_sha256 = row.aggregate_sha256 | {"personal": sha("another")}
    row.save()


def _rewritten(path, data):
    before = path.read_bytes() if path.exists() else None
    path.write_bytes(data)
    return path.unlink if before is None else lambda: path.write_bytes(before)


def _alter_the_shared_part(at, version):
    path = places.artifact(version.shared_sha256)
    return _rewritten(path, path.read_bytes() + b"!")


def _store_a_personal_part(at, version):
    part = SiteModel.objects.filter(version=version).first()
    return _rewritten(places.artifact(part.personal_sha256), b"personal")


def _promise_privacy(at, version):
    features = len(version.run.spec["study"]["task"]["features"])
    privacy = PrivacySpec(
        unit="record", noise_multiplier=1.0, clip_norm=1.0, epsilon_max=100.0, scaling=SCALED * features
    )
    at.respecify(version.run, privacy=privacy)


def _two_roles(at, version):
    at.dana.groups.add(Group.objects.get_or_create(name=Role.CLINICIAN)[0])


def _unseal_the_key(at, version):
    Federation.objects.update(root_key_sealed=b"a key in the clear")


def _let_a_certificate_end(at, version):
    Certificate.objects.filter(site=at.sites[0]).update(replaced_at=timezone.now())


def _lose_witnesses(at, version):
    """Two sites lost the state of their witness and made new keys: too few lines of the others are left."""
    for site in at.sites[:2]:
        key = verifier_key(witnessing.witness_name(site.name), Ed25519PrivateKey.generate(), COSIGNATURE_V1)
        witnessing.register_witness(site=site.name, key_text=str(key))


def _write_without_the_signer(at, version):
    audit.record(act="run.stop_asked", actor=at.ann, run=str(version.run_id))


def _rewrite_an_entry(at, version):
    """As a DBA would, who drops the triggers and makes them again."""
    _triggers(lambda name, table: f"DROP TRIGGER {name}" + ("" if _sqlite() else f" ON {table}"))
    AuditEvent.objects.filter(job=str(version.run_id), act="run.submitted").update(site="site-b")
    with connection.cursor() as cursor:
        make = triggers._on_sqlite if _sqlite() else triggers._on_postgresql
        for statement in make("audit_event"):
            cursor.execute(statement)


def _drop_the_guards(at, version):
    _triggers(lambda name, table: f"DROP TRIGGER {name}" + ("" if _sqlite() else f" ON {table}"))


def _triggers(statement):
    with connection.cursor() as cursor:
        for name in sorted(triggers.names_of("audit_event", connection.vendor)):
            cursor.execute(statement(name, "audit_event"))


def _sqlite():
    return connection.vendor == "sqlite"


def _prove_two_histories(at, version):
    AuditEvidence.objects.create(kind="split", site="site-a", text="two checkpoints", found=timezone.now())


def _settings(**changes) -> Switch:
    def switch(at, version):
        changed = override_settings(**changes)
        changed.enable()
        return changed.disable

    return switch


SWITCHES: dict[str, Switch] = {
    "secure_aggregation": _unmask,
    "no_differencing": _lose_a_site,
    "site_approvals": _forge_an_approval,
    "specification_sealed": _change_the_specification,
    "rounds_logged": _change_an_aggregate,
    "shared_part_intact": _alter_the_shared_part,
    "personal_parts_absent": _store_a_personal_part,
    "differential_privacy": _promise_privacy,
    "second_factor": _settings(CONSILIUM_SECOND_FACTOR="optional"),
    "sign_in_bounded": _settings(AXES_ENABLED=False),
    "roles_disjoint": _two_roles,
    "ca_key_sealed": _unseal_the_key,
    "certificates_in_life": _let_a_certificate_end,
    "pages_encrypted": _settings(CONSILIUM_WEB_ORIGIN="https://portal.example", SESSION_COOKIE_SECURE=True),
    "witness_quorum": _lose_witnesses,
    "entries_proven": _write_without_the_signer,
    "entries_intact": _rewrite_an_entry,
    "one_history": _prove_two_histories,
    "log_kept": _drop_the_guards,
}
