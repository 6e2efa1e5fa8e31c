"""Triggers of the API gateway through the official Python SDK, called and signed as the gateway's users do."""

import base64
import email.utils
import hashlib
import hmac
import json
import urllib.error
import urllib.request

import pytest

from api import Api
from package import FIRST, package

# The requests of Serverless Framework and of the cloud's own command line.
USUAL = {
    "api": {"authRequired": "FALSE", "requestConfig": {"method": "ANY"}, "isIntegratedResponse": "FALSE"},
    "service": {"serviceName": "SCF_API_SERVICE"},
    "release": {"environmentName": "release"},
}
INTEGRATED = "def main_handler(event, context):\n    return {'isBase64Encoded': False, 'statusCode': 201, 'headers': {'X-Own': 'yes'}, 'body': event['body']}\n"


@pytest.fixture(scope="module")
def api(server):
    return Api(server)


def ask(server, shown, below="", headers=None, **more):
    """Asks an API at its host, which has no name here."""
    host, path = shown["service"]["subDomain"].split("//")[1].split("/", 1)
    request = urllib.request.Request("http://%s/%s%s" % (server.address, path, below), headers=dict(headers or {}, Host=host), **more)
    return urllib.request.urlopen(request)


def signed(server):
    date, source = email.utils.formatdate(usegmt=True), "xxxxxx"
    text = "x-date: %s\nsource: %s" % (date, source)
    digest = hmac.new(server.secret_key.encode(), text.encode(), hashlib.sha1).digest()
    authorization = 'hmac id="%s", algorithm="hmac-sha1", headers="x-date source", signature="%s"' % (
        server.secret_id, base64.b64encode(digest).decode())
    return {"Source": source, "X-Date": date, "Authorization": authorization}


def test_api_gateway_lifecycle(api, server):
    api("CreateFunction", FunctionName="legacy", Runtime="Python3.9", Code={"ZipFile": package(FIRST)})
    of_it = {"FunctionName": "legacy", "TriggerName": "gateway", "Type": "apigw"}
    made = api("CreateTrigger", TriggerDesc=json.dumps(USUAL), **of_it).TriggerInfo
    shown = json.loads(made.TriggerDesc)
    assert (made.TriggerName, made.Type, made.Enable) == ("gateway", "apigw", 1)
    assert shown["service"]["subDomain"].endswith("/release/legacy")
    assert json.loads(api("ListTriggers", FunctionName="legacy").Triggers[0].TriggerDesc) == shown
    assert json.loads(api("GetFunction", FunctionName="legacy").Triggers[0].TriggerDesc) == shown
    event = json.loads(ask(server, shown, "/a?x=1&x=2", data=b"body", method="PUT").read())["got"]
    assert (event["path"], event["httpMethod"], event["body"], event["queryString"]) == ("/legacy/a", "PUT", "body", {"x": ["1", "2"]})
    context = event["requestContext"]
    assert (context["stage"], context["path"], context["httpMethod"]) == ("release", "/legacy", "ANY")
    assert context["serviceId"] == shown["service"]["serviceId"]
    # Sending the shown document back is idempotent.
    api("UpdateTrigger", TriggerDesc=made.TriggerDesc, **of_it)
    assert json.loads(api("ListTriggers", FunctionName="legacy").Triggers[0].TriggerDesc) == shown
    for enable, status in (("CLOSE", 403), ("OPEN", 200)):
        api("UpdateTriggerStatus", Enable=enable, **of_it)
        assert api("ListTriggers", FunctionName="legacy").Triggers[0].Enable == (enable == "OPEN")
        try:
            assert ask(server, shown).status == status
        except urllib.error.HTTPError as refused:
            assert refused.code == status
    api("DeleteTrigger", **of_it)
    assert api("ListTriggers", FunctionName="legacy").TotalCount == 0


def test_integrated_replies_and_key_pairs(api, server):
    api("CreateFunction", FunctionName="paired", Runtime="Python3.9", Code={"ZipFile": package(INTEGRATED)})
    desc = {"api": {"authRequired": "TRUE", "isIntegratedResponse": "TRUE", "requestConfig": {"method": "POST"}}}
    made = api("CreateTrigger", FunctionName="paired", TriggerName="gateway", Type="apigw", TriggerDesc=json.dumps(desc)).TriggerInfo
    shown = json.loads(made.TriggerDesc)
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(server, shown, data=b"body")
    assert refused.value.code == 401
    assert "a validate authorization header is required" in json.loads(refused.value.read())["message"]
    reply = ask(server, shown, headers=signed(server), data=b"body")
    assert (reply.status, reply.headers["X-Own"], reply.read()) == (201, "yes", b"body")
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(server, shown, headers=signed(server))
    assert (refused.value.code, json.loads(refused.value.read())) == (404, {"message": "There is no api match method 'GET'"})


def test_refused_requests(api):
    api("CreateFunction", FunctionName="refused", Runtime="Python3.9", Code={"ZipFile": package(FIRST)})
    create = {"FunctionName": "refused", "TriggerName": "gateway", "Type": "apigw"}
    for desc, code in [
        ({"api": {"requestConfig": {"method": "PATCH"}}}, "InvalidParameterValue.TriggerDesc"),
        ({"release": {"environmentName": "dev"}}, "InvalidParameterValue.TriggerDesc"),
        ({"service": {"serviceId": "service-abcdefgh"}}, "UnsupportedOperation"),
        ({"api": {"authType": "OAUTH"}}, "UnsupportedOperation"),
    ]:
        assert api.code("CreateTrigger", TriggerDesc=json.dumps(desc), **create) == code, desc
    api("CreateTrigger", **create)
    assert api.code("CreateTrigger", **create) == "ResourceInUse.TriggerName"
