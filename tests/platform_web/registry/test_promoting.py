import pytest

from platform_web.audit.models import AuditEvent
from platform_web.registry import selectors, services
from platform_web.registry.errors import PromotionError
from platform_web.registry.models import Promotion, SiteModel
from tests.platform_web import world

REASON = "The pathologists asked for it on 3 May."


@pytest.fixture
def run(dana, make_site):
    sites = [world.bring_online(make_site(name)) for name in ("site-a", "site-b", "site-c")]
    return world.completed_run(dana, world.open_study(dana), sites, keeps=("site-c",))


def model(run, site, arm):
    return SiteModel.objects.get(version__run=run, site__name=site, version__arm=arm)


def promote(ann, chosen, reason=""):
    return services.promote(site_model_id=chosen.pk, actor=ann, reason=reason)


def test_the_proposal_needs_no_reason(run, ann):
    promote(ann, model(run, "site-a", "personal"))
    assert AuditEvent.objects.filter(act="model.promoted", site="site-a").count() == 1


@pytest.mark.parametrize("reason", ["", "  short  "])
def test_another_arm_needs_one_and_without_it_nothing_changes(run, ann, reason):
    with pytest.raises(PromotionError, match="Type the reason"):
        promote(ann, model(run, "site-a", "global"), reason)
    assert not Promotion.objects.exists()
    assert not AuditEvent.objects.filter(act="model.promoted").exists()


def test_a_site_that_keeps_its_figures_has_no_proposal(run, ann):
    with pytest.raises(PromotionError, match="not what the run proposes"):
        promote(ann, model(run, "site-c", "local"))


def test_one_model_serves_per_study_and_site(run, ann):
    first = promote(ann, model(run, "site-a", "personal"))
    second = promote(ann, model(run, "site-a", "tuned"), REASON)
    first.refresh_from_db()
    assert first.withdrawn is not None
    assert list(Promotion.objects.filter(site__name="site-a", withdrawn=None)) == [second]


def test_promoting_what_serves_already_changes_nothing(run, ann):
    chosen = model(run, "site-a", "personal")
    assert promote(ann, chosen) == promote(ann, chosen)
    assert AuditEvent.objects.filter(act="model.promoted").count() == 1


def test_the_order_names_both_parts_of_one_round(run, ann):
    promotion = promote(ann, model(run, "site-a", "personal"))
    assert selectors.serve_orders(promotion.site) == [
        {
            "promotion": promotion.pk,
            "study": "breast-cytology",
            "algorithm": "dbe",
            "run": str(run.pk),
            "run_digest": run.run_digest,
            "arm": "personal",
            "round": 8,
            "shared_sha256": world.sha("shared personal"),
            "personal_sha256": world.sha("site-a personal"),
            "version_label": "breast-cytology v1 personal",
        }
    ]


def test_arms_that_share_nothing_have_no_shared_part(run, ann):
    promotion = promote(ann, model(run, "site-b", "local"))
    assert selectors.serve_orders(promotion.site)[0]["shared_sha256"] is None


def test_a_withdrawn_model_is_ordered_no_more(run, ann):
    promotion = promote(ann, model(run, "site-a", "personal"))
    services.withdraw(promotion_id=promotion.pk, actor=ann, reason=REASON)
    assert selectors.serve_orders(promotion.site) == []
    with pytest.raises(PromotionError, match="withdrawn before"):
        services.withdraw(promotion_id=promotion.pk, actor=ann, reason=REASON)
