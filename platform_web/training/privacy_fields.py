"""What a data scientist asks for in differential privacy; shown only where it can be promised."""

from collections.abc import Iterator
from typing import Any

from django import forms
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from pydantic import ValidationError

from fl_jobs.catalog import ALGORITHMS
from fl_jobs.errors import SpecError
from fl_jobs.packaging.spec import ModelSpec, PolicySpec, PrivacySpec, RunSpec, StudySpec
from fl_jobs.privacy.rules import check_privacy, units_of
from platform_web.training.models import Study
from platform_web.training.setting_fields import in_words

NUMBERS = ("noise", "clip", "rate", "delta", "epsilon", "scaling")


def _number(label: Any, initial: float, least: float, most: float, text: Any) -> forms.FloatField:
    return forms.FloatField(
        label=label, initial=initial, min_value=least, max_value=most, required=False, help_text=text
    )


class PrivacyFields(forms.Form):
    """A run's differential privacy; ``cleaned_data["privacy"]`` is a PrivacySpec or None."""

    protect_patients = forms.BooleanField(
        label=_("Protect each patient"),
        required=False,
        help_text=_("Each training step clips what a patient adds and hides it in noise, at the site."),
    )
    protect_sites = forms.BooleanField(
        label=_("Protect each site as a whole"),
        required=False,
        help_text=_(
            "Each site clips its update and adds noise before masking. With a handful of sites no useful "
            "accuracy is to be expected."
        ),
    )
    privacy_noise = _number(_("Noise"), 2.0, 0.3, 1000.0, _("Standard deviation, as a multiple of the clip."))
    privacy_clip = _number(_("Clip"), 1.0, 0.000001, 1000.0, _("The most one patient or one site can add."))
    privacy_rate = _number(
        _("Sampling rate"), 0.25, 0.001, 1.0,
        _("The chance of each patient to be in a step; only for patients."),
    )  # fmt: skip
    privacy_delta = _number(_("δ"), 1e-5, 1e-12, 0.01, _("Well below 1 ÷ the number of patients of a site."))
    privacy_epsilon = _number(
        _("Largest ε"), 8.0, 0.01, 100.0, _("The run is refused, or stopped, before it spends more.")
    )
    privacy_scaling = forms.CharField(
        label=_("Public scaling"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}),
        help_text=_(
            "For tables, when patients are protected: centre and spread of each feature, one feature per "
            "line, known without the sites' data."
        ),
    )

    @property
    def patient_algorithms(self) -> str:
        """For the template: the algorithms that may protect patients."""
        return " ".join(name for name in ALGORITHMS if "record" in units_of(name))

    @property
    def private_algorithms(self) -> str:
        return " ".join(name for name in ALGORITHMS if units_of(name))

    @property
    def privacy_numbers(self) -> Iterator[forms.BoundField]:
        return (self[f"privacy_{name}"] for name in NUMBERS)

    def clean_promise(self, values: dict[str, Any], study: Study) -> None:
        """Set ``values["privacy"]``, or say why what is asked for could not be promised."""
        values["privacy"] = None
        patients, sites = bool(values.get("protect_patients")), bool(values.get("protect_sites"))
        if patients and sites:
            self.add_error("protect_sites", _t("Choose one of the two: protect patients, or whole sites."))
        if self.errors or not (patients or sites):
            return
        try:
            privacy = self._asked(values, "record" if patients else "site")
            check_privacy(_draft(values, study, privacy))
        except SpecError as error:
            self.add_error("protect_patients" if patients else "protect_sites", in_words(error))
        except (ValidationError, ValueError):
            self.add_error(
                "privacy_scaling",
                _t("Write two numbers per line, centre and spread; a spread is larger than 0.000001."),
            )
        else:
            values["privacy"] = privacy

    def _asked(self, values: dict[str, Any], unit: str) -> PrivacySpec:
        def number(name: str) -> float:
            typed = values.get(f"privacy_{name}")
            return float(self.fields[f"privacy_{name}"].initial if typed is None else typed)

        lines = [line.split() for line in (values.get("privacy_scaling") or "").splitlines() if line.strip()]
        patients = unit == "record"
        return PrivacySpec.model_validate(
            {
                "unit": unit,
                "noise_multiplier": number("noise"),
                "clip_norm": number("clip"),
                "sample_rate": number("rate") if patients else 1.0,
                "delta": number("delta"),
                "epsilon_max": number("epsilon"),
                "scaling": tuple((float(a), float(b)) for a, b in lines) if patients else (),
            }
        )


def _draft(values: dict[str, Any], study: Study, privacy: PrivacySpec) -> RunSpec:
    """As much of the run's specification as the rules read; the tensors are not known yet."""
    task = study.task_spec()
    return RunSpec(
        study=StudySpec(slug=study.slug, purpose="", dataset=study.dataset, task=task),
        algorithm=values["algorithm"],
        hyper_parameters=values["hyper_parameters"],
        model=ModelSpec(name=values["model"], arguments=values["model_arguments"]),
        rounds=values["rounds"],
        seed=values["seed"],
        min_sites=values["min_sites"],
        policy=PolicySpec(secure_aggregation=not values["server_sees_updates"], privacy=privacy),
    )
