"""A server that starts one job twice at a site: both hold the same keys, one gets the round."""

import pytest

from secure_agg.errors import SecureAggregationError
from tests.secure_agg.cohort import MODEL_HASH, Cohort, update_of, weight_of

NAME = "site-00"


def begin(client, message):
    client.begin_round(message, MODEL_HASH)
    return client


def refused(client):
    with pytest.raises(SecureAggregationError) as error:
        client.upload(update_of(NAME), weight_of(NAME), {"loss": 0.5})
    assert error.value.code == "E_STATE_ROLLBACK"


def test_one_round_is_masked_and_signed_by_one_process_alone(cohort):
    twin = cohort.client(NAME)
    assert twin.accept_roster(cohort.roster_message)  # it finds the keys of the other one
    round_ = cohort.begin(1)
    begin(twin, round_.start_message)
    uploads = {name: cohort.upload(name) for name in cohort.names}
    before = cohort.vaults[NAME].state, cohort.vaults[NAME].ledger
    refused(twin)
    assert (cohort.vaults[NAME].state, cohort.vaults[NAME].ledger) == before
    for name, upload in uploads.items():
        round_.add_upload(name, *upload)
    frozen = round_.freeze()
    with pytest.raises(SecureAggregationError) as error:
        twin.sign_freeze(frozen[NAME])
    assert error.value.code == "E_NOT_FROZEN"
    assert cohort.clients[NAME].sign_freeze(frozen[NAME])


def test_the_twin_that_fell_behind_gets_no_later_round_either(cohort):
    twin = cohort.client(NAME)
    twin.accept_roster(cohort.roster_message)
    cohort.begin(1)
    cohort.upload(NAME)
    later = cohort.server.begin_round(7, cohort.names, cohort.plan, MODEL_HASH)
    begin(twin, later.start_message)
    refused(twin)


def test_a_twin_that_starts_after_a_round_takes_the_next_one_from_the_first():
    cohort = Cohort(4)
    cohort.begin(1)
    cohort.upload(NAME)
    twin = cohort.client(NAME)
    second = cohort.server.begin_round(2, cohort.names, cohort.plan, MODEL_HASH)
    begin(twin, second.start_message).upload(update_of(NAME), weight_of(NAME), {"loss": 0.5})
    begin(cohort.clients[NAME], second.start_message)
    refused(cohort.clients[NAME])
