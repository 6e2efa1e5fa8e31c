"""Clients that speak TLS, some of them to hosts that they have built in. The names resolve to virga within their own processes."""

import json
import os
import subprocess
import sys

import pytest

from virga import Server

HERE = os.path.dirname(os.path.abspath(__file__))
ADDRESS = "127.94.0.1"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    flags = ("--network", "internal", "--tls-listen", ADDRESS + ":443")
    server = Server(tmp_path_factory.mktemp("virga") / "data", "tls", flags)
    yield server
    server.stop()


@pytest.fixture
def ca(server):
    return os.path.join(server.data, "tls", "ca.pem")


def test_tool_kit_client_deploys_to_its_builtin_host(server, ca):
    environment = dict(server.environment(), NODE_PATH=os.environ["NODE_MODULES"], NODE_EXTRA_CA_CERTS=ca, ADDRESS=ADDRESS)
    del environment["ENDPOINT"]
    command = ["node", "--require", os.path.join(HERE, "node", "lookup.js"), os.path.join(HERE, "node", "toolkit.js")]

    def run(environment):
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout.decode()

    code, text = run(environment)
    assert code == 0 and text.endswith("all is well\n"), text
    del environment["NODE_EXTRA_CA_CERTS"]
    code, text = run(environment)
    assert code != 0 and "certificate" in text, "it must not trust an authority that it was not configured with"


SDK = """
import json, os, socket
real = socket.getaddrinfo
socket.getaddrinfo = lambda host, *more, **also: real(os.environ["ADDRESS"] if host.endswith(".tencentcloudapi.com") else host, *more, **also)
from tencentcloud.common import credential
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.scf.v20180416 import models, scf_client
pair = credential.Credential(os.environ["TENCENTCLOUD_SECRET_ID"], os.environ["TENCENTCLOUD_SECRET_KEY"])
profile = ClientProfile(httpProfile=HttpProfile(certification=os.environ["CA"]))
client = scf_client.ScfClient(pair, "ap-guangzhou", profile)
print(client.ListNamespaces(models.ListNamespacesRequest()).TotalCount)
"""


def test_python_sdk_reaches_its_builtin_host_with_configured_ca(server, ca):
    environment = dict(server.environment(), CA=ca, ADDRESS=ADDRESS)
    done = subprocess.run([sys.executable, "-c", SDK], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert (done.returncode, done.stdout.decode()) == (0, "1\n"), done.stderr.decode()


def test_package_url_is_served_over_tls(server, ca):
    from package import FIRST, package

    server.cli("api", "CreateFunction", json.dumps({"FunctionName": "fetched", "Runtime": "Python3.9", "Code": {"ZipFile": package(FIRST)}}))
    script = SDK.replace("ListNamespaces(models.ListNamespacesRequest()).TotalCount", "call_json('GetFunctionAddress', {'FunctionName': 'fetched'})")
    environment = dict(server.environment(), CA=ca, ADDRESS=ADDRESS)
    done = subprocess.run([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert "https://scf.tencentcloudapi.com/packages/" in done.stdout.decode(), done.stderr.decode()
