"""Forms for studies and runs. Bounds, defaults and help texts of a run come from ``fl_jobs.catalog``."""

import secrets
from collections.abc import Iterator
from typing import Any

from django import forms
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from pydantic import ValidationError

from fl_jobs import catalog
from fl_jobs.errors import SpecError
from fl_jobs.packaging.spec import COHORT_MIN, NAME_PATTERN, HyperValue, TaskSpec
from platform_web.training.models import Study
from platform_web.training.services import RunRequest
from platform_web.training.setting_fields import setting_field

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


def fresh_seed() -> int:
    """A seed nobody has used: it is public, but must not repeat."""
    return secrets.randbelow(2**31)


class NamesField(forms.Field):
    """Several names, as check boxes send them. Whether they exist is the service's to say."""

    widget = forms.CheckboxSelectMultiple

    def to_python(self, value: Any) -> list[str]:
        return [str(name) for name in value or []]


class RunForm(forms.Form):
    """A run of one study. ``hp_*`` are the algorithm's settings, ``arg_*`` the model's."""

    algorithm = forms.ChoiceField(
        label=_("Algorithm"), widget=forms.Select(attrs={"data-shows": "algorithm"})
    )
    model = forms.ChoiceField(label=_("Model"), widget=forms.Select(attrs={"data-shows": "model"}))
    rounds = forms.IntegerField(
        label=_("Rounds"),
        min_value=1,
        max_value=1000,
        initial=10,
        help_text=_("How often the sites exchange their shared part."),
    )
    min_sites = forms.IntegerField(
        label=_("Fewest sites"),
        min_value=2,
        max_value=1000,
        initial=3,
        help_text=_("With fewer sites at work a round is not committed."),
    )
    seed = forms.IntegerField(
        label=_("Seed"),
        min_value=0,
        max_value=2**31 - 1,
        initial=fresh_seed,
        help_text=_(
            "Fresh for each run. The sites refuse a seed that was used with other sites: the difference of "
            "two such runs would show one site's figures."
        ),
    )
    sites = NamesField(label=_("Sites"), error_messages={"required": _("Choose the sites that take part.")})
    server_sees_updates = forms.BooleanField(
        label=_("The server sees each site's update"),
        required=False,
        help_text=_(
            "Without secure aggregation: each site's shared part arrives readable at the server. A run of "
            "two sites is possible only this way."
        ),
    )

    def __init__(self, *args: Any, study: Study, **options: Any) -> None:
        super().__init__(*args, **options)
        self.study = study
        kind = study.task_spec().kind
        algorithms = [entry for entry in catalog.ALGORITHMS.values() if kind in entry.kinds]
        models = [entry for entry in catalog.MODELS.values() if kind in entry.kinds]
        self._choose("algorithm", algorithms)
        self._choose("model", models)
        self.parts: dict[str, tuple[str, str]] = {}  # field name → (select it depends on, its values)
        for entry in algorithms:
            self._add("hp_", "algorithm", entry.name, entry.hyper_parameters, kind)
        for model in models:
            self._add("arg_", "model", model.name, model.arguments, kind)

    def _choose(self, name: str, entries: list[Any]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101 - for the type checker
        field.choices = [(entry.name, _t(entry.title)) for entry in entries]
        field.error_messages["invalid_choice"] = _(
            "“%(value)s” does not fit this study. Choose one of the list."
        )

    def _add(
        self, prefix: str, select: str, owner: str, settings: tuple[catalog.Setting, ...], kind: str
    ) -> None:
        for setting in settings:
            name = prefix + setting.name
            if name in self.fields:  # the same setting in several algorithms
                self.parts[name] = (select, f"{self.parts[name][1]} {owner}")
                continue
            self.fields[name] = setting_field(setting, kind)
            self.parts[name] = (select, owner)

    def settings_fields(self) -> Iterator[dict[str, Any]]:
        """Bound fields of all settings with the choice they belong to, for the template."""
        for name, (select, owners) in self.parts.items():
            yield {"field": self[name], "select": select, "owners": owners}

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        self._check_masks(values)
        if self.errors:
            return values
        kind = self.study.task_spec().kind
        try:
            values["hyper_parameters"] = catalog.validate_hyper_parameters(
                values["algorithm"],
                self._given("hp_", values, values["algorithm"]),
                kind,
                values["model"],
            )
            values["model_arguments"] = catalog.validate_model(
                values["model"], self._given("arg_", values, values["model"]), kind
            )
        except SpecError as error:
            self.add_error(None, str(error))
        return values

    def _check_masks(self, values: dict[str, Any]) -> None:
        """Masks need three sites; some algorithms need masks."""
        seen = bool(values.get("server_sees_updates"))
        if not seen and 0 < len(set(values.get("sites") or ())) < COHORT_MIN:
            sentence = _t(
                "Secure aggregation needs at least %(least)d sites: with two, each could work out the "
                "other's update. Choose more sites, or tick this box."
            )
            self.add_error("server_sees_updates", sentence % {"least": COHORT_MIN})
        elif not seen and (values.get("min_sites") or COHORT_MIN) < COHORT_MIN:
            sentence = _t("With secure aggregation a round needs at least %(least)d sites.")
            self.add_error("min_sites", sentence % {"least": COHORT_MIN})
        if "algorithm" in values:
            try:
                catalog.check_masking(values["algorithm"], secure_aggregation=not seen)
            except SpecError:
                sentence = _t(
                    "“%(algorithm)s” sends personal parts inside masked sums only; without masks the server "
                    "could recover them. Leave this box unticked, or choose another algorithm."
                )
                title = _t(catalog.ALGORITHMS[values["algorithm"]].title)
                self.add_error("server_sees_updates", sentence % {"algorithm": title})

    def _given(self, prefix: str, values: dict[str, Any], owner: str) -> dict[str, HyperValue]:
        """Settings of the chosen entry that were typed; those of the others are not looked at."""
        return {
            name.removeprefix(prefix): values[name]
            for name, (_select, owners) in self.parts.items()
            if name.startswith(prefix) and owner in owners.split() and values.get(name) not in (None, "")
        }

    def request(self) -> RunRequest:
        """What a valid form asks for."""
        names = (
            "algorithm",
            "hyper_parameters",
            "model",
            "model_arguments",
            "rounds",
            "seed",
            "min_sites",
            "sites",
            "server_sees_updates",
        )
        return RunRequest(**{name: self.cleaned_data[name] for name in names})
