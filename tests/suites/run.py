"""Runs other people's suites against virga, from copies outside this repository: see docs/compatibility.md.

    VIRGA=target/debug/virga python3 tests/suites/run.py SUITE=DIRECTORY … REPORTS

SUITE is cos-nodejs, cos-python or scf-demos. A suite's dependencies are installed in its directory (`npm install`), or in the Python that
runs this file. Each leaves a report in REPORTS, which record.py reads. Hosts of COS and of SCF lead to virga, all others
nowhere.
"""

import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

import demos  # noqa: E402
from virga import Server  # noqa: E402

API, BUCKETS = "127.95.0.9", "127.95.0.10"
APP_ID, UIN, REGION = "1250000000", "100000000001", "ap-guangzhou"
LOOKUP = os.path.join(os.path.dirname(HERE), "sdk", "node", "lookup.js")
# The names that Python resolves, as LOOKUP does it for Node.js; others fail at once.
RESOLVE = """
import socket
real = socket.getaddrinfo
def lookup(host, *rest, **more):
    if isinstance(host, str) and host.endswith((".myqcloud.com", ".tencentcos.cn")) and (".cos." in host or host.startswith("cos.")):
        host = %r
    elif host != "localhost" and not str(host).startswith("127."):
        raise socket.gaierror(-2, "Name or service not known: %%s" %% host)
    return real(host, *rest, **more)
socket.getaddrinfo = lookup
""" % BUCKETS


PREPARE = """
const COS = require("./index"), { SecretId, SecretKey, Bucket, Region } = process.env;
new COS({ SecretId, SecretKey }).putBucket({ Bucket, Region }, (error) => process.exit(error ? 1 : 0));
"""


class Cloud(Server):
    """A server at the cloud's own ports."""

    def start(self):
        place = self.command.index("--bucket-listen") + 1
        self.command[place] = BUCKETS + ":80"
        # It takes free user ids, so that it runs beside the tests.
        place = self.command.index("--uid-base")
        del self.command[place:place + 2]
        super().start()
        self.ca = os.path.join(self.data, "tls", "ca.pem")


class Issuer(http.server.BaseHTTPRequestHandler):
    """What COS's demos call their server for temporary credentials."""

    server_ours = None

    def do_GET(self):
        answer = json.dumps(issue(self.server_ours, self.path)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def issue(server, path):
    keys = json.loads(server.cli("role", "assume", "uploads", "--json"))
    now = int(time.time())
    credentials = {"tmpSecretId": keys["TmpSecretId"], "tmpSecretKey": keys["TmpSecretKey"], "sessionToken": keys["Token"]}
    answer = {"startTime": now - 60, "expiredTime": now + 1800, "credentials": credentials}
    if path == "/uploadSign":
        from qcloud_cos import CosConfig, CosS3Client
        client = CosS3Client(CosConfig(Region=REGION, SecretId=server.secret_id, SecretKey=server.secret_key))
        answer["signMap"] = {"PutObject": client.get_auth(Method="PUT", Bucket="nodejs-" + APP_ID, Key="1.txt")}
    return answer


def roles(server, directory):
    """The role of demos, and the one whose credentials COS's suite asks its server for: it may write below one prefix."""
    below = "qcs::cos:%s:uid/%s:nodejs-%s/nodejs-sdk/test/*" % (REGION, APP_ID, APP_ID)
    for name, actions, resource in (("suites", ["name/cos:*", "scf:*"], "*"), ("uploads", ["name/cos:*"], below)):
        policy = os.path.join(directory, name + ".json")
        with open(policy, "w") as file:
            json.dump({"version": "2.0", "statement": [
                {"effect": "allow", "action": actions, "resource": [resource]},
                {"effect": "allow", "action": ["name/cos:ListMultipartUploads"], "resource": ["*"]}]}, file)
        server.cli("role", "create", name, "--policy", policy)


def cos_nodejs(server, where, reports):
    Issuer.server_ours = server
    issuer = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Issuer)
    threading.Thread(target=issuer.serve_forever, daemon=True).start()
    environment = dict(os.environ, NODE_EXTRA_CA_CERTS=server.ca, ADDRESS=API, BUCKETS=BUCKETS, NODE_OPTIONS="--require " + LOOKUP, NO_PROXY="*",
                       SecretId=server.secret_id, SecretKey=server.secret_key, Bucket="nodejs-" + APP_ID, Region=REGION, Uin=UIN,
                       nodejssdkStsUrl="http://127.0.0.1:%d" % issuer.server_port)
    # The suite expects that its bucket is there.
    subprocess.run(["node", "-e", PREPARE], cwd=where, env=environment, check=True)
    command = ["node_modules/.bin/mocha", "--reporter", "json", "--exit", "test/test.js"]
    with open(os.path.join(reports, "cos-nodejs.json"), "w") as report:
        subprocess.run(command, cwd=where, env=environment, stdout=report)


