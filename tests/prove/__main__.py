"""``python -m tests.prove TOPIC [--full] [--only N …]``."""

import argparse
import importlib
import sys

TOPICS = {
    "main-job": "tests.prove.main_job",
    "secure-aggregation": "tests.prove.secure_aggregation",
    "personalised-learning": "tests.prove.personalised_learning",
    "site-life": "tests.prove.site_life",
    "audit": "tests.prove.audit",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("topic", nargs="?", choices=TOPICS, default="main-job")
    parser.add_argument("--full", action="store_true", help="both studies, both test legs")
    parser.add_argument("--only", nargs="*", default=[], help="items to show, for example 2 4 6")
    options = parser.parse_args()
    return int(importlib.import_module(TOPICS[options.topic]).prove(full=options.full, only=options.only))


if __name__ == "__main__":
    sys.exit(main())
