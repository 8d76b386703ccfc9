"""The form that opens a study."""

from typing import Any

from django import forms
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from pydantic import ValidationError

from compliance.policy import PolicyError, parse_policy
from fl_jobs.packaging.spec import NAME_PATTERN, TaskSpec

KINDS = [("tabular", _("Table (CSV)")), ("image", _("Images")), ("text", _("Texts"))]
NAME_HELP = _("Small letters, digits and hyphens.")
MAX_NAMES = 500
MAX_NAME = 200  # as an agent reports them


class NameField(forms.RegexField):
    """A short name as it stands in addresses and folders."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            regex=NAME_PATTERN,
            max_length=63,
            strip=True,
            error_messages={
                "invalid": _("Use only small letters, digits and hyphens, and no hyphen at either end.")
            },
            **options,
        )


class LinesField(forms.CharField):
    """One name per line, in order, each once."""

    widget = forms.Textarea(attrs={"rows": 5, "spellcheck": "false"})

    def clean(self, value: Any) -> tuple[str, ...]:
        lines = [line.strip() for line in super().clean(value).splitlines()]
        names = tuple(line for line in lines if line)
        if len(set(names)) != len(names):
            raise forms.ValidationError(_t("A name stands there twice. Write each one once."))
        if len(names) > MAX_NAMES:
            raise forms.ValidationError(_t("There are more than %(most)d names.") % {"most": MAX_NAMES})
        if bad := [name for name in names if len(name) > MAX_NAME or not name.isprintable()]:
            raise forms.ValidationError(
                _t("“%(name)s…” is not a name of at most %(most)d printable characters.")
                % {"name": bad[0][:20], "most": MAX_NAME}
            )
        return names


class StudyForm(forms.Form):
    title = forms.CharField(label=_("Title"), max_length=200)
    slug = NameField(
        label=_("Short name"), help_text=_("Part of addresses and model names; it cannot be changed later.")
    )
    purpose = forms.CharField(
        label=_("Purpose"),
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=_("What the models are for. Every site reads this before it takes part."),
    )
    dataset = NameField(
        label=_("Data set"), help_text=_("The name under which sites register their data for this study.")
    )
    kind = forms.ChoiceField(
        label=_("Kind of data"), choices=KINDS, widget=forms.Select(attrs={"data-shows": "kind"})
    )
    labels = LinesField(
        label=_("Labels"), help_text=_("One per line. Their order is fixed for all models of the study.")
    )
    features = LinesField(
        label=_("Features"), required=False, help_text=_("The columns of the table, one per line, in order.")
    )
    channels = forms.IntegerField(
        label=_("Colour channels"), min_value=1, max_value=3, initial=3, required=False
    )
    height = forms.IntegerField(
        label=_("Height in pixels"), min_value=8, max_value=1024, initial=64, required=False
    )
    width = forms.IntegerField(
        label=_("Width in pixels"), min_value=8, max_value=1024, initial=64, required=False
    )
    teaching = forms.BooleanField(
        label=_("Teaching study"),
        required=False,
        help_text=_("Toy or small-pixel data: every page says that its models are not for patients."),
    )

    policy = forms.CharField(
        label=_("Policy"),
        required=False,
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}),
        help_text=_("What every run of the study must keep to, as TOML; it can only tighten the sites' own."),
    )

    def clean_policy(self) -> str:
        text = str(self.cleaned_data["policy"])
        try:
            parse_policy(text.encode())
        except PolicyError as error:
            raise forms.ValidationError(str(error)) from error
        return text

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if values.get("kind") == "tabular" and "features" in values and not values["features"]:
            self.add_error("features", _t("A table needs its columns: write one feature per line."))
        if not self.errors:
            try:
                values["task"] = self._task(values)
            except ValidationError as error:
                place = error.errors(include_url=False, include_input=False)[0]
                name = str(place["loc"][0]) if place["loc"] else "labels"
                self.add_error(name if name in self.fields else None, _problem(name, place["msg"]))
        return values

    def _task(self, values: dict[str, Any]) -> TaskSpec:
        image = {name: values[name] for name in ("channels", "height", "width") if values.get(name)}
        return TaskSpec(
            kind=values["kind"],
            labels=values["labels"],
            features=values["features"] if values["kind"] == "tabular" else (),
            **(image if values["kind"] == "image" else {}),
        )


def _problem(name: str, message: str) -> str:
    if name == "labels":
        return _t("Write between 2 and 200 labels, one per line.")
    return _t("“%(name)s” is not usable: %(message)s.") % {"name": name, "message": message}
