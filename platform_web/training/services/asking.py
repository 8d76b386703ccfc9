"""A site asks before it decides, somebody answers. The request stays open meanwhile: asking is no refusal."""

from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction
from django.utils.timezone import now
from django.utils.translation import gettext as _

from platform_web.audit import services as audit
from platform_web.federation.models import Site
from platform_web.training.errors import QuestionError, RunStateError
from platform_web.training.models import Run, RunApproval, RunQuestion
from platform_web.training.services.runs import lock_run
from site_kits.talk import MAX_ANSWER, MAX_QUESTION, MOST_QUESTIONS, plain_text


@transaction.atomic
def record_question(*, site: Site, run_id: str, run_digest: str, question_id: UUID, text: str) -> RunQuestion:
    """Keep what ``site`` wants to know before it decides; the same id again changes nothing.

    Raises RunStateError when the site was not asked about the run, names another digest, or the run has
    ended; QuestionError for a text that is empty or too long, too many questions, or a foreign id.
    """
    run = Run.objects.select_for_update().filter(pk=run_id).first()
    if run is None or not RunApproval.objects.filter(run=run, site=site).exists():
        raise RunStateError(_("This site was not asked about this run. Nothing was changed."))
    said = _checked(text, MAX_QUESTION)
    known = RunQuestion.objects.filter(pk=question_id).first()
    if known is not None:
        if known.site_id == site.pk and known.run_id == run.pk and known.text in {"", said}:
            return known
        raise QuestionError(_("The id of this question is taken. Ask it again."))
    if run_digest != run.run_digest:
        raise RunStateError(_("The question is about another digest than the run's. Ask it again."))
    if run.is_final:
        raise RunStateError(_("The run has ended; the question was not taken."))
    if RunQuestion.objects.filter(run=run, site=site).count() >= MOST_QUESTIONS:
        raise QuestionError(
            _("A site may ask at most %(most)d questions about a run. Decide, or call them.")
            % {"most": MOST_QUESTIONS}
        )
    entry = audit.record(
        act="question.asked",
        actor_type="site",
        site=site.name,
        run=str(run.pk),
        obj=[("question", str(question_id), ""), ("run_spec", str(run.pk), run.run_digest)],
        body={"text": said},
    )
    return RunQuestion.objects.create(id=question_id, run=run, site=site, asked_entry=entry.event_id)


@transaction.atomic
def record_answer(*, question_id: str, actor: User, text: str) -> RunQuestion:
    """Answer a site's question, once; the site fetches it with its next heartbeat.

    Raises RunStateError when the run has ended or the question was answered already, QuestionError for a text
    that is empty or too long.
    """
    question = RunQuestion.objects.select_related("site").get(pk=question_id)
    run = lock_run(str(question.run_id))
    question.refresh_from_db(fields=["answered", "answered_entry"])
    said = _checked(text, MAX_ANSWER)
    if question.answered is not None:
        raise RunStateError(_("This question was answered already. The site may ask another one."))
    if run.is_final:
        raise RunStateError(_("The run has ended, so the answer changes nothing any more. It was not kept."))
    entry = audit.record(
        act="question.answered",
        actor=actor,
        site=question.site.name,
        run=str(run.pk),
        obj=[("question", str(question.pk), ""), ("run_spec", str(run.pk), run.run_digest)],
        body={"text": said},
    )
    question.answered, question.answered_by, question.answered_entry = now(), actor, entry.event_id
    question.save(update_fields=["answered", "answered_by", "answered_entry"])
    return question


def _checked(text: str, most: int) -> str:
    said = plain_text(text)
    if not said:
        raise QuestionError(_("There is no text. Write it and send it again."))
    if len(said) > most:
        raise QuestionError(
            _("The text is longer than %(most)d characters. Shorten it; nothing was sent.") % {"most": most}
        )
    return said
