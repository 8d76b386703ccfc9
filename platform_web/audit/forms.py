"""The form that finds entries."""

from datetime import UTC, datetime, time, timedelta

from django import forms
from django.utils.translation import gettext_lazy as _

from platform_web.audit.exports import Selection


class SelectionForm(forms.Form):
    """Every field may stay empty. Days are days of UTC, as the entries' times are; ``until`` is included."""

    act = forms.CharField(label=_("Act"), max_length=64, required=False)
    site = forms.CharField(label=_("Site"), max_length=63, required=False)
    job = forms.CharField(label=_("Run"), max_length=64, required=False)
    since = forms.DateField(label=_("From"), required=False)
    until = forms.DateField(label=_("To"), required=False)
    readings = forms.BooleanField(label=_("Readings of the log too"), required=False)

    def selection(self) -> Selection:
        """Of a valid form."""
        values = self.cleaned_data
        since, until = values["since"], values["until"]
        return Selection(
            act=values["act"],
            site=values["site"],
            job=values["job"],
            since=datetime.combine(since, time.min, UTC) if since else None,
            until=datetime.combine(until + timedelta(days=1), time.min, UTC) if until else None,
        )

    def shows_readings(self) -> bool:
        """Each look at the list is an entry; they would push everything else off the first page."""
        return bool(self.cleaned_data["readings"] or self.cleaned_data["act"] == "log.read")
