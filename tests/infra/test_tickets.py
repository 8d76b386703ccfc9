"""The synthetic requests: varied, repeatable, harder than a lookup, easier than noise."""

import hashlib
from collections import Counter

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from infra.demo.tickets import DEPARTMENTS, PROVINCES, routing, write_tickets
from infra.demo.tickets.grammar import LONGEST, SHORTEST

MADE = {province: write_tickets(province, 1500, seed=5) for province in PROVINCES}


def test_the_same_seed_gives_the_same_requests_and_another_seed_others():
    assert write_tickets("bashu", 40, seed=5) == MADE["bashu"][:40]
    assert not {t.text for t in write_tickets("bashu", 40, seed=6)} & {t.text for t in MADE["bashu"]}


def test_thousands_of_requests_hardly_repeat_and_keep_their_length():
    texts = [ticket.text for tickets in MADE.values() for ticket in tickets]
    assert len(set(texts)) > 0.99 * len(texts)
    assert min(map(len, texts)) >= SHORTEST == 15
    assert max(map(len, texts)) <= LONGEST == 150
    assert min(map(len, texts)) < 25
    assert max(map(len, texts)) > 95
    assert not any("{" in text or "}" in text for text in texts)


def test_departments_and_callers():
    assert len(DEPARTMENTS) >= 8
    assert len(PROVINCES) >= 6
    for tickets in MADE.values():
        assert {ticket.department for ticket in tickets} == set(DEPARTMENTS)
        assert max(Counter(ticket.caller for ticket in tickets).values()) >= 4
    mixes = [Counter(ticket.department for ticket in tickets) for tickets in MADE.values()]
    for department in DEPARTMENTS:
        counts = [mix[department] for mix in mixes]
        assert max(counts) > 1.3 * min(counts)


def test_some_topics_and_only_a_minority_go_elsewhere_in_another_province():
    tables = [routing(province) for province in PROVINCES]
    disputed = {topic for topic in tables[0] if len({table[topic] for table in tables}) > 1}
    assert 8 <= len(disputed) < len(tables[0]) / 2
    for tickets in MADE.values():
        assert 0.25 < np.mean([ticket.topic in disputed for ticket in tickets]) < 0.45


def parts(tickets):
    number = {t.caller: int(hashlib.sha256(t.caller.encode()).hexdigest(), 16) % 10 for t in tickets}
    return [t for t in tickets if number[t.caller] < 6], [t for t in tickets if number[t.caller] >= 8]


def fitted(tickets):
    vectors = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), sublinear_tf=True)
    model = make_pipeline(vectors, LogisticRegression(C=10, max_iter=300))
    return model.fit([t.text for t in tickets], [t.department for t in tickets])


def accuracy(model, tickets):
    return float(np.mean(model.predict([t.text for t in tickets]) == [t.department for t in tickets]))


def test_own_conventions_are_learned_locally_blurred_by_pooling_and_lost_across_provinces():
    names = list(PROVINCES)[:3]  # three suffice, and cost a third of the time
    train = {name: parts(MADE[name])[0] for name in names}
    test = {name: parts(MADE[name])[1] for name in names}
    local = {name: fitted(train[name]) for name in names}
    pooled = fitted([ticket for tickets in train.values() for ticket in tickets])
    own = np.mean([accuracy(local[name], test[name]) for name in names])
    common = np.mean([accuracy(pooled, test[name]) for name in names])
    other = np.mean([accuracy(local[a], test[b]) for a in names for b in names if a != b])
    assert 0.80 < own < 0.97
    assert 0.70 < common < own
    assert 0.50 < other < common
