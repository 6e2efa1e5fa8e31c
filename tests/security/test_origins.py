"""Functions of several tenants behind one host: origin headers of one function never affect the others in a browser.

By path (`/url/<id>/`) all functions share an origin, so headers that are bound to an origin are removed both ways. By host each has its own.
"""

import base64
import http.client
import io
import json
import os
import sys
import zipfile

import pytest

from api import Api
from package import package
from virga import Server

BOOTSTRAP = "#!/bin/bash\nexec %s /var/user/app.py\n" % os.path.realpath(sys.executable)

ORIGINS = {
    "Set-Cookie": "session=stolen; Path=/",
    "Service-Worker-Allowed": "/",
    "Clear-Site-Data": '"*"',
    "Strict-Transport-Security": "max-age=31536000",
    "Alt-Svc": 'h2="other.example:443"',
    "Report-To": '{"group": "x", "max_age": 1, "endpoints": []}',
    "Reporting-Endpoints": 'x="https://other.example"',
    "NEL": '{"report_to": "x", "max_age": 1}',
    "Accept-CH": "Sec-CH-UA",
    "Origin-Agent-Cluster": "?0",
    "WWW-Authenticate": 'Basic realm="all"',
    "Secure-Session-Registration": '(ES256);path="/x"',
    "Shared-Storage-Write": "clear",
}
EVENT = """
import json
HEADERS = json.loads(%r)
def main_handler(event, context):
    seen = json.dumps(sorted(name.lower() for name in event["headers"]))
    return {"statusCode": 200, "headers": dict(HEADERS, **{"Content-Type": "text/html", "X-Own": "kept", "X-Saw": seen}), "body": "<html>"}
""" % json.dumps(ORIGINS)
WEB = """
import json
from http.server import BaseHTTPRequestHandler, HTTPServer
HEADERS = json.loads(%r)
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        upgrade = self.headers.get("Upgrade")
        self.send_response(101 if upgrade else 200)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("X-Own", "kept")
        self.send_header("X-Saw", json.dumps(sorted(name.lower() for name in self.headers)))
        if upgrade:
            self.send_header("Upgrade", upgrade)
            self.send_header("Connection", "Upgrade")
        else:
            self.send_header("Content-Length", "6")
        self.end_headers()
        if not upgrade:
            self.wfile.write(b"<html>")
        self.close_connection = bool(upgrade)
HTTPServer(("0.0.0.0", 9000), Handler).serve_forever()
""" % json.dumps(ORIGINS)


def web_package():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        info = zipfile.ZipInfo("scf_bootstrap")
        info.external_attr = 0o755 << 16
        archive.writestr(info, BOOTSTRAP)
        archive.writestr("app.py", WEB)
    return base64.b64encode(packed.getvalue()).decode()


def url(api, name):
    made = api("CreateTrigger", FunctionName=name, TriggerName="url", Type="http", TriggerDesc=json.dumps({"AuthType": "NONE", "NetConfig": {"EnableExtranet": True}}))
    return made.TriggerInfo.TriggerName


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("virga") / "data", "origins")
    api = Api(server)
    api("CreateFunction", FunctionName="event", Runtime="Python3.9", Code={"ZipFile": package(EVENT)})
    api("CreateFunction", FunctionName="web", Type="HTTP", Runtime="Python3.9", InitTimeout=60, Code={"ZipFile": web_package()})
    server.ids = {name: url(api, name) for name in ("event", "web")}
    yield server
    server.stop()


def ask(address, path, host=None, **headers):
    connection = http.client.HTTPConnection(address, timeout=20)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if host:
        headers["Host"] = host
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    head = answer.status, answer.headers
    if answer.status != 101:
        answer.read()
    connection.close()
    return head


def hosts(server, kind):
    return "1250000000-%s.ap-guangzhou.localhost" % server.ids[kind]


def present(headers):
    return sorted(name for name in ORIGINS if headers.get(name) is not None)


@pytest.mark.parametrize("kind", ["event", "web"])
def test_page_by_path_cannot_set_origin_headers(world, kind):
    status, headers = ask(world.address, "/url/%s/" % world.ids[kind])
    assert status == 200 and headers["X-Own"] == "kept"
    assert present(headers) == []
    assert headers["X-Virga-Origin"] == "shared"
    policies = [policy for policy in headers.get_all("Content-Security-Policy") if policy.startswith("sandbox ")]
    assert policies and "allow-same-origin" not in policies[0]


@pytest.mark.parametrize("kind", ["event", "web"])
def test_shared_origin_cookies_reach_no_function(world, kind):
    _, headers = ask(world.address, "/url/%s/" % world.ids[kind], Cookie="session=of-another", X_Mine="1")
    saw = json.loads(headers["X-Saw"])
    assert "x-mine" in saw and "cookie" not in saw


@pytest.mark.parametrize("kind", ["event", "web"])
def test_a_service_worker_by_path_is_refused(world, kind):
    status, headers = ask(world.address, "/url/%s/sw.js" % world.ids[kind], Service_Worker="script")
    assert status == 403 and headers.get("X-Own") is None


def test_websocket_by_path_gets_no_cookies(world):
    status, headers = ask(world.address, "/url/%s/" % world.ids["web"], Upgrade="websocket", Connection="Upgrade", Cookie="session=of-another",
                          Sec_WebSocket_Key=base64.b64encode(b"0" * 16).decode(), Sec_WebSocket_Version="13")
    assert status == 101 and present(headers) == [] and "cookie" not in json.loads(headers["X-Saw"])


@pytest.mark.parametrize("kind", ["event", "web"])
def test_function_by_host_has_its_own_origin(world, kind):
    status, headers = ask(world.address, "/", hosts(world, kind), Cookie="session=its-own")
    assert status == 200 and present(headers) == sorted(ORIGINS)
    assert "cookie" in json.loads(headers["X-Saw"])
    assert headers.get("X-Virga-Origin") is None and headers.get("Content-Security-Policy") is None


def test_the_url_that_is_shown_is_the_host_s(world):
    shown = json.loads(world.cli("api", "ListTriggers", json.dumps({"FunctionName": "event"})))
    assert hosts(world, "event") in json.dumps(shown)
    assert "/url/" not in json.loads(shown["Triggers"][0]["TriggerDesc"])["NetConfig"].get("ExtranetUrl", "")


def test_url_paths_can_be_disabled(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("virga") / "data", "hostsonly", ("--network", "internal", "--url-paths", "off"))
    api = Api(server)
    api("CreateFunction", FunctionName="event", Runtime="Python3.9", Code={"ZipFile": package(EVENT)})
    server.ids = {"event": url(api, "event")}
    assert ask(server.address, "/url/%s/" % server.ids["event"])[0] == 404
    assert ask(server.address, "/", hosts(server, "event"))[0] == 200
    server.stop()
