import logging

from infra.settings.log_filters import HideTokens


def test_a_kit_link_in_a_log_line_has_no_token():
    record = logging.LogRecord(
        "django.request", logging.WARNING, "", 1, "Gone: %s", ("/kits/s3cret_-token/",), None
    )
    assert HideTokens().filter(record)
    assert record.getMessage() == "Gone: /kits/.../"


def test_other_lines_stay_as_they_are():
    record = logging.LogRecord("x", logging.INFO, "", 1, "site %s", ("site-a",), None)
    HideTokens().filter(record)
    assert record.getMessage() == "site site-a"
