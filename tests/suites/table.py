"""Makes the table of third-party test suites in docs/compatibility.md; `--check` compares it with the page.

`results.tsv` is written by record.py. `reasons.tsv` says, by a part of a suite's and a test's name, why one that does not pass does not; the
first that fits holds.
"""

import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = os.path.join(HERE, "..", "..", "docs", "compatibility.md")
BEGIN, END = "<!-- suites: made by tests/suites/table.py -->\n", "<!-- suites: end -->\n"


def rows(name):
    with open(os.path.join(HERE, name)) as file:
        return [line.rstrip("\n").split("\t") for line in file if line.strip()]


def table():
    reasons, found, unsaid = rows("reasons.tsv"), {}, []
    for suite, name, outcome, *_ in rows("results.tsv"):
        row = found.setdefault(suite, [0, 0, {}])
        row[1] += 1
        if outcome == "passed":
            row[0] += 1
            continue
        full = "%s: %s" % (suite, name)
        why = next((why for pattern, why in reasons if re.search(pattern, full)), None)
        if why is None:
            unsaid.append(full)
        row[2].setdefault(why or "not said", []).append(name)
    lines = ["| suite | passed | of | why others do not |", "| --- | --- | --- | --- |"]
    for suite, (passed, count, why) in sorted(found.items()):
        said = "; ".join("%s (%d)" % (text, len(names)) for text, names in sorted(why.items(), key=lambda one: (-len(one[1]), one[0])))
        lines.append("| %s | %d | %d | %s |" % (suite, passed, count, said))
    return "\n".join(lines) + "\n", unsaid


def main(check):
    made, unsaid = table()
    assert not unsaid, "reasons.tsv does not say why these do not pass: %s" % "; ".join(unsaid)
    text = open(PAGE).read()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    if check:
        assert text[begin:end] == made, "docs/compatibility.md has another table than results.tsv makes; run tests/suites/table.py"
    else:
        open(PAGE, "w").write(text[:begin] + made + text[end:])


if __name__ == "__main__":
    main("--check" in sys.argv)
