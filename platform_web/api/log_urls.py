"""What lies below /audit/v1/."""

from django.urls import path

from platform_web.api import log

urlpatterns = [
    path("checkpoint", log.checkpoint, name="log-checkpoint"),
    path("cosignatures", log.cosignatures, name="log-cosignatures"),
    path("witnesses", log.witnesses, name="log-witnesses"),
    path("evidence", log.evidence, name="log-evidence"),
    path("overdue", log.overdue, name="log-overdue"),
    path("inclusion/<uuid:event_id>", log.inclusion, name="log-inclusion"),
    path("recount", log.recount, name="log-recount"),
    path("anchors", log.anchors, name="log-anchors"),
    path("entries", log.entries, name="log-entries"),
    path("receipts/<uuid:event_id>", log.receipt, name="log-receipt"),
]
