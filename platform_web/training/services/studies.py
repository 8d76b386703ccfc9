"""Opening a study."""

from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _
from pydantic import ValidationError

from compliance.policy import PolicyError, parse_policy
from fl_jobs.packaging.spec import StudySpec, TaskSpec
from platform_web.audit import services as audit
from platform_web.training.errors import StudyError
from platform_web.training.models import Study

RESERVED_SLUGS = frozenset({"add"})  # stands below /studies/ itself


@transaction.atomic
def open_study(
    *,
    actor: User,
    slug: str,
    title: str,
    purpose: str,
    dataset: str,
    task: TaskSpec,
    teaching: bool,
    policy: str = "",
) -> Study:
    """Open a study. Raises StudyError when the name is taken or a part of the description is not usable.

    ``policy`` is TOML; it can only tighten what the sites permit.
    """
    _check(policy, slug=slug, purpose=purpose, dataset=dataset, task=task, teaching=teaching)
    study = Study(
        slug=slug,
        title=title,
        purpose=purpose,
        dataset=dataset,
        task=task.model_dump(mode="json"),
        teaching=teaching,
        policy=policy,
        created_by=actor,
    )
    try:
        with transaction.atomic():
            study.save(force_insert=True)
    except IntegrityError as error:
        raise StudyError(
            _("There is already a study with the short name “%(slug)s”. Choose another one.") % {"slug": slug}
        ) from error
    audit.record(
        act="study.opened",
        actor=actor,
        obj=[("study", slug, "")],
        data={"dataset": dataset, "kind": task.kind, "labels": len(task.labels), "teaching": teaching},
    )
    return study


def _check(policy: str, **description: Any) -> None:
    """Raise StudyError with the place of what cannot be used."""
    if description["slug"] in RESERVED_SLUGS:
        raise StudyError(
            _("“%(slug)s” is a page of the portal itself. Choose another short name.")
            % {"slug": description["slug"]}
        )
    try:
        StudySpec(**description)
        parse_policy(policy.encode())
    except ValidationError as error:
        place = error.errors(include_url=False, include_input=False)[0]
        raise StudyError(
            _("The study cannot be opened: “%(field)s” is not usable (%(problem)s).")
            % {"field": ".".join(map(str, place["loc"])), "problem": place["msg"]}
        ) from error
    except PolicyError as error:
        raise StudyError(str(error)) from error
