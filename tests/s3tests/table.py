"""Makes the table of docs/compatibility.md from what came of Ceph's tests; `--check` says whether the page has it.

`results.tsv` is written by run.py. `reasons.tsv` says, by a part of a test's name, why one that does not pass does not; the first that fits holds.
"""

import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = os.path.join(HERE, "..", "..", "docs", "compatibility.md")
BEGIN, END = "<!-- s3-tests: made by tests/s3tests/table.py -->\n", "<!-- s3-tests: end -->\n"

GROUPS = [
    ("lifecycle, transitions, restore", r"lifecycle|cloud|restore|read_through|object_expiration"),
    ("encryption", r"sse|encrypt|copy_enc|copy_part_enc|kms"),
    ("object lock, retention, legal hold", r"object_lock|legal_hold|retention"),
    ("bucket logging", r"logging"),
    ("bucket policies, public access blocks, ownership", r"policy|public_block|block_public|public_acls|restrict_public|undefined_public|ownership|_abac|acl_public|obj_public"),
    ("conditional writes and deletes", r"_if_match|_if_none_match|ifmatch|ifnonmatch|_if_"),
    ("checksums, attributes", r"checksum|cksum|attributes"),
    ("lists", r"list"),
    ("multipart uploads", r"multipart|upload_part"),
    ("versions", r"version"),
    ("POST forms", r"post_object"),
    ("tags", r"tag"),
    ("CORS", r"cors"),
    ("access lists, anonymous and signed requests", r"acl|access|anon|raw|expected_bucket_owner|presigned"),
    ("copies", r"copy"),
    ("buckets and their names", r"bucket"),
    ("objects, metadata, ranges", r""),
]


def rows(name):
    with open(os.path.join(HERE, name)) as file:
        return [line.rstrip("\n").split("\t") for line in file if line.strip()]


def group(name):
    return next(title for title, pattern in GROUPS if re.search(pattern, name))


def reason(reasons, name, marks):
    for pattern, why in reasons:
        if re.search(pattern, name) or any(re.search(pattern, mark) for mark in marks.split(",") if mark):
            return why
    return None


def table():
    reasons, found, unsaid = rows("reasons.tsv"), {title: [0, 0, {}] for title, _ in GROUPS}, []
    for name, outcome, marks, *_ in rows("results.tsv"):
        row = found[group(name)]
        row[1] += 1
        if outcome == "passed":
            row[0] += 1
            continue
        why = reason(reasons, name, marks) or ("skipped by the suite itself" if outcome == "skipped" else None)
        if why is None:
            unsaid.append(name)
        row[2].setdefault(why or "not said", []).append(name)
    lines = ["| group | passed | of | why others do not |", "| --- | --- | --- | --- |"]
    for title, _ in GROUPS:
        passed, count, why = found[title]
        said = "; ".join("%s (%d)" % (text, len(names)) for text, names in sorted(why.items(), key=lambda one: (-len(one[1]), one[0])))
        lines.append("| %s | %d | %d | %s |" % (title, passed, count, said))
    passed, count = sum(row[0] for row in found.values()), sum(row[1] for row in found.values())
    lines.append("| all | %d | %d | |" % (passed, count))
    return "\n".join(lines) + "\n", unsaid


def main(check):
    made, unsaid = table()
    assert not unsaid, "reasons.tsv does not say why these do not pass: %s" % ", ".join(unsaid)
    text = open(PAGE).read()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    if check:
        assert text[begin:end] == made, "docs/compatibility.md has another table than results.tsv makes; run tests/s3tests/table.py"
    else:
        open(PAGE, "w").write(text[:begin] + made + text[end:])


if __name__ == "__main__":
    main("--check" in sys.argv)
