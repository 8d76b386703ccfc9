"""The form that adds a person."""

from typing import Any

from django import forms
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from platform_web.accounts.models import SITE_ROLES, Role


class PersonForm(forms.Form):
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
    password1 = forms.CharField(
        label=_("First password"),
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=_("At least eight characters, not a common word. Hand it over in person."),
    )
    password2 = forms.CharField(
        label=_("The same password again"),
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def __init__(self, *args: Any, sites: list[tuple[str, str]], **options: Any) -> None:
        super().__init__(*args, **options)
        site = self.fields["site"]
        assert isinstance(site, forms.ChoiceField)  # noqa: S101 - for the type checker
        site.choices = [("", "—"), *sites]

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if values.get("password1") != values.get("password2"):
            self.add_error("password2", _t("The two passwords are not the same. Type them again."))
        if values.get("role") in SITE_ROLES and not values.get("site") and "site" not in self.errors:
            self.add_error("site", _t("Choose the site this person belongs to."))
        return values
