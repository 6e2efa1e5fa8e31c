"""Operator endpoints and unauthenticated callers: metrics are for the loopback, holders of the token, or a listener of their own."""

import os
import ssl
import urllib.error
import urllib.request

import pytest

from virga import Server

TOKEN = "0123456789abcdef0123456789abcdef"


def ask(url, ca=None, **headers):
    request = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    context = ssl.create_default_context(cafile=ca) if ca else None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    flags = ("--network", "internal", "--tls-listen", "127.0.0.1:0")
    server = Server(tmp_path_factory.mktemp("virga") / "data", "faces", flags)
    server.ca = os.path.join(server.data, "tls", "ca.pem")
    server.port = server.tls.rsplit(":", 1)[1]
    yield server
    server.stop()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    directory = tmp_path_factory.mktemp("virga")
    token = directory / "token"
    token.write_text(TOKEN + "\n")
    flags = ("--network", "internal", "--tls-listen", "127.0.0.1:0", "--metrics-token", str(token))
    server = Server(directory / "data", "guarded", flags)
    server.ca = os.path.join(server.data, "tls", "ca.pem")
    server.port = server.tls.rsplit(":", 1)[1]
    yield server
    server.stop()


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    flags = ("--network", "internal", "--metrics-listen", "127.0.0.1:0")
    server = Server(tmp_path_factory.mktemp("virga") / "data", "apart", flags)
    yield server
    server.stop()


def test_metrics_over_tls_are_refused_to_everybody_without_a_token(secure):
    url = "https://localhost:%s" % secure.port
    status, page = ask(url + "/metrics", secure.ca)
    assert status == 403 and "virga_" not in page
    status, page = ask(url + "/metrics", secure.ca, Authorization="Bearer anything")
    assert status == 403 and "virga_" not in page
    assert ask(url + "/healthz", secure.ca) == (200, "ok\n")
    assert ask(url + "/readyz", secure.ca) == (200, "ready\n")
    status, page = ask("http://%s/metrics" % secure.address)
    assert status == 200 and "virga_instances" in page


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-Ip"])
def test_metrics_are_refused_through_a_proxy(secure, header):
    status, page = ask("http://%s/metrics" % secure.address, **{header: "203.0.113.9"})
    assert status == 403 and "virga_" not in page


def test_metrics_with_a_token_are_refused_without_it_from_anywhere(guarded):
    tls = "https://localhost:%s/metrics" % guarded.port
    for url, ca in [(tls, guarded.ca), ("http://%s/metrics" % guarded.address, None)]:
        for given in ({}, {"Authorization": "Bearer " + TOKEN[:-1]}, {"Authorization": "Bearer " + TOKEN.upper()}, {"Authorization": TOKEN}):
            status, page = ask(url, ca, **given)
            assert status == 401 and "virga_" not in page, (url, given)
        status, page = ask(url, ca, Authorization="Bearer " + TOKEN)
        assert status == 200 and "virga_instances" in page
    assert ask("http://%s/readyz" % guarded.address) == (200, "ready\n")


def test_metrics_listener_is_the_only_one_with_metrics(apart):
    assert ask("http://%s/metrics" % apart.address)[0] == 404
    status, page = ask("http://%s/metrics" % apart.metrics)
    assert status == 200 and "virga_instances" in page
    assert ask("http://%s/healthz" % apart.metrics) == (200, "ok\n")
    status, page = ask("http://%s/" % apart.metrics)
    assert status == 404, "the API is not there"
