"""ATTACKS.md: every attempt of the security tests by layer, with its defence, read from the tests themselves.

    python tests/security/attacks.py           rewrites it
    python tests/security/attacks.py --check   compares it with the tests (exit code 1 on a difference)

Sources: the attempts of attacker.py with their expected results, the tests of tests/security, and the Rust tests in the files
below. A file that is not named here is listed, too, under its first line.
"""

import ast
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PAGE = os.path.join(HERE, "ATTACKS.md")

# The layer of a file's attempts, and the defence.
LAYERS = {
    "sandbox": ("Inside the sandbox", "namespaces, a read-only root, Landlock rules, a seccomp filter, control groups, user ids of their own"),
    "network": ("The network of functions", "a router that drops everything that is not allowed, one link per instance, no way from host to instance"),
    "builds": ("Builds and packages", "builds in the sandbox of an instance; limits on unpacked files, checked before unpacking"),
    "signatures": ("Signatures and keys", "everything that determines a request's effect is signed; time windows, nonces and constant-time comparison"),
    "policies": ("Policies and roles", "each resource that a request names is checked; refused unless a statement allows it"),
    "hosts": ("Hosts and domains", "hosts of the API are reserved; a domain is served once its ownership is proved"),
    "traffic": ("Unauthenticated traffic", "budgets of connections, bytes and time by address; heads are checked before bodies"),
    "limits": ("Requests and their size", "each text, list and document of a request has a limit, enforced while it is parsed"),
    "tenants": ("Between tenants", "accounts have namespaces, zygotes, quotas and turns of their own; secrets are encrypted"),
    "buckets": ("Buckets", "each header that changes a request's effect is signed; buckets belong to one account"),
    "faces": ("Operator endpoints", "metrics are for the loopback, a token, or a listener of their own"),
    "origins": ("Pages and their origins", "a host for each function; by path all headers that are bound to an origin are removed"),
    "deleted": ("Deleted accounts", "ids are never reused; an account is deleted with all its resources or not at all"),
}
PYTHON = {
    "test_attempts": "sandbox", "test_checkers": "sandbox", "test_users": "sandbox", "test_network": "network", "test_operator_endpoints": "faces",
    "test_origins": "origins", "test_heads": "traffic", "test_chunks": "buckets",
}
RUST = {
    "isolation": "sandbox", "user": "sandbox", "zygotes": "sandbox", "builds": "builds", "packages": "builds", "signing": "signatures", "access": "policies",
    "roles": "policies", "cloud": "network", "names": "policies", "hosts": "hosts", "ownership": "hosts", "traffic": "traffic", "bounds": "limits", "limits": "limits",
    "web_edge_cases": "traffic", "bucket_quota": "tenants", "secrets": "tenants", "external_storage": "buckets", "purge": "deleted",
}
# Tests beside the official clients', below tests/.
CLIENTS = {"sdk/test_access.py": "policies", "sdk/test_bucket_roles.py": "policies"}
# Assertions that show a refusal.
REFUSAL = re.compile(
    r"(AuthFailure|UnauthorizedOperation|InvalidParameter|InvalidCredentials|LimitExceeded|RequestLimitExceeded|ResourceNotFound|FailedOperation|ResourceInUse"
    r"|AccessDenied|SignatureDoesNotMatch|InvalidAction|MissingParameter|NoSuchVersion|NoSuchBucket|Unsupported|RequestSizeLimitExceeded)[A-Za-z.]*"
)
ERRNO = re.compile(r"E[A-Z]{3,12}(\|E[A-Z]{3,12})*")
SHOWN = 4


def words(name):
    return re.sub(r"^test_", "", name).replace("_", " ")


def refusals(text):
    """Refusals that a piece of source names, in their order, each once."""
    found = []
    for match in re.finditer(r"\"([^\"\\\n]{2,80})\"|'([^'\\\n]{2,80})'|\b([45]\d\d)\b(?![\w.])", text):
        value = match.group(1) or match.group(2) or match.group(3)
        fits = match.group(3) or REFUSAL.fullmatch(value) or ERRNO.fullmatch(value)
        if fits and value not in found:
            found.append(value)
    return found


def cell(text):
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


def shown(found):
    if not found:
        return "as the test asserts"
    return ", ".join("`%s`" % one for one in found[:SHOWN]) + (", …" if len(found) > SHOWN else "")


