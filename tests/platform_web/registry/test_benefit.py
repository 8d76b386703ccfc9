"""What the run's page says about benefit, to a director and to one site's operator."""

import hashlib

import pytest

from fl_jobs.packaging.spec import canonical_json
from platform_web.accounts.models import Role
from platform_web.registry import selectors
from platform_web.registry.benefit import HELPS_ALONE, summarise
from platform_web.registry.models import SiteModel
from platform_web.training.errors import JournalError
from platform_web.training.journal import SiteFinish, read_line
from platform_web.training.models import Run
from tests.platform_web import world

NAMES = ("site-a", "site-b", "site-c", "site-d")


@pytest.fixture
def sites(make_site):
    return [world.bring_online(make_site(name)) for name in NAMES]


@pytest.fixture
def run(dana, sites):
    return world.completed_run(dana, world.open_study(dana), sites, keeps=("site-d",))


def page_of(client, person, run):
    client.force_login(person)
    return client.get(f"/runs/{run.pk}/").content.decode()


def change(run, site, **figures):
    model = SiteModel.objects.get(version__run=run, site__name=site, version__arm="personal")
    model.difference = model.difference | figures
    model.save(update_fields=["difference"])


def test_sites_that_cannot_be_judged_are_counted_and_never_called_unharmed(run, dana):
    found = summarise(run, dana)
    assert found.candidate == "personal"
    assert (found.verdict.bounded, found.verdict.unbounded) == (("site-a", "site-b"), ())
    assert (found.verdict.untested, found.verdict.silent) == (("site-c",), ("site-d",))
    assert (found.verdict.no_site_harmed, found.sites) == ("cannot be said", 4)


def test_the_page_says_it_in_words(client, run, dana):
    page = page_of(client, dana, run)
    assert 'data-verdict="cannot be said"' in page
    for words in (
        "A loss of 2 points or more is excluded at 2 of 4 sites.",
        "Of 2 sites nothing can be said:",
        "too few test patients or images at 1",
        "fewest patients or images: 11 (malignant)",
        "figures kept by 1",
        "2 sites tested, corrected for their number (Holm)",
        "of the sites that share their figures",
        "kept at the site",
        "for information",
        "calibration error (ECE)",
        "2 bins of equal size",
        "threshold chosen on validation for a specificity of 90 %",
        "chance by validation: gain",
    ):
        assert words in page, words
    assert 'data-measured="site-a"' in page
    assert 'data-measured="site-d"' not in page


def test_counts_are_of_what_the_endpoint_tells_apart(client, run, dana):
    change(run, "site-a", groups={"all other labels": 628, "positive labels": 4})
    SiteModel.objects.filter(version__run=run, site__name="site-a").exclude(version__arm="personal").update(
        difference=None
    )
    assert "fewest patients or images: 4 (positive labels)" in page_of(client, dana, run)
    client.cookies["django_language"] = "zh-hans"
    page = page_of(client, dana, run)
    assert "4（阳性标签）" in page
    assert "positive labels" not in page


def test_where_every_site_excludes_harm_it_is_said(client, run, dana):
    mine = SiteModel.objects.filter(version__run=run, version__arm="personal")
    mine.update(difference=mine.get(site__name="site-a").difference)
    assert summarise(run, dana).verdict.no_site_harmed == "holds"
    assert 'data-verdict="holds"' in page_of(client, dana, run)


def test_a_site_that_loses_is_named_and_the_statement_fails(client, run, dana):
    change(run, "site-b", value=-0.1, low=-0.15, high=-0.05, lower=-0.14, p_harm=0.0005, verdict="harms")
    page = page_of(client, dana, run)
    assert 'data-verdict="does not hold"' in page
    assert "At 1 site it is not excluded." in page
    assert "Proven harm:" in page
    assert "−10.0 points" in page


def test_a_gain_that_does_not_survive_the_correction_is_said_to(run, dana):
    change(run, "site-a", p_gain=0.02)
    row = next(row for row in selectors.benefit_rows(run, dana) if row.site.name == "site-a")
    verdicts = {cell.arm.value: cell.verdict for cell in row.cells}
    assert verdicts["personal"] == HELPS_ALONE
    assert summarise(run, dana).helped == []


def test_an_operator_reads_the_statement_but_no_other_sites_name(client, run, person, sites):
    olga = person("olga", Role.SITE_OPERATOR, sites[1])
    found = summarise(run, olga)
    assert found.helped == ["another site"]
    assert found.worst is None
    page = page_of(client, olga, run)
    assert "excluded at 2 of 4 sites" in page
    assert sites[0].title not in page.split('id="benefit"')[1].split("</section>")[0]


def test_a_run_of_an_older_version_is_shown_as_before(client, run, dana):
    for model in SiteModel.objects.filter(version__run=run):
        kept = ("metric", "value", "low", "high", "groups", "verdict")
        old = {name: model.difference[name] for name in kept} if model.difference else None
        cells = {
            k: v for k, v in (model.cells or {}).items() if k in ("accuracy", "balanced_accuracy", "auroc")
        }
        SiteModel.objects.filter(pk=model.pk).update(difference=old, cells=cells or None)
    old_spec = {k: v for k, v in run.spec.items() if k != "analysis"} | {"version": 1}
    old_spec["policy"] = {k: v for k, v in old_spec["policy"].items() if k != "privacy"}
    digest = hashlib.sha256(canonical_json(old_spec)).hexdigest()
    Run.objects.filter(pk=run.pk).update(spec=old_spec, run_digest=digest)
    run.refresh_from_db()
    assert run.run_spec().version == 1
    assert summarise(run, dana) is None
    page = page_of(client, dana, run)
    assert "benefit-summary" not in page
    assert "run-analysis" not in page
    assert "helps" in page
    assert "cannot be tested here" in page


@pytest.mark.parametrize(
    "wrong", [{"value": float("nan")}, {"p_gain": 1.5}, {"verdict": "wonderful"}, {"low": "<script>"}]
)
def test_a_report_with_figures_that_are_none_is_refused(wrong):
    line = world.finish_line(["site-a"])["sites"]["site-a"]
    assert read_line(SiteFinish, line).differences["personal"].p_gain == 0.004
    line["differences"]["personal"] |= wrong
    with pytest.raises(JournalError):
        read_line(SiteFinish, line)
