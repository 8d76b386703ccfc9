from datetime import timedelta

import pytest
from django.utils import timezone

from platform_web.accounts.models import Role
from platform_web.federation.models import Site
from platform_web.training import services
from platform_web.training.models import Run, RunJob
from platform_web.training.receipt import receipt_of
from tests.platform_web import world

NAMES = ["site-a", "site-b", "site-c", "site-d"]


@pytest.fixture
def sites(make_site):
    return [world.bring_online(make_site(name)) for name in NAMES]


def masked_run(dana, sites, lines=None):
    names = [site.name for site in sites]
    run = world.submitted_run(dana, world.open_study(dana), sites)
    started = [{"kind": "start", "epoch": 1}, world.roster_line(names)]
    return world.feed(run, [*started, *(lines or world.masked_lines(names, (1, 2, 3, 4)))])


def page_of(client, user, run, live=False):
    client.force_login(user)
    return client.get(f"/runs/{run.pk}/{'live/' if live else ''}").content.decode()


def test_the_receipt_says_who_took_part_and_how(client, dana, sites):
    page = page_of(client, dana, masked_run(dana, sites))
    for words in (
        "updates leave masked",
        "4 of 4 sites",
        "4 by pinned keys",
        "3 of 4 sites finish a round",
        "one dropout is tolerated.",
        "Sums modulo 2^64; &lt; 0.01 % of the values",
        "64.0\xa0KB per site and round",
        "leaves masked",
        world.sha("global4")[:12],
    ):
        assert words in page, words
    assert 'id="server-sees"' not in page


def test_rounds_name_who_was_missing_and_whose_keys_were_recovered(dana, sites):
    receipt = receipt_of(masked_run(dana, sites), dana)
    newest, before = receipt.round_rows[:2]
    assert (newest.number, newest.survivors, newest.asked, newest.absent) == (4, 3, 4, "Hospital site-d")
    assert (before.recovered, before.absent) == ("Hospital site-a", "")
    assert receipt.differing_by_one == 3


def test_three_sites_tolerate_nobody_and_the_page_says_so(client, dana, sites):
    run = world.submitted_run(dana, world.open_study(dana), sites[:3])
    page = page_of(client, dana, run)  # before any key was exchanged
    assert "3 of 3 sites finish a round" in page
    assert "any dropout stops the round until the site is back; four sites tolerate one." in page


def test_a_minimum_above_the_threshold_is_what_counts(dana, sites):
    run = world.submitted_run(dana, world.open_study(dana), sites, min_sites=4)
    assert (receipt_of(run, dana).needed, receipt_of(run, dana).tolerated) == (4, 0)


def test_a_refused_site_is_named_with_its_sentence(client, dana, sites):
    run = world.submitted_run(dana, world.open_study(dana), sites)
    roster = world.roster_line(NAMES[:3], pinned=False, refused={"site-d": "Its certificate is not pinned."})
    page = page_of(client, dana, world.feed(run, [roster]))
    assert "3 by the federation's CA alone" in page
    assert "Its certificate is not pinned." in page


def test_an_operator_reads_the_name_of_the_own_site_only(client, dana, sites, person):
    olaf = person("olaf", Role.SITE_OPERATOR, sites[3])
    page = page_of(client, olaf, masked_run(dana, sites))
    assert "Hospital site-d, 3 other sites" in page
    assert "Hospital site-a" not in page


def test_a_plain_run_says_that_it_was_chosen(client, dana, sites):
    run = world.submitted_run(dana, world.open_study(dana), sites, server_sees_updates=True)
    page = page_of(client, dana, run)
    assert "This was chosen when the run was started" in page
    assert 'id="receipt"' not in page


def test_a_waiting_run_says_why_until_when_and_how_it_goes_on(client, dana, sites):
    run = masked_run(dana, sites)
    services.interrupt_run(run_id=str(run.pk), epoch=1, code="E_NO_QUORUM", error="2 of 3 signatures.")
    Site.objects.filter(name="site-d").update(heartbeat_at=None)
    page = page_of(client, dana, run, live=True)
    for words in (
        "Waiting to go on",
        "Too few sites signed the group of survivors.",
        "2 of 3 signatures.",
        "from round 5 when all of its sites are back, or after a minute with at least 3 of them",
        "it is given up on",
        "Hospital site-d · offline",
        "1 NVFlare job",
    ):
        assert words in page, words
    services.interrupt_run(run_id=str(run.pk), epoch=1, code="X")
    Run.objects.update(interruption={"code": "E_DIFFERENCING", "error": "", "missing": ["site-d"]})
    assert "as soon as the same sites are back" in page_of(client, dana, run, live=True)


def test_the_jobs_of_a_run_are_counted_with_their_reasons(client, dana, sites):
    run = masked_run(dana, sites)
    RunJob.objects.filter(run=run).update(code="SERVER_DIED", error="The NVFlare server stopped.")
    RunJob.objects.create(run=run, epoch=2, start_round=5, sites=NAMES)
    page = page_of(client, dana, run)
    assert "2 NVFlare jobs, one run" in page
    assert "The NVFlare server stopped in the middle of the run." in page
    answer = client.get(f"/runs/{run.pk}/data.json").json()
    assert [(job["epoch"], job["start_round"], job["code"]) for job in answer["jobs"]] == [
        (1, 1, "SERVER_DIED"),
        (2, 5, ""),
    ]


def test_a_silent_job_and_a_returning_site_are_said(client, dana, sites):
    run = masked_run(dana, sites)
    Run.objects.update(silent_since=timezone.now() - timedelta(seconds=30))
    services.note_rejoin_asked(run_id=str(run.pk), epoch=1, sites=["site-d"])
    page = page_of(client, dana, run, live=True)
    assert "has not answered since" in page
    assert "Back again: Hospital site-d." in page


def test_a_failure_with_a_code_is_said_in_chinese(client, dana, sites):
    run = masked_run(dana, sites)
    told = {"kind": "failed", "code": "E_SUM_RANGE", "error": "The total weight is 9.", "epoch": 1}
    world.feed(run, [told])
    services.fail_run(run_id=str(run.pk), sentence="The total weight is 9.")
    client.cookies["django_language"] = "zh-hans"
    page = page_of(client, dana, run)
    assert "总和超出可能的范围" in page
    assert "The total weight is 9." in page


def test_sites_that_keep_their_figures_leave_the_mean_of_all(client, dana, sites):
    run = world.completed_run(
        dana,
        world.open_study(dana),
        sites,
        keeps=NAMES,
        cohort={"global": {"test_balanced_accuracy": 0.912, "test_accuracy": 0.934, "test_n": 112.0}},
    )
    page = page_of(client, dana, run)
    for words in ("kept at the site", "All sites together", "0.912", "0.934", "112 test cases"):
        assert words in page, words
