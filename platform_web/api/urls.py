"""What lies below /agent/v1/."""

from django.urls import path

from platform_web.api import agents

urlpatterns = [
    path("enrol", agents.enrol, name="agent-enrol"),
    path("renew", agents.renew, name="agent-renew"),
    path("leave", agents.leave, name="agent-leave"),
    path("heartbeat", agents.heartbeat, name="agent-heartbeat"),
    path("requests/<uuid:run_id>", agents.run_request, name="agent-request"),
    path("requests/<uuid:run_id>/decision", agents.decision, name="agent-decision"),
    path("requests/<uuid:run_id>/questions", agents.question, name="agent-question"),
    path("requests/<uuid:run_id>/answers", agents.answers, name="agent-answers"),
    path("artifacts/sha256/<str:digest>", agents.artifact, name="agent-artifact"),
]
