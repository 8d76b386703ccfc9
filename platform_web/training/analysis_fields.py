"""What a run will say about benefit: asked for before it starts, so before any test label is read."""

from collections.abc import Iterator
from typing import Any

from django import forms
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from fl_jobs.packaging.spec import POSITIVE, AnalysisSpec, candidates_of
from platform_web.training.setting_fields import NamesField

ENDPOINTS = {
    "balanced_accuracy": _("balanced accuracy"),
    "accuracy": _("accuracy"),
    POSITIVE: _("balanced accuracy, positive labels against the others"),
}
CANDIDATES = {
    "": _("the algorithm's own model"),
    "global": _("global (FedAvg)"),
    "tuned": _("FedAvg + fine-tune"),
    "personal": _("personalised"),
}
TWO = 2


class AnalysisFields(forms.Form):
    """A run's analysis; ``cleaned_data["analysis"]`` is an AnalysisSpec. Left alone it is the usual one."""

    analysis_endpoint = forms.ChoiceField(
        label=_("Primary endpoint"),
        required=False,
        help_text=_("The one figure that the verdict at each site is about."),
    )
    analysis_candidate = forms.ChoiceField(
        label=_("Judged against local-only"),
        required=False,
        choices=CANDIDATES.items(),
        help_text=_("The one model that the verdict is about. The others are shown as information."),
    )
    analysis_margin = forms.FloatField(
        label=_("Margin in points"),
        required=False,
        min_value=0.1,
        max_value=49,
        step_size=0.1,
        initial=2,
        help_text=_("A loss smaller than this counts as no harm. 0.1 to 49, in steps of 0.1."),
        error_messages={"invalid": _("The margin is a number of percentage points, such as 2.")},
    )
    analysis_positive = NamesField(
        label=_("Positive labels"),
        required=False,
        help_text=_("Those that count as disease. Of two labels it is the second unless you choose."),
    )

    def choose_analysis(self, labels: tuple[str, ...]) -> None:
        """Offer what fits a study of these labels."""
        self.analysis_labels = labels
        field = self.fields["analysis_endpoint"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101 - for the type checker
        field.choices = [(n, title) for n, title in ENDPOINTS.items() if n != POSITIVE or len(labels) > TWO]

    @property
    def positive_choices(self) -> Iterator[tuple[str, bool]]:
        """For the template: each label and whether it is ticked."""
        ticked = self["analysis_positive"].value() or ()
        return ((label, label in ticked) for label in self.analysis_labels)

    @property
    def has_analysis_errors(self) -> bool:
        return any(name.startswith("analysis_") for name in self.errors)

    def clean_analysis(self, values: dict[str, Any]) -> None:
        """Set ``values["analysis"]``, or say at the field what does not fit."""
        given = {name: values.get(f"analysis_{name}") for name in ("endpoint", "candidate", "margin")}
        ticked = set(values.get("analysis_positive") or ())
        if unknown := sorted(ticked - set(self.analysis_labels)):
            sentence = _t("“%(label)s” is not one of the study's labels. Choose from the list.")
            self.add_error("analysis_positive", sentence % {"label": unknown[0]})
        if given["endpoint"] == POSITIVE and not 0 < len(ticked) < len(self.analysis_labels):
            sentence = _t("This endpoint sets positive labels against the others: tick some, not all.")
            self.add_error("analysis_positive", sentence)
        if given["candidate"] and given["candidate"] not in candidates_of(str(values.get("algorithm"))):
            self.add_error("analysis_candidate", _t("A run of this algorithm trains no such model."))
        if self.errors:
            return
        margin = {} if given["margin"] is None else {"margin": round(given["margin"] / 100, 6)}
        values["analysis"] = AnalysisSpec(
            endpoint=given["endpoint"] or "balanced_accuracy",
            candidate=given["candidate"] or None,
            positive=tuple(label for label in self.analysis_labels if label in ticked),
            **margin,
        )
