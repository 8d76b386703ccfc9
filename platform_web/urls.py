"""The portal's pages, for people. Machines have a door of their own: ``platform_web.agent_urls``."""

from django.contrib import admin
from django.urls import path
from django.views.generic import RedirectView
from django.views.i18n import set_language

from platform_web.accounts import factor_views as factors
from platform_web.accounts import password_views as passwords
from platform_web.accounts import views as accounts
from platform_web.accounts.models import Role
from platform_web.accounts.scope import role_required
from platform_web.audit import downloads
from platform_web.audit import views as audit
from platform_web.clinic import views as clinic
from platform_web.federation import standing_views as standing
from platform_web.federation import views as federation
from platform_web.pages import views as pages
from platform_web.registry import evidence_views as evidence
from platform_web.registry import views as registry
from platform_web.training import views as training

may_audit = role_required(
    Role.AUDITOR, Role.ADMINISTRATOR
)  # audit stands below accounts and cannot say so itself

own_password = RedirectView.as_view(pattern_name="change_password")  # in place of the admin's own page

urlpatterns = [
    path("", pages.home, name="home"),
    path("healthz", pages.health, name="health"),
    path("language/", set_language, name="set_language"),
    path("accounts/login/", accounts.SignIn.as_view(), name="login"),
    path("accounts/logout/", accounts.SignOut.as_view(), name="logout"),
    path("accounts/second-factor/", factors.second_factor, name="second_factor"),
    path("account/", factors.account, name="account"),
    path("account/password/", passwords.change_password, name="change_password"),
    path("account/second-factor/", factors.enrol_factor, name="enrol_factor"),
    path("account/second-factor/off/", factors.remove_factor, name="remove_factor"),
    path("account/recovery-codes/", factors.renew_recovery_codes, name="renew_recovery_codes"),
    path("people/", accounts.people, name="people"),
    path("people/add/", accounts.add_person, name="add_person"),
    path("people/<int:pk>/deactivate/", accounts.deactivate_person, name="deactivate_person"),
    path("people/<int:pk>/password/", passwords.reset_password, name="reset_password"),
    path("people/<int:pk>/second-factor/reset/", factors.reset_factor, name="reset_factor"),
    path("sites/", federation.sites, name="sites"),
    path("sites/cards/", federation.site_cards, name="site_cards"),
    path("sites/status.json", federation.status, name="site_status"),
    path("sites/add/", federation.add_site, name="add_site"),
    path("sites/<slug:name>/", federation.site, name="site"),
    path("sites/<slug:name>/kit/", federation.new_kit, name="new_kit"),
    path("sites/<slug:name>/suspend/", standing.suspend, name="suspend_site"),
    path("sites/<slug:name>/resume/", standing.resume, name="resume_site"),
    path("sites/<slug:name>/revocation/", standing.request_revocation, name="request_revocation"),
    path("revocations/<int:pk>/confirm/", standing.confirm_revocation, name="confirm_revocation"),
    path("revocations/<int:pk>/withdraw/", standing.withdraw_revocation, name="withdraw_revocation"),
    path("kits/<str:token>/", federation.kit, name="kit"),
    path("studies/", training.studies, name="studies"),
    path("studies/add/", training.add_study, name="add_study"),
    path("studies/<slug:slug>/", training.study, name="study"),
    path("runs/", training.runs, name="runs"),
    path("runs/add/", training.add_run, name="add_run"),
    path("runs/<uuid:run_id>/", registry.run, name="run"),
    path("runs/<uuid:run_id>/live/", registry.run_live, name="run_live"),
    path("runs/<uuid:run_id>/data.json", registry.run_data, name="run_data"),
    path("runs/<uuid:run_id>/start-with-approved/", training.start_with_approved, name="start_with_approved"),
    path("runs/<uuid:run_id>/stop/", training.stop_run, name="stop_run"),
    path("questions/<uuid:question_id>/answer/", training.answer_question, name="answer_question"),
    path("models/", registry.models, name="models"),
    path("models/<int:pk>/evidence/", evidence.evidence, name="evidence"),
    path("evidence/<uuid:pack_id>/", evidence.download, name="download_evidence"),
    path("site-models/<int:pk>/promote/", registry.promote, name="promote"),
    path("promotions/<int:pk>/withdraw/", registry.withdraw, name="withdraw"),
    path("clinic/", clinic.clinic, name="clinic"),
    path("clinic/ticket/", clinic.ticket, name="ticket"),
    path("audit/", may_audit(audit.entries), name="audit"),
    path("audit/verify/", may_audit(audit.verify), name="verify_audit"),
    path("audit/bundle/", may_audit(downloads.bundle), name="audit_bundle"),
    path("audit/policy.txt", may_audit(downloads.policy), name="audit_policy"),
    path("audit/verifiers/<str:name>", may_audit(downloads.verifier), name="audit_verifier"),
    path("audit/<uuid:event_id>/", may_audit(audit.entry), name="audit_entry"),
    path("audit/<uuid:event_id>/entry.json", may_audit(downloads.entry_file), name="audit_entry_file"),
    path("audit/<uuid:event_id>/proof.txt", may_audit(downloads.proof), name="audit_proof"),
    path("audit/<uuid:event_id>/verify/", may_audit(audit.verify_entry), name="verify_entry"),
    path("audit/<uuid:event_id>/redaction/", may_audit(audit.request_redaction), name="request_redaction"),
    path("redactions/<int:pk>/", may_audit(audit.close_redaction), name="close_redaction"),
    path("admin/login/", pages.admin_login, name="admin_login"),
    path("admin/password_change/", admin.site.admin_view(own_password), name="admin_password"),
    path("admin/logout/", accounts.SignOut.as_view(), name="admin_logout"),
    path("admin/", admin.site.urls),
]

handler400 = "platform_web.audit.outages.bad_request"
handler500 = "platform_web.audit.outages.server_error"
