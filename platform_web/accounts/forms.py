"""The forms that add a person and set passwords."""

from typing import Any

from django import forms
from django.contrib import auth
from django.http import HttpRequest
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from platform_web.accounts.models import SITE_ROLES, Role
from platform_web.accounts.reasons import REASON_MAX, REASON_MIN

HANDED_OVER = _("At least eight characters, not a common word. Hand it over in person.")


class PasswordTwice(forms.Form):
    """Whether it is a good one Django's validators say, in the service."""

    password1 = forms.CharField(
        label=_("New password"),
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=_("At least eight characters, not a common word."),
    )
    password2 = forms.CharField(
        label=_("The same password again"),
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if values.get("password1") != values.get("password2"):
            self.add_error("password2", _t("The two passwords are not the same. Type them again."))
        return values


class PasswordChangeForm(PasswordTwice):
    """``current`` is asked of the sign-in's backends, where wrong ones count. Needs a person's request."""

    current = forms.CharField(
        label=_("Current password"),
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )

    def __init__(self, request: HttpRequest, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.request = request

    def clean_current(self) -> str:
        typed: str = self.cleaned_data["current"]
        if auth.authenticate(self.request, username=self.request.user.get_username(), password=typed) is None:
            raise forms.ValidationError(_t("This is not your password. Nothing was changed."))
        return typed


class PasswordResetForm(PasswordTwice):
    reason = forms.CharField(label=_("Why, in one line"), max_length=REASON_MAX, min_length=REASON_MIN)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["password1"].help_text = HANDED_OVER


class PersonForm(PasswordTwice):
    """``site`` takes a site's name; who needs one is checked here and again by the service."""

    username = forms.CharField(
        label=_("User name"), max_length=150, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    role = forms.ChoiceField(
        label=_("Role"),
        choices=Role.choices,
        widget=forms.Select(attrs={"data-shows": "role"}),
        error_messages={"invalid_choice": _("There is no role “%(value)s”. Choose one of the list.")},
    )
    site = forms.ChoiceField(
        label=_("Site"),
        required=False,
        help_text=_("Site operators and clinicians belong to exactly one site."),
        error_messages={"invalid_choice": _("There is no site called “%(value)s”. Choose one of the list.")},
    )

    def __init__(self, *args: Any, sites: list[tuple[str, str]], **options: Any) -> None:
        super().__init__(*args, **options)
        site = self.fields["site"]
        assert isinstance(site, forms.ChoiceField)  # noqa: S101 - for the type checker
        site.choices = [("", "—"), *sites]
        self.fields["password1"].label, self.fields["password1"].help_text = _("First password"), HANDED_OVER

    def clean(self) -> dict[str, Any]:
        values = super().clean()
        if values.get("role") in SITE_ROLES and not values.get("site") and "site" not in self.errors:
            self.add_error("site", _t("Choose the site this person belongs to."))
        return values
