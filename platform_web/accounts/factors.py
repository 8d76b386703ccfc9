"""Changes to second factors. Each is one transaction and its entries; a refusal is an entry too."""

import math
from dataclasses import dataclass

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from platform_web.accounts import codes
from platform_web.accounts.errors import AccountError
from platform_web.accounts.models import RecoveryCode, Role, SecondFactor
from platform_web.accounts.reasons import checked_reason
from platform_web.accounts.scope import has_role
from platform_web.accounts.sealing import seal, unseal
from platform_web.accounts.second_factor import must_have_one
from platform_web.audit import services as audit


@dataclass(frozen=True)
class Checked:
    """What became of a code. ``wait_s``: seconds until the next try; ``fresh``: codes to show once."""

    accepted: bool
    wait_s: int = 0
    fresh: tuple[str, ...] = ()


@transaction.atomic
def check_code(*, person: User, code: str) -> Checked:
    """Use up a code of the app, or a recovery code. Refused while too many wrong ones came before."""
    return _check(_locked(person), code)


@transaction.atomic
def enrol(*, person: User, secret: bytes, code: str, current: str = "") -> Checked:
    """Make ``secret`` the person's second factor, with new recovery codes.

    ``code`` shows that the app has the secret. Who has a factor already shows a code of it as ``current``.
    Raises AccountError when ``code`` is wrong.
    """
    User.objects.select_for_update().get(pk=person.pk)
    step = codes.step_of(secret, code, after=-1)
    if step is None:
        raise AccountError(
            _("This is not the code of the app. Look whether the clock of your phone is right and type the "
              "code that the app shows now.")
        )  # fmt: skip
    before = SecondFactor.objects.select_for_update().filter(user=person).first()
    if before is not None:
        shown = _check(before, current)
        if not shown.accepted:
            return shown
        before.delete()
    factor = SecondFactor.objects.create(
        user=person, secret_sealed=seal(_name(person), secret), last_step=step, enrolled=timezone.now()
    )
    fresh = _new_codes(factor)
    _record("person.factor_enrolled", person, person, {"codes": len(fresh)})
    return Checked(accepted=True, fresh=fresh)


@transaction.atomic
def remove(*, person: User, code: str) -> Checked:
    """The person signs in by password alone from now on. Raises AccountError where a factor is needed."""
    if must_have_one(person):
        raise AccountError(_("Your role needs a second factor. Move it to another phone instead."))
    factor = _locked(person)
    checked = _check(factor, code)
    if checked.accepted:
        factor.delete()
        _record("person.factor_removed", person, person)
    return checked


@transaction.atomic
def renew_codes(*, person: User, code: str) -> Checked:
    """New recovery codes; those before them no longer work."""
    factor = _locked(person)
    checked = _check(factor, code)
    if not checked.accepted:
        return checked
    fresh = _new_codes(factor)
    _record("person.recovery_codes_made", person, person, {"codes": len(fresh)})
    return Checked(accepted=True, fresh=fresh)


@transaction.atomic
def reset(*, actor: User | None, person: User, reason: str) -> None:
    """Take a lost factor off a colleague, who enrols a new one after the next password.

    ``actor`` is None at the server's console only. Raises AccountError for one's own factor, for somebody who
    has none, and for a reason shorter than 10 characters or longer than one line of 500.
    """
    if actor is not None and not has_role(actor, Role.ADMINISTRATOR):
        raise AccountError(_("Only an administrator may do this."))
    if actor is not None and actor.pk == person.pk:
        raise AccountError(_("You cannot reset your own second factor. Ask another administrator."))
    reason = checked_reason(reason)
    _locked(person).delete()
    _record("person.factor_reset", actor, person, body={"reason": reason})


def _locked(person: User) -> SecondFactor:
    """Two requests with one code come one after the other. Raises AccountError where there is no factor."""
    factor: SecondFactor | None = SecondFactor.objects.select_for_update().filter(user=person).first()
    if factor is None:
        raise AccountError(_("%(name)s has no second factor.") % {"name": person.get_username()})
    return factor


def _check(factor: SecondFactor, code: str) -> Checked:
    allowed, why = factor.verify_is_allowed()
    if not allowed:
        _record("person.factor_refused", factor.user, factor.user, out="deny")
        return Checked(
            accepted=False, wait_s=math.ceil((why["locked_until"] - timezone.now()).total_seconds())
        )
    secret = unseal(_name(factor.user), factor.secret_sealed)
    step = codes.step_of(secret, code, after=factor.last_step)
    if step is not None:
        factor.last_step = step
        factor.throttle_reset()
        _record("person.factor_accepted", factor.user, factor.user)
        return Checked(accepted=True)
    if RecoveryCode.objects.filter(factor=factor, digest=codes.recovery_digest(code)).delete()[0]:
        factor.throttle_reset()
        left = RecoveryCode.objects.filter(factor=factor).count()
        _record("person.recovery_code_used", factor.user, factor.user, {"left": left})
        return Checked(accepted=True)
    factor.throttle_increment()
    _record("person.factor_refused", factor.user, factor.user, out="deny")
    return Checked(accepted=False)


def _new_codes(factor: SecondFactor) -> tuple[str, ...]:
    RecoveryCode.objects.filter(factor=factor).delete()
    fresh = tuple(codes.new_recovery_codes())
    RecoveryCode.objects.bulk_create(
        RecoveryCode(factor=factor, digest=codes.recovery_digest(code)) for code in fresh
    )
    return fresh


def _name(person: User) -> str:
    return f"second factor of person {person.pk}"


def _record(
    act: str,
    actor: User | None,
    person: User,
    data: dict[str, int] | None = None,
    *,
    out: audit.Outcome = "ok",
    body: dict[str, str] | None = None,
) -> None:
    audit.record(
        act=act, actor=actor, obj=[("person", str(person.pk), "")], out=out, data=dict(data or {}), body=body
    )
