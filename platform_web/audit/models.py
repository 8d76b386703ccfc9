"""The audit log. Rows are only ever inserted; triggers of the database refuse everything else.

``AuditEvent`` is written with what it witnesses. The sequencer gives entries their place in a tree, a shard a
year; heads are what the signer signed, cosignatures what sites witnessed. Only bodies can be deleted.
"""

from django.conf import settings
from django.db import models
from django.db.models.functions import Length
from django.db.models.lookups import LessThanOrEqual
from django.utils.translation import gettext_lazy as _

from compliance.canonical import MAX_BYTES


class AuditEvent(models.Model):
    """One entry. ``leaf`` holds the canonical bytes that count; the other columns are derived from it.

    PostgreSQL keeps the writing transaction beside it (``xid``, by default): the sequencer's order.
    """

    number = models.BigAutoField(primary_key=True, db_column="pk")
    event_id = models.UUIDField(_("id"), unique=True, db_column="id")
    leaf = models.BinaryField(_("canonical bytes"), max_length=MAX_BYTES)
    leaf_hash = models.BinaryField(_("leaf hash"), max_length=32)
    ts = models.DateTimeField(_("time"), db_index=True)
    org = models.CharField(_("organisation"), max_length=200, blank=True)
    site = models.CharField(_("site"), max_length=63, blank=True, db_index=True)
    act = models.CharField(_("act"), max_length=64, db_index=True)
    actor = models.CharField(_("actor"), max_length=200)
    obj = models.CharField(_("object"), max_length=400, blank=True)
    job = models.CharField(_("run"), max_length=64, blank=True, db_index=True)

    class Meta:
        db_table = "audit_event"
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit entries")
        ordering = ["-number"]
        constraints = [
            models.CheckConstraint(
                condition=LessThanOrEqual(Length("leaf"), MAX_BYTES), name="audit_leaf_at_most_8192_bytes"
            )
        ]

    def __str__(self) -> str:
        return f"{self.act} {self.event_id}"


class AuditBody(models.Model):
    """Sensitive detail of an entry, encrypted. The entry holds its commitment, so this row can be deleted."""

    event_id = models.UUIDField(_("id"), primary_key=True, db_column="id")
    salt = models.BinaryField(max_length=32)
    ciphertext = models.BinaryField(_("ciphertext"))  # AES-GCM: nonce, then text and tag
    key_id = models.CharField(_("key"), max_length=64)

    class Meta:
        db_table = "audit_body"
        verbose_name = _("body of an audit entry")
        verbose_name_plural = _("bodies of audit entries")


class AuditShard(models.Model):
    """One tree: a year of the log, under an origin of its own, signed by ``key`` (a verifier key's text)."""

    year = models.PositiveSmallIntegerField(_("year"), primary_key=True)
    origin = models.CharField(_("origin"), max_length=128, unique=True)
    key = models.CharField(_("verifier key"), max_length=300)
    opened = models.DateTimeField(_("opened"))

    class Meta:
        db_table = "audit_shard"
        verbose_name = _("shard of the audit log")
        verbose_name_plural = _("shards of the audit log")
        ordering = ["year"]

    def __str__(self) -> str:
        return self.origin


class AuditSeq(models.Model):
    """The place of an entry: leaf ``idx`` of its shard, with the hash the sequencer took of its bytes."""

    pk = models.CompositePrimaryKey("shard", "idx")
    shard = models.PositiveSmallIntegerField(_("shard"))
    idx = models.BigIntegerField(_("index"))
    # no foreign key in the database: its check would lock every entry's row, and entries never go
    event = models.OneToOneField(
        AuditEvent, models.DO_NOTHING, db_column="event", db_constraint=False, related_name="seq"
    )
    leaf_hash = models.BinaryField(_("leaf hash"), max_length=32)

    class Meta:
        db_table = "audit_seq"
        verbose_name = _("place in the audit log")
        verbose_name_plural = _("places in the audit log")


class AuditTile(models.Model):
    """256 hashes that stand side by side: nodes of height 8 · ``level``, from 256 · ``n`` on. Full ones only.

    ``root`` is their node of height 8 · (level + 1): the next level's row, before its own tile is full.
    """

    pk = models.CompositePrimaryKey("shard", "level", "n")
    shard = models.PositiveSmallIntegerField(_("shard"))
    level = models.PositiveSmallIntegerField(_("level"))
    n = models.BigIntegerField(_("number"))
    hashes = models.BinaryField(_("hashes"), max_length=8192)
    root = models.BinaryField(_("root"), max_length=32)

    class Meta:
        db_table = "audit_tile"
        verbose_name = _("tile of the audit log")
        verbose_name_plural = _("tiles of the audit log")


