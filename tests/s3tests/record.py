"""A plugin for pytest that writes what came of each test, one JSON document a line, to the file that RESULTS names."""

import json
import os

outcomes = {}


def pytest_configure():
    """Buckets get full names, as COS has them: by a short one others and nobody do not find them."""
    import s3tests.functional as functional
    short = functional.get_new_bucket_name
    functional.get_new_bucket_name = lambda: "%s-%s" % (short(), os.environ["APP_ID"])


def pytest_runtest_logreport(report):
    failed = report.failed or (report.when == "setup" and report.skipped)
    if report.when == "call" or failed:
        name = report.nodeid.split("::")[-1]
        crash = getattr(report.longrepr, "reprcrash", None)
        marks = sorted(set(dict(report.user_properties).get("marks", [])))
        why = crash.message.splitlines()[0] if crash and crash.message else ""
        outcomes[name] = {"name": name, "outcome": report.outcome, "why": why, "marks": marks}


def pytest_runtest_setup(item):
    item.user_properties = [("marks", [mark.name for mark in item.iter_markers()])]


def pytest_sessionfinish():
    with open(os.environ["RESULTS"], "w") as file:
        for _, one in sorted(outcomes.items()):
            file.write(json.dumps(one) + "\n")