def attempts():
    """The attacker's, by the headings between them; those that a helper makes are where the helper is."""
    headings = [(number, line[6:]) for number, line in enumerate(open(os.path.join(HERE, "attacker.py")), 1) if line.startswith("# --- ")]
    sys.path.insert(0, HERE)
    import attacker

    rows = {}
    for name, (function, expected) in attacker.ATTEMPTS.items():
        before = [heading for number, heading in headings if number < function.__code__.co_firstlineno]
        heading = re.split(r"[;,]", before[-1])[0].strip() if before else "others"
        text = (function.__doc__ or words(name)).split("\n")[0].rstrip(".")
        rows.setdefault(heading, []).append((text, "`%s`" % expected if expected else "what the other finds", name))
    return rows


def python_tests():
    """The tests beside this file, and some of the clients': layer, title, and rows."""
    here = [name for name in sorted(os.listdir(HERE)) if re.fullmatch(r"test_\w+\.py", name) and name != "test_attacks.py"]
    files = [(PYTHON.get(name[:-3]), os.path.join(HERE, name)) for name in here]
    files += [(layer, os.path.join(ROOT, "tests", name)) for name, layer in CLIENTS.items()]
    for layer, path in files:
        if not os.path.exists(path):
            continue
        name, source = os.path.basename(path), open(path).read()
        tree = ast.parse(source)
        rows = []
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                body = ast.get_source_segment(source, node) or ""
                text = (ast.get_docstring(node) or words(node.name)).split("\n")[0].rstrip(".")
                rows.append((text, shown(refusals(body)), "%s::%s" % (name, node.name)))
        title = (ast.get_docstring(tree) or words(name[:-3])).split("\n")[0].rstrip(".")
        yield layer, title, rows


def rust_tests():
    """The tests of the real binary in Rust that are about attacks."""
    folder = os.path.join(ROOT, "crates", "server", "tests", "it")
    for name in sorted(os.listdir(folder)):
        stem = name[:-3]
        if not name.endswith(".rs") or stem not in RUST:
            continue
        # A theme's further files are below a directory of its name.
        further = os.path.join(folder, stem)
        files = [(stem, os.path.join(folder, name))]
        if os.path.isdir(further):
            files += [("%s::%s" % (stem, one[:-3]), os.path.join(further, one)) for one in sorted(os.listdir(further)) if one.endswith(".rs")]
        rows = []
        for module, path in files:
            source = open(path).read()
            marks = list(re.finditer(r"#\[test\]\s*(?:#\[[^\]]*\]\s*)*fn (\w+)\(\)", source))
            for mark, following in zip(marks, marks[1:] + [None]):
                body = source[mark.end():following.start() if following else len(source)]
                # A test's body ends with its own last brace, at the margin.
                body = body.split("\n}\n")[0]
                rows.append((words(mark.group(1)), shown(refusals(body)), "%s::%s" % (module, mark.group(1))))
        yield RUST[stem], stem, rows


def table(rows):
    lines = ["| attempt | result | test |", "| --- | --- | --- |"]
    return lines + ["| %s | %s | `%s` |" % (cell(text), cell(result), test) for text, result, test in rows]


def page():
    layers = {key: [] for key in LAYERS}
    for heading, rows in attempts().items():
        layers["sandbox"].append(("From inside a function: " + heading, rows))
    for layer, title, rows in python_tests():
        layers.setdefault(layer or title, []).append((title, rows))
    for layer, stem, rows in rust_tests():
        layers[layer].append(("`cargo test -p server --test it -- %s::`" % stem, rows))
    count = sum(len(rows) for sections in layers.values() for _, rows in sections)
    lines = [
        "# Attacks",
        "",
        "Every attempt of the security tests by layer, with its defence and its visible result: an error, a status, or a pattern that all of the",
        "attempt's result must fit. %d of them. Written by `python tests/security/attacks.py` from the tests themselves; do not edit it." % count,
    ]
    for layer, sections in layers.items():
        if not any(rows for _, rows in sections):
            continue
        title, refuses = LAYERS.get(layer, (layer, ""))
        lines += ["", "## " + title, ""]
        if refuses:
            lines += ["Refused by: %s." % refuses]
        for heading, rows in sections:
            if rows:
                lines += ["", "### " + heading, ""] + table(rows)
    return "\n".join(lines) + "\n"


def main():
    made = page()
    if sys.argv[1:] == ["--check"]:
        is_so = os.path.exists(PAGE) and open(PAGE).read() == made
        if not is_so:
            print("tests/security/ATTACKS.md is not what the tests say; run: python tests/security/attacks.py")
        sys.exit(0 if is_so else 1)
    open(PAGE, "w").write(made)


if __name__ == "__main__":
    main()
