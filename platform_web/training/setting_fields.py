"""The form field of one setting of an algorithm or a model of ``fl_jobs.catalog``."""

from typing import Any

from django import forms
from django.utils.translation import gettext as _t

from fl_jobs import catalog
from fl_jobs.errors import SpecError


class NamesField(forms.Field):
    """Several names, as check boxes send them. Whether they exist is the service's to say."""

    widget = forms.CheckboxSelectMultiple

    def to_python(self, value: Any) -> list[str]:
        return [str(name) for name in value or []]


def in_words(error: SpecError) -> str:
    """The sentence of ``error`` in the reader's language; a title among its values too."""
    values = {name: _t(value) if isinstance(value, str) else value for name, value in error.values.items()}
    return _t(error.sentence) % values if values else _t(error.sentence)


def setting_field(setting: catalog.Setting, kind: str) -> forms.Field:
    """The field of one setting of the catalog; empty means its default."""
    if isinstance(setting, catalog.Choice):
        return forms.ChoiceField(
            label=_t(setting.title),
            required=False,
            choices=[(word, _t(title)) for word, title in setting.options.items()],
            initial=setting.default_for(kind),
            help_text=_t(setting.help),
        )
    if isinstance(setting, catalog.Digest):
        return forms.CharField(
            label=_t(setting.title), required=False, max_length=160, help_text=_t(setting.help)
        )
    whole = setting.type is int
    field_type: Any = forms.IntegerField if whole else forms.FloatField
    field: forms.Field = field_type(
        label=_t(setting.title),
        required=False,
        min_value=setting.minimum,
        max_value=setting.maximum,
        initial=setting.default_for(kind),
        help_text=f"{_t(setting.help)} {setting.minimum:g} – {setting.maximum:g}.",
        widget=forms.NumberInput(attrs={"step": "1" if whole else "any"}),
    )
    return field
