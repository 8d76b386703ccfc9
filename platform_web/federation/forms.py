"""The form that adds a site."""

from django import forms
from django.utils.translation import gettext_lazy as _


class SiteForm(forms.Form):
    """What may be a name is the service's to say; here stand only the widths."""

    name = forms.CharField(
        label=_("Short name"),
        max_length=63,
        help_text=_(
            "Small letters, digits and hyphens; it stands in the site's certificate and cannot change."
        ),
        widget=forms.TextInput(
            attrs={"placeholder": "st-anna", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )
    title = forms.CharField(
        label=_("Title"), max_length=200, widget=forms.TextInput(attrs={"placeholder": "St Anna Hospital"})
    )
    organisation = forms.CharField(
        label=_("Organisation"), max_length=64, help_text=_("The legal body that owns the data.")
    )
    zone = forms.CharField(
        label=_("Zone"),
        max_length=64,
        required=False,
        help_text=_("Country, province or network it belongs to."),
    )
