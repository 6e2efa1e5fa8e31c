"""Writes the rows of suites in results.tsv anew, from the reports of their runners: record.py SUITE=REPORT …

A report is the JSON of Jest or Mocha, JUnit's XML, or the JSON of run.py's demos. A row is the suite, the test's name, what came of it, and the first line of why.
"""

import json
import os
import re
import sys
import xml.etree.ElementTree as xml

HERE = os.path.dirname(os.path.abspath(__file__))


def short(text):
    line = re.sub(r"\x1b\[[0-9;]*m", "", text or "").strip().split("\n")[0]
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{20,}", "…", line).replace("\t", " ")[:160]


def of_jest(report):
    for file in report["testResults"]:
        where = "/".join(file["name"].split("/")[-2:])
        if not file["assertionResults"]:
            yield where, "failed", short(file["message"])
        for test in file["assertionResults"]:
            outcome = {"passed": "passed", "failed": "failed"}.get(test["status"], "skipped")
            yield "%s %s" % (where, test["fullName"]), outcome, short("\n".join(test["failureMessages"]))


def of_mocha(report):
    outcomes = {"passes": "passed", "failures": "failed", "pending": "skipped"}
    for part, outcome in outcomes.items():
        for test in report[part]:
            yield test["fullTitle"], outcome, short(test.get("err", {}).get("message"))


def of_junit(root):
    for test in root.iter("testcase"):
        failed = test.find("failure") if test.find("failure") is not None else test.find("error")
        outcome = "skipped" if test.find("skipped") is not None else "passed" if failed is None else "failed"
        yield test.get("name"), outcome, short(failed.get("message") if failed is not None else "")


def of_demos(report):
    for name, outcome, why in report["rows"]:
        yield name, outcome, short(why)


def read(path):
    text = open(path).read()
    if text.lstrip().startswith('{"rows"') or text.lstrip().startswith('{\n"rows"'):
        return of_demos(json.loads(text))
    if text.lstrip().startswith("<"):
        return of_junit(xml.fromstring(text))
    # The report is surrounded by the tests' own output.
    start = re.search(r'^\{\s*"(stats|num\w+)"', text, re.M)
    report, _ = json.JSONDecoder().raw_decode(text[start.start():])
    return of_mocha(report) if "stats" in report else of_jest(report)


def main(reports):
    file = os.path.join(HERE, "results.tsv")
    renewed = {one.split("=", 1)[0] for one in reports}
    with open(file) as kept:
        rows = [row for row in (line.rstrip("\n").split("\t") for line in kept) if row[0] not in renewed]
    for one in reports:
        suite, path = one.split("=", 1)
        rows += [[suite, " ".join(name.split()), outcome, why] for name, outcome, why in read(path)]
    with open(file, "w") as written:
        for row in sorted(rows):
            written.write("\t".join(row).rstrip("\t") + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
