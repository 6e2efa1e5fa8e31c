"""Function URLs, created through the official Python SDK and called over plain HTTP."""

import json
import urllib.error
import urllib.request

import pytest

from api import Api
from package import FIRST, package


@pytest.fixture(scope="module")
def api(server):
    return Api(server)


def test_url_lifecycle(api, server):
    api("CreateFunction", FunctionName="open", Runtime="Python3.9", Code={"ZipFile": package(FIRST)})
    desc = {"AuthType": "NONE", "NetConfig": {"EnableIntranet": False, "EnableExtranet": True}}
    made = api("CreateTrigger", FunctionName="open", TriggerName="url-trigger", Type="http", TriggerDesc=json.dumps(desc)).TriggerInfo
    shown = json.loads(made.TriggerDesc)
    assert (made.Type, made.Enable, shown["AuthType"], shown["NetConfig"]["IntranetUrl"]) == ("http", 1, "NONE", "")
    host = shown["NetConfig"]["ExtranetUrl"].split("//")[1]
    assert host.startswith("1250000000-%s.ap-guangzhou." % made.TriggerName)
    request = urllib.request.Request("http://%s/a?x=1" % server.address, data=b"body", headers={"Host": host}, method="PUT")
    answer = json.loads(urllib.request.urlopen(request).read())
    assert (answer["name"], answer["got"]["path"], answer["got"]["body"], answer["got"]["httpMethod"]) == ("open", "/a", "body", "PUT")
    assert json.loads(api("GetFunction", FunctionName="open").Triggers[0].TriggerDesc) == shown
    api("UpdateTrigger", FunctionName="open", TriggerName=made.TriggerName, Type="http", TriggerDesc=json.dumps({"AuthType": "CAM"}))
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen("http://%s/url/%s/" % (server.address, made.TriggerName))
    assert refused.value.code == 401
    assert json.loads(refused.value.read())["statusCode"] == 401
    api("DeleteTrigger", FunctionName="open", TriggerName=made.TriggerName, Type="http")
    assert api("ListTriggers", FunctionName="open").TotalCount == 0


def test_refused_requests(api):
    api("CreateFunction", FunctionName="once", Runtime="Python3.9", Code={"ZipFile": package(FIRST)})
    api("CreateTrigger", FunctionName="once", TriggerName="url", Type="http")
    assert api.code("CreateTrigger", FunctionName="once", TriggerName="url", Type="http") == "ResourceInUse.Trigger"
    wrong = json.dumps({"AuthType": "BASIC"})
    assert api.code("CreateTrigger", FunctionName="once", TriggerName="url", Type="http", Qualifier="$DEFAULT",
                    TriggerDesc=wrong) == "InvalidParameterValue.TriggerDesc"
