"""A function accesses buckets with its role's credentials, by both APIs, within the role's policy."""

import json

import pytest

from api import Api
from bucket_clients import ACCOUNT, REGION, S3
from package import package

# Requests signed for COS and for S3 with the credentials in a function's environment; each returns a status, and a body or a code.
ASKS = '''
import hashlib, hmac, os, re, time, urllib.error, urllib.request

SERVER = os.environ["VIRGA_BUCKETS"]
HOST = SERVER.split("//")[1]

def key(name):
    return os.environ["TENCENTCLOUD_" + name]

def cos(method, path, body):
    now = int(time.time())
    span = "%d;%d" % (now - 60, now + 600)
    sha1 = lambda key, text: hmac.new(key.encode(), text.encode(), hashlib.sha1).hexdigest()
    asked = "%s\\n%s\\n\\nhost=%s\\n" % (method.lower(), path, HOST.replace(":", "%3A"))
    signature = sha1(sha1(key("SECRETKEY"), span), "sha1\\n%s\\n%s\\n" % (span, hashlib.sha1(asked.encode()).hexdigest()))
    authorization = ("q-sign-algorithm=sha1&q-ak=%s&q-sign-time=%s&q-key-time=%s&q-header-list=host&q-url-param-list=&q-signature=%s"
                     % (key("SECRETID"), span, span, signature))
    return {"Authorization": authorization, "x-cos-security-token": key("SESSIONTOKEN")}

def s3(method, path, body):
    at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    digest = lambda data: hashlib.sha256(data).hexdigest()
    headers = {"host": HOST, "x-amz-content-sha256": digest(body), "x-amz-date": at, "x-amz-security-token": key("SESSIONTOKEN")}
    names = ";".join(headers)
    lines = "".join("%s:%s\\n" % pair for pair in headers.items())
    asked = "\\n".join([method, path, "", lines, names, digest(body)])
    scope = "%s/%s/s3/aws4_request" % (at[:8], key("REGION"))
    secret = ("AWS4" + key("SECRETKEY")).encode()
    for part in scope.split("/") + ["AWS4-HMAC-SHA256\\n%s\\n%s\\n%s" % (at, scope, digest(asked.encode()))]:
        secret = hmac.new(secret, part.encode(), hashlib.sha256).digest()
    del headers["host"]
    headers["Authorization"] = "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s" % (key("SECRETID"), scope, names, secret.hex())
    return headers

def main_handler(event, context):
    body = event.get("body", "").encode()
    sign = {"cos": cos, "s3": s3, "nobody": lambda *asked: {}}[event["by"]]
    headers = sign(event["method"], event["path"], body)
    request = urllib.request.Request(SERVER + event["path"], body or None, headers, method=event["method"])
    try:
        with urllib.request.urlopen(request) as answer:
            return [answer.status, answer.read().decode()]
    except urllib.error.HTTPError as refused:
        return [refused.code, (re.findall("<Code>(.*)</Code>", refused.read().decode()) + [""])[0]]
'''


@pytest.fixture(scope="module")
def ask(server, tmp_path_factory):
    """Asks for something from inside a function."""
    where = "qcs::cos:%s:uid/%s:of-roles-%s/" % (REGION, ACCOUNT, ACCOUNT)
    policy = {"version": "2.0", "statement": [
        {"effect": "allow", "action": ["name/cos:GetObject"], "resource": [where + "in/*"]},
        {"effect": "allow", "action": ["name/cos:PutObject"], "resource": [where + "out/*"]},
    ]}
    file = tmp_path_factory.mktemp("policy") / "policy.json"
    file.write_text(json.dumps(policy))
    server.cli("role", "create", "mover", "--policy", str(file))
    api = Api(server)
    api("CreateFunction", FunctionName="asks", Runtime="Python3.9", Role="mover", Code={"ZipFile": package(ASKS)})

    def ask(by, method, key, body=""):
        event = {"by": by, "method": method, "path": "/of-roles-%s/%s" % (ACCOUNT, key), "body": body}
        result = api("Invoke", FunctionName="asks", ClientContext=json.dumps(event)).Result
        assert result.InvokeResult == 0, result.ErrMsg
        return json.loads(result.RetMsg)

    ask.store = S3(server, "of-roles")
    ask.store.create()
    ask.store.put("in/k", b"rain")
    ask.store.put("other", b"hidden")
    ask.server = server
    return ask


@pytest.mark.parametrize("by", ["cos", "s3"])
def test_function_access_is_bounded_by_its_role(ask, by):
    assert ask(by, "GET", "in/k") == [200, "rain"]
    assert ask(by, "PUT", "out/" + by, "made inside")[0] == 200
    assert ask.store.get("out/" + by)[0] == b"made inside"
    for method, key, body in (("GET", "other", ""), ("GET", "out/" + by, ""), ("PUT", "in/k", "snow"), ("DELETE", "in/k", ""), ("GET", "", "")):
        assert ask(by, method, key, body) == [403, "AccessDenied"], (method, key)
    assert ask.store.get("in/k")[0] == b"rain"


def test_unsigned_function_request_is_anonymous(ask):
    assert ask("nobody", "GET", "in/k") == [403, "AccessDenied"]
    ask.store.set_acl("public-read", "other")
    assert ask("nobody", "GET", "other") == [200, "hidden"]
    ask.store.set_acl("private", "other")


def test_deleted_role_revokes_credentials(ask):
    assert ask("cos", "GET", "in/k")[0] == 200
    ask.server.cli("role", "delete", "mover", "--force")
    for by in ("cos", "s3"):
        assert ask(by, "GET", "in/k") == [403, "InvalidAccessKeyId"]
