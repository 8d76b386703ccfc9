"""The form that starts a run. Bounds, defaults and help texts come from ``fl_jobs.catalog``."""

import secrets
from collections.abc import Iterator
from typing import Any

from django import forms
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from fl_jobs import catalog
from fl_jobs.errors import SpecError
from fl_jobs.packaging.spec import COHORT_MIN, HyperValue
from platform_web.training.analysis_fields import AnalysisFields
from platform_web.training.models import Study
from platform_web.training.privacy_fields import PrivacyFields
from platform_web.training.services import RunRequest
from platform_web.training.setting_fields import NamesField, in_words, setting_field


def fresh_seed() -> int:
    """A seed nobody has used: it is public, but must not repeat."""
    return secrets.randbelow(2**31)


class RunForm(AnalysisFields, PrivacyFields):
    """A run of one study. ``hp_*`` are the algorithm's settings, ``arg_*`` the model's.

    Settings of one name share a field where they are the same for several algorithms; where bounds, default
    or meaning differ, each algorithm has a field of its own: ``hp_pull--fedprox``.
    """

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
        self.choose_analysis(study.task_spec().labels)
        kind = study.task_spec().kind
        algorithms = [entry for entry in catalog.ALGORITHMS.values() if kind in entry.kinds]
        models = [entry for entry in catalog.MODELS.values() if kind in entry.kinds]
        self._choose("algorithm", algorithms)
        self._choose("model", models)
        self.parts: dict[str, tuple[str, str]] = {}  # field name → (select it depends on, its values)
        self.settings: dict[str, catalog.Setting] = {}  # field name → what it asks
        for entry in algorithms:
            self._add("hp_", "algorithm", entry.name, entry.hyper_parameters, kind)
        for model in models:
            self._add("arg_", "model", model.name, model.arguments, kind)
            for name in model.defaults:  # left empty, so that the model's own default counts
                field = self.fields[f"hp_{name}"]
                field.widget.attrs["placeholder"] = str(field.initial)
                field.initial = None

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
            if self.settings.get(name, setting) != setting:
                name = f"{name}--{owner}"
            if name in self.fields:  # the same setting in several algorithms
                self.parts[name] = (select, f"{self.parts[name][1]} {owner}")
                continue
            self.fields[name] = setting_field(setting, kind)
            self.parts[name] = (select, owner)
            self.settings[name] = setting

    def common_settings(self) -> Iterator[dict[str, Any]]:
        """Bound fields of the settings most runs look at, with the choice they belong to."""
        return (row for row in self._rows() if row["setting"].name not in catalog.RARELY_CHANGED)

    def advanced_settings(self) -> Iterator[dict[str, Any]]:
        """Bound fields of the others."""
        return (row for row in self._rows() if row["setting"].name in catalog.RARELY_CHANGED)

    def has_advanced_errors(self) -> bool:
        return any(row["field"].errors for row in self.advanced_settings())

    def _rows(self) -> Iterator[dict[str, Any]]:
        for name, (select, owners) in self.parts.items():
            yield {"field": self[name], "select": select, "owners": owners, "setting": self.settings[name]}

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
            self.add_error(None, in_words(error))
        self.clean_promise(values, self.study)
        self.clean_analysis(values)
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
            except SpecError as error:
                self.add_error("server_sees_updates", in_words(error))

    def _given(self, prefix: str, values: dict[str, Any], owner: str) -> dict[str, HyperValue]:
        """Settings of the chosen entry that were typed; those of the others are not looked at."""
        return {
            self.settings[name].name: values[name]
            for name, (_select, owners) in self.parts.items()
            if name.startswith(prefix) and owner in owners.split() and values.get(name) not in (None, "")
        }

    def fill(self, template: str) -> None:
        """Take the template's values for the algorithm it is offered with: ``hotline-intent--dbe``.

        Raises SpecError when there is none such for this study.
        """
        name, _dashes, algorithm = template.partition("--")
        filled = catalog.fill_template(name, algorithm)
        if catalog.TEMPLATES[name].kind != self.study.task_spec().kind:
            raise SpecError(f"The template “{name}” does not fit this study. Choose one of the list.")
        self.initial.update(algorithm=algorithm, model=filled.model, rounds=filled.rounds)
        given = {"hp_": (algorithm, filled.hyper_parameters), "arg_": (filled.model, filled.arguments)}
        for field, (_select, owners) in self.parts.items():
            owner, values = given["hp_" if field.startswith("hp_") else "arg_"]
            if owner in owners.split() and self.settings[field].name in values:
                self.initial[field] = values[self.settings[field].name]

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
            "privacy",
            "analysis",
        )
        return RunRequest(**{name: self.cleaned_data[name] for name in names})