def cos_python(server, where, reports):
    with tempfile.TemporaryDirectory() as site:
        open(os.path.join(site, "sitecustomize.py"), "w").write(RESOLVE)
        unset = ["COS_VECTORS_" + name for name in ("BUCKET", "BUCKET_FOR_CREATE_DELETE", "APPID", "SECRET_ID", "SECRET_KEY", "REGION", "USE_IP")]
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join([site, where, os.environ.get("PYTHONPATH", "")]), REQUESTS_CA_BUNDLE=server.ca, NO_PROXY="*",
                           COS_SECRET_ID=server.secret_id, COS_SECRET_KEY=server.secret_key, COS_REGION=REGION, COS_APPID=APP_ID,
                           ERR_HOST="127.0.0.1:9", TRAVIS_FLAG="false", TEST_CI="false", USE_CREDENTIAL_INST="false", **{name: "none" for name in unset})
        # The suite is nose's, whose setUp pytest no longer calls.
        open(os.path.join(site, "suites_setup.py"), "w").write(
            "import pytest\n@pytest.fixture(scope='session', autouse=True)\ndef prepared():\n    from ut import test\n    test.setUp()\n")
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "suites_setup", "-q", "--tb=short", "--timeout=60", "-o", "junit_family=xunit1",
                   "--junit-xml", os.path.join(reports, "cos-python.xml"), "ut/test.py"]
        with open(os.path.join(reports, "cos-python.log"), "w") as log:
            subprocess.run(command, cwd=where, env=environment, stdout=log, stderr=log)


def scf_demos(server, where, reports):
    from tencentcloud.common import common_client, credential
    from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
    from tencentcloud.common.profile import client_profile, http_profile
    profile = client_profile.ClientProfile(httpProfile=http_profile.HttpProfile(endpoint=server.address, protocol="http", reqTimeout=120))
    client = common_client.CommonClient("scf", "2018-04-16", credential.Credential(server.secret_id, server.secret_key), REGION, profile=profile)

    def api(action, fields):
        try:
            return client.call_json(action, fields)["Response"]
        except TencentCloudSDKException as refused:
            return {"Error": {"Code": refused.get_code(), "Message": refused.get_message()}}

    demos.prepare(server)
    # The libraries that SCF's runtimes contain.
    for runtime in demos.LAYERS:
        server.cli("layer", "ready", runtime, "--name", demos.layer(runtime), timeout=600)
    rows = []
    for name in sorted(os.listdir(where)):
        if os.path.isdir(os.path.join(where, name)) and not name.startswith("."):
            outcome, why = demos.run(api, os.path.join(where, name), server.secret_id, server.secret_key)
            print(name, outcome, why[:200], sep="\t", flush=True)
            rows.append([name, outcome, why])
    with open(os.path.join(reports, "scf-demos.json"), "w") as report:
        json.dump({"rows": rows}, report, indent=0)


SUITES = {"cos-nodejs": cos_nodejs, "cos-python": cos_python, "scf-demos": scf_demos}


def main(suites, reports):
    os.makedirs(reports, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        flags = ("--network", "internal", "--install-network", "host", "--tls-listen", API + ":443", "--bucket-tls-listen", BUCKETS + ":443")
        server = Cloud(os.path.join(directory, "data"), "suites", flags)
        try:
            roles(server, directory)
            for suite, where in suites:
                SUITES[suite](server, os.path.abspath(where), os.path.abspath(reports))
        finally:
            server.expect("")  # These suites send whatever they like.
            server.stop()


if __name__ == "__main__":
    main([one.split("=", 1) for one in sys.argv[1:-1]], sys.argv[-1])
