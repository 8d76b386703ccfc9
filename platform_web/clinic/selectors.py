"""What a clinician may ask: the models that serve at their own institution."""

from django.db.models import QuerySet

from platform_web.accounts.scope import AnyUser
from platform_web.registry.models import Promotion


def askable(user: AnyUser) -> QuerySet[Promotion]:
    """Promotions in force at the person's own site, one per study."""
    return (
        Promotion.objects.for_user(user)
        .filter(withdrawn=None)
        .select_related("site", "study", "site_model__version__run")
        .order_by("study__title", "pk")
    )


def serving_state(promotion: Promotion) -> str:
    """What the site itself last said about this model: its word, or empty when it has said nothing."""
    reports = promotion.site.heartbeat.get("serving", [])
    mine = [row for row in reports if str(row.get("promotion")) == str(promotion.pk)]
    return str(mine[0].get("state", "")) if mine else ""
