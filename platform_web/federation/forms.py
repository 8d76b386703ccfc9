"""The forms of an invitation: the administrator's and, behind the link, the operator's."""

from django import forms
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from platform_web.federation.models import Site


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
    contact = forms.EmailField(
        label=_("Contact at the site"),
        max_length=254,
        help_text=_("E-mail of the person who runs computers there. Only administrators see it."),
        widget=forms.EmailInput(attrs={"placeholder": "it@st-anna.example"}),
    )
    language = forms.ChoiceField(
        label=_("Language of the site"),
        choices=Site.Language.choices,
        initial=lambda: Site.Language.CHINESE if "zh" in (get_language() or "") else Site.Language.ENGLISH,
        help_text=_("The invitation's text is written in it."),
    )


class PinForm(forms.Form):
    """The PIN the administrator told by telephone; blanks in it do not matter."""

    pin = forms.CharField(
        label=_("PIN"),
        max_length=20,
        help_text=_("Eight digits. The administrator tells you by telephone."),
        widget=forms.TextInput(
            attrs={"inputmode": "numeric", "autocomplete": "off", "placeholder": "1234 5678"}
        ),
    )
