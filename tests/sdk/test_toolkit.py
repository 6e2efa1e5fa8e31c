"""A whole application through the Serverless tool-kit, over TLS: function, layer, triggers of every kind, alias, concurrency and tags;
updated and removed. The cloud's names resolve to virga within the tool-kit's own process, and nothing else of it is touched."""

import json
import os
import subprocess

import pytest

from virga import Server

HERE = os.path.dirname(os.path.abspath(__file__))
API, BUCKETS = "127.94.0.7", "127.94.0.8"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    flags = ("--network", "internal", "--tls-listen", API + ":443", "--bucket-tls-listen", BUCKETS + ":443")
    server = Server(tmp_path_factory.mktemp("virga") / "data", "toolkit", flags)
    yield server
    server.stop()


def test_an_application_is_deployed_updated_and_removed(server, tmp_path):
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"version": "2.0", "statement": [{"effect": "allow", "action": ["scf:List*"], "resource": ["*"]}]}))
    server.cli("role", "create", "SCF_QcsRole", "--policy", str(policy))
    ca = os.path.join(server.data, "tls", "ca.pem")
    environment = dict(server.environment(), NODE_PATH=os.environ["NODE_MODULES"], NODE_EXTRA_CA_CERTS=ca, ADDRESS=API, BUCKETS=BUCKETS,
                       APP_ID="1250000000", ROLE="SCF_QcsRole")
    del environment["ENDPOINT"]
    script = os.path.join(HERE, "node", "application.js")
    command = ["node", "--require", os.path.join(HERE, "node", "lookup.js"), script]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    text = done.stdout.decode()
    assert done.returncode == 0 and text.endswith("all is well\n"), text
    assert json.loads(server.cli("api", "ListFunctions"))["TotalCount"] == 0
