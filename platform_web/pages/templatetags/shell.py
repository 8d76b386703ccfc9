"""Tags of the shell: sidebar, icons, pills, and figures as people read them."""

from typing import Any

from django import template
from django.template.context import Context
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from fl_jobs import catalog
from fl_jobs.packaging.spec import NEGATIVE_CLASS, POSITIVE_CLASS
from platform_web.accounts.models import Membership
from platform_web.accounts.scope import role_of
from platform_web.pages.navigation import Link, links_for
from platform_web.training.models import Run

register = template.Library()
State = Run.State
RUN_TONES = {
    State.PREPARING: "calm busy",
    State.APPROVING: "warn busy",
    State.SUBMITTED: "calm busy",
    State.RUNNING: "calm busy",
    State.RESUMING: "warn busy",
    State.STOPPING: "warn busy",
    State.COLLECTING: "calm busy",
    State.COMPLETED: "good",
    State.FAILED: "bad",
    State.STOPPED: "warn",
}
VERDICT_TONES = {"helps": "good", "harms": "bad", "no proven difference": "", "cannot be tested here": "warn"}


@register.simple_tag(takes_context=True)
def navigation(context: Context) -> list[Link]:
    return links_for(context["request"])


@register.simple_tag(takes_context=True)
def person(context: Context) -> dict[str, str]:
    """Name, role and sites of the person who is signed in."""
    user = context["request"].user
    role = role_of(user)
    sites = Membership.objects.filter(user_id=user.pk).select_related("site")
    return {
        "name": user.get_username(),
        "role": str(role.label) if role else _("no role yet"),
        "site": ", ".join(membership.site.title for membership in sites),
    }


@register.simple_tag
def icon(name: str) -> SafeString:
    return format_html(
        '<svg class="icon" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>',
        static("pages/icons.svg"),
        name,
    )


@register.simple_tag
def run_pill(run: Run) -> SafeString:
    tone = RUN_TONES.get(State(run.state), "")
    return format_html(
        '<span class="pill {}" data-state="{}">{}</span>', tone, run.state, run.get_state_display()
    )


@register.simple_tag
def online_pill(online: bool, missing: str = "") -> SafeString:  # noqa: FBT001 - a template tag
    tone, word = ("good", _("online")) if online else ("bad", _("offline"))
    return format_html('<span class="pill {}" title="{}">{}</span>', tone, missing, word)


@register.simple_tag
def verdict_pill(verdict: str) -> SafeString:
    words = {
        "helps": _("helps"),
        "harms": _("harms"),
        "no proven difference": _("no proven difference"),
        "cannot be tested here": _("cannot be tested here"),
        "helps, uncorrected": _("helps on its own, not after correction for all sites"),
    }
    return format_html(
        '<span class="pill plain {}">{}</span>', VERDICT_TONES.get(verdict, ""), words.get(verdict, verdict)
    )


@register.filter
def figure(value: Any) -> str:
    """Three decimals; a dash for what is not known."""
    return f"{value:.3f}" if isinstance(value, int | float) and not isinstance(value, bool) else "–"


@register.filter
def percent(value: Any) -> str:
    """A rate in per cent, small ones not rounded to nothing."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "–"
    return f"{value:.2f} %" if value >= 0.01 or value == 0 else "< 0.01 %"


@register.filter
def chance(value: Any) -> str:
    """A probability in whole per cent, never said to be certain."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "–"
    if value < 0.01:
        return "< 1 %"
    return "> 99 %" if value > 0.99 else f"{100 * value:.0f} %"


@register.filter
def points(value: Any) -> str:
    """A difference in percentage points with its sign."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "–"
    return _("%(number)s points") % {"number": f"{100 * value:+.1f}".replace("-", "−")}


@register.filter
def points_apart(value: Any) -> str:
    """A distance in percentage points."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "–"
    return _("%(number)s points") % {"number": f"{100 * value:.1f}"}


@register.filter
def signed(value: Any) -> str:
    """Three decimals with their sign; a true minus."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "–"
    return f"{value:+.3f}".replace("-", "−")


@register.filter
def measure(name: str) -> str:
    """The name of a metric in words."""
    words = {
        "balanced_accuracy": _("balanced accuracy"),
        "positive_balanced_accuracy": _("balanced accuracy, positive labels against the others"),
        "accuracy": _("accuracy"),
        "auroc": _("AUROC"),
        "macro_f1": _("macro-F1"),
        "sensitivity": _("sensitivity"),
        "specificity": _("specificity"),
        "ece": _("calibration error (ECE)"),
        "log_loss": _("log loss"),
    }
    return words.get(name) or humanised(name)


@register.filter
def judged_class(name: str) -> str:
    """A label as the study names it; in words what an endpoint makes of several."""
    words = {NEGATIVE_CLASS: _("all other labels"), POSITIVE_CLASS: _("positive labels")}
    return words.get(name, name)


@register.filter
def candidate(arm: str | None) -> str:
    """The model a run's verdict is about, in words."""
    words = {
        "global": _("global (FedAvg)"),
        "tuned": _("FedAvg + fine-tune"),
        "personal": _("personalised"),
    }
    return words.get(arm or "") or _("the algorithm's own model")


@register.filter
def data_kind(kind: str) -> str:
    """The kind of a data set or task in words."""
    words = {"tabular": _("Table (CSV)"), "image": _("Images"), "text": _("Texts")}
    return words.get(kind, kind)


@register.filter
def catalog_title(name: str) -> str:
    """The title of an algorithm or model of the catalog."""
    entry = catalog.ALGORITHMS.get(name) or catalog.MODELS.get(name)
    return _(entry.title) if entry else name


@register.filter
def humanised(name: str) -> str:
    """``mean_radius`` as ``mean radius``; what is sent keeps its name."""
    return name.replace("_", " ")
