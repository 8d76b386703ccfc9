"""The agents' door: for machines only, nothing else is served there."""

from django.urls import include, path

urlpatterns = [
    path("agent/v1/", include("platform_web.api.urls")),
    path("audit/v1/", include("platform_web.api.log_urls")),
]

handler400 = "platform_web.api.problems.bad_request"
handler403 = "platform_web.api.problems.forbidden"
handler404 = "platform_web.api.problems.not_found"
handler500 = "platform_web.api.problems.server_error"