class AuditHead(models.Model):
    """A checkpoint that the signer signed: the note of this size of this shard."""

    pk = models.CompositePrimaryKey("shard", "size")
    shard = models.PositiveSmallIntegerField(_("shard"))
    size = models.BigIntegerField(_("size"))
    note = models.TextField(_("signed checkpoint"))
    created = models.DateTimeField(_("created"), db_index=True)

    class Meta:
        db_table = "audit_head"
        verbose_name = _("tree head")
        verbose_name_plural = _("tree heads")


class AuditCosignature(models.Model):
    """A witness's line under the head of this size, and the second it was given."""

    shard = models.PositiveSmallIntegerField(_("shard"))
    size = models.BigIntegerField(_("size"))
    witness = models.CharField(_("witness"), max_length=128)
    timestamp = models.BigIntegerField(_("time"))
    line = models.CharField(_("signature line"), max_length=400)

    class Meta:
        db_table = "audit_cosignature"
        verbose_name = _("cosignature")
        verbose_name_plural = _("cosignatures")
        constraints = [
            models.UniqueConstraint(
                fields=["shard", "size", "witness", "timestamp"], name="audit_one_cosignature_a_second"
            )
        ]


class AuditWitness(models.Model):
    """What key a site witnesses with from ``since`` on: its newest row counts; an empty key retires it."""

    site = models.CharField(_("site"), max_length=63)
    key = models.CharField(_("verifier key"), max_length=300, blank=True)
    since = models.DateTimeField(_("since"))

    class Meta:
        db_table = "audit_witness"
        verbose_name = _("witness key")
        verbose_name_plural = _("witness keys")
        indexes = [models.Index(fields=["site", "-id"], name="audit_witness_newest")]


class AuditEvidence(models.Model):
    """A contradiction that somebody found: two signed checkpoints that cannot both be true."""

    class Kind(models.TextChoices):
        SPLIT = "split", _("two trees of one size")
        REWRITE = "rewrite", _("a tree that does not begin with the former one")

    kind = models.CharField(_("kind"), max_length=16, choices=Kind)
    site = models.CharField(_("found by"), max_length=63, blank=True)
    text = models.TextField(_("evidence"))
    found = models.DateTimeField(_("found"))

    class Meta:
        db_table = "audit_evidence"
        verbose_name = _("evidence of a contradiction")
        verbose_name_plural = _("evidence of contradictions")


class AuditRedaction(models.Model):
    """That somebody wants a body erased, and who agreed. Not part of the log: what was done is an entry."""

    class Basis(models.TextChoices):
        MISPLACED = "misplaced", _("it should never have been written here")
        ERASURE = "erasure", _("a person asked for it, and the time of keeping is over")
        EXPIRED = "expired", _("the time of keeping is over")

    event_id = models.UUIDField(_("entry"))
    basis = models.CharField(_("basis"), max_length=16, choices=Basis)
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    requested_at = models.DateTimeField(_("requested at"), auto_now_add=True)
    closed_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", null=True)
    confirmed_at = models.DateTimeField(_("confirmed at"), null=True)
    withdrawn_at = models.DateTimeField(_("withdrawn at"), null=True)

    class Meta:
        verbose_name = _("request for erasure")
        verbose_name_plural = _("requests for erasure")
        constraints = [
            models.UniqueConstraint(
                fields=["event_id"],
                condition=models.Q(confirmed_at=None, withdrawn_at=None),
                name="audit_one_open_redaction_per_entry",
            )
        ]

    def __str__(self) -> str:
        return f"{self.event_id} {self.basis}"


class AuditRound(models.Model):
    """How far the portal's own rounds through the stored entries have come: one row, not part of the log."""

    checked = models.DateTimeField(_("last looked"))
    year = models.PositiveSmallIntegerField(_("goes on in year"), default=0)
    start = models.BigIntegerField(_("goes on at"), default=0)
    began = models.DateTimeField(_("this round began"))
    whole_began = models.DateTimeField(_("the last whole round began"), null=True)
    whole_size = models.BigIntegerField(_("entries of the last whole round"), default=0)
    broken = models.JSONField(_("pieces that are not as they were signed"), default=dict)

    class Meta:
        verbose_name = _("round through the stored log")
        verbose_name_plural = _("rounds through the stored log")
