"""What lies below /agent/v1/."""

from django.urls import path

from platform_web.api import agents

urlpatterns = [
    path("enrol", agents.enrol, name="agent-enrol"),
    path("heartbeat", agents.heartbeat, name="agent-heartbeat"),
    path("requests/<uuid:run_id>", agents.run_request, name="agent-request"),
    path("requests/<uuid:run_id>/decision", agents.decision, name="agent-decision"),
    path("artifacts/sha256/<str:digest>", agents.artifact, name="agent-artifact"),
]
