"""Runs Ceph's tests for servers of S3's API against virga, and keeps what came of each: see docs/compatibility.md.

    git clone https://github.com/ceph/s3-tests /somewhere/s3-tests
    python3 -m venv /somewhere/venv && /somewhere/venv/bin/pip install -r /somewhere/s3-tests/requirements.txt pytest-timeout
    VIRGA=target/debug/virga python3 tests/s3tests/run.py /somewhere/s3-tests /somewhere/venv/bin/python [-k expression]

The tests are not part of this repository. Without `-k`, `results.tsv` beside this file is written anew; `table.py` makes the page's table of it.
"""

import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

from virga import Server  # noqa: E402

CONFIG = """
[DEFAULT]
host = {host}
port = {port}
is_secure = False
ssl_verify = False
[fixtures]
bucket prefix = s3t-{{random}}-
iam name prefix = s3-tests-
iam path prefix = /s3-tests/
"""

USER = """
[{section}]
display_name = {owner}
user_id = {owner}
email = {name}@example.com
api_name = ap-guangzhou
access_key = {key}
secret_key = {secret}
"""


def user(server, section, name):
    account = json.loads(server.cli("account", "create", name))
    key = json.loads(server.cli("key", "create", "--account", str(account["AppId"])))
    if section == "s3 main":
        os.environ["APP_ID"] = str(account["AppId"])
    owner = "qcs::cam::uin/{0}:uin/{0}".format(account["Uin"])
    return USER.format(section=section, owner=owner, name=name, key=key["SecretId"], secret=key["SecretKey"])


def main(tests, python, more):
    with tempfile.TemporaryDirectory() as directory:
        server = Server(os.path.join(directory, "data"), "s3tests")
        try:
            host, port = server.buckets.split(":")
            text = CONFIG.format(host=host, port=port)
            for section in ("s3 main", "s3 alt", "s3 tenant", "iam", "iam root", "iam alt root"):
                text += user(server, section, section.replace(" ", "-"))
            text = text.replace("[s3 tenant]", "[s3 tenant]\ntenant = virga")
            config = os.path.join(directory, "s3tests.conf")
            open(config, "w").write(text)
            found = os.path.join(directory, "found.jsonl")
            environment = dict(os.environ, S3TEST_CONF=config, RESULTS=found, PYTHONPATH=os.pathsep.join([HERE, tests]), AWS_EC2_METADATA_DISABLED="true")
            command = [python, "-m", "pytest", "-p", "record", "-p", "no:cacheprovider", "-q", "--tb=no", "--no-header", "--timeout=60",
                       "s3tests/functional/test_s3.py"] + more
            subprocess.run(command, cwd=tests, env=environment)
            results = [json.loads(line) for line in open(found)]
        finally:
            server.expect("")  # These suites send whatever they like.
            server.stop()
    if more:
        for one in results:
            print(one["outcome"], one["name"], one["why"][:200], ",".join(one["marks"]), sep="\t")
        return
    with open(os.path.join(HERE, "results.tsv"), "w") as file:
        for one in results:
            file.write("\t".join([one["name"], one["outcome"], ",".join(one["marks"]), one["why"].replace("\t", " ")[:160]]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
