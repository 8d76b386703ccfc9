"""Changes to people. Each public function is one transaction and one audit entry."""

from django.contrib.auth.models import Group, User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from platform_web.accounts.errors import AccountError
from platform_web.accounts.models import SITE_ROLES, Membership, Role
from platform_web.audit import services as audit


def ensure_roles() -> None:
    """The five groups exist."""
    for role in Role:
        Group.objects.get_or_create(name=role.value)


def add_person(
    *, actor: User | None, username: str, password: str, role: str, site_id: int | None = None
) -> User:
    """Add somebody with one role. ``actor`` is None only for the first administrator, at set-up.

    Operators and clinicians need ``site_id`` (a Site's primary key); nobody else may have one. Raises
    AccountError with a sentence for a bad or taken name, a weak password, an unknown role or a missing site.
    """
    if role not in Role.values:
        raise AccountError(_("Choose one of the roles: %(roles)s.") % {"roles": ", ".join(Role.values)})
    if (site_id is not None) != (Role(role) in SITE_ROLES):
        raise AccountError(
            _("Site operators and clinicians belong to one site; people with another role belong to none.")
        )
    user = User(username=username, is_staff=role == Role.ADMINISTRATOR)
    try:
        user.full_clean(exclude=["password"])
        validate_password(password, user)
    except ValidationError as error:
        raise AccountError(" ".join(error.messages)) from error
    user.set_password(password)  # before the transaction: the hash takes its time, SQLite has one lock
    _add(actor, user, role, site_id)
    return user


@transaction.atomic
def _add(actor: User | None, user: User, role: str, site_id: int | None) -> None:
    if User.objects.filter(username=user.username).exists():  # added meanwhile
        raise AccountError(_("A user with that username already exists."))
    user.save()
    user.groups.add(Group.objects.get_or_create(name=role)[0])
    if site_id is not None:
        _join(user, site_id)
    audit.record(act="person.added", actor=actor, obj=[("person", str(user.pk), "")], data={"role": role})


def _join(user: User, site_id: int) -> None:
    membership = Membership(user=user, site_id=site_id)
    try:
        membership.full_clean()  # the site's model stands above this app; the foreign key is asked instead
    except ValidationError as error:
        raise AccountError(_("There is no such site.")) from error
    membership.save()


@transaction.atomic
def deactivate_person(*, actor: User, person: User) -> None:
    """The person can no longer sign in. Raises AccountError for oneself: somebody must stay."""
    if person.pk == actor.pk:
        raise AccountError(_("You cannot deactivate yourself. Ask another administrator."))
    if not User.objects.filter(pk=person.pk, is_active=True).update(is_active=False):
        return
    audit.record(act="person.deactivated", actor=actor, obj=[("person", str(person.pk), "")])


@transaction.atomic
def record_sign_in(*, user: User) -> None:
    """Somebody signed in; called by the sign-in page."""
    audit.record(act="person.signed_in", actor=user)


@transaction.atomic
def record_sign_out(*, user: User) -> None:
    """Somebody signed out; called by the sign-out door."""
    audit.record(act="person.signed_out", actor=user)


@transaction.atomic
def record_sign_in_refused(*, username: str) -> None:
    """Somebody was refused; the name typed is kept as a pseudonym only (people type passwords there)."""
    audit.record(
        act="person.sign_in_refused",
        actor_type="system",
        out="deny",
        data={"subject": audit.pseudonym("username", username)},
    )
