"""The official Python SDK through the whole life of a function, and through every action that virga serves."""

import base64
import hashlib
import json
import time
import urllib.request

import pytest

from api import Api
from package import FAILS, FIRST, SECOND, package


@pytest.fixture(scope="module")
def api(server):
    return Api(server)


def wait_until_active(api, name):
    for _ in range(1200):
        shown = api("GetFunction", FunctionName=name)
        if shown.Status not in ("Creating", "Updating"):
            return shown
        time.sleep(0.1)
    raise AssertionError("it never became active")


def invoke(api, name, event, **more):
    return api("Invoke", FunctionName=name, ClientContext=json.dumps(event), **more).Result


def test_function_lifecycle(api):
    variables = {"Variables": [{"Key": "COLOUR", "Value": "grey"}]}
    created = api("CreateFunction", FunctionName="life", Runtime="Python3.9", Handler="index.main_handler", MemorySize=128, Timeout=5,
                  Description="a life", Code={"ZipFile": package(FIRST)}, Environment=variables)
    assert created.RequestId
    shown = wait_until_active(api, "life")
    assert (shown.Status, shown.Runtime, shown.Timeout, shown.Environment.Variables[0].Key) == ("Active", "Python3.9", 5, "COLOUR")
    result = invoke(api, "life", {"a": [1, "\u4f60"]}, LogType="Tail")
    assert result.InvokeResult == 0
    assert json.loads(result.RetMsg) == {"got": {"a": [1, "\u4f60"]}, "name": "life"}
    assert "first" in result.Log and result.MemUsage > 0 and result.Duration > 0
    found = api("GetFunctionLogs", FunctionName="life", FunctionRequestId=result.FunctionRequestId)
    assert found.TotalCount == 1 and "first" in found.Data[0].Log
    address = api("GetFunctionAddress", FunctionName="life")
    content = urllib.request.urlopen(address.Url).read()
    assert hashlib.sha256(content).hexdigest() == address.CodeSha256
    assert base64.b64encode(content).decode() == package(FIRST)
    api("UpdateFunctionCode", FunctionName="life", ZipFile=package(SECOND))
    wait_until_active(api, "life")
    assert invoke(api, "life", {}).RetMsg == '"grey"'
    variables = {"Variables": [{"Key": "COLOUR", "Value": "blue"}]}
    api("UpdateFunctionConfiguration", FunctionName="life", MemorySize=256, Environment=variables)
    assert wait_until_active(api, "life").MemorySize == 256
    assert api("InvokeFunction", FunctionName="life", Event="{}").Result.RetMsg == '"blue"'
    api("CopyFunction", FunctionName="life", NewFunctionName="copy")
    assert invoke(api, "copy", {}).RetMsg == '"blue"'
    names = [function.FunctionName for function in api("ListFunctions", Orderby="FunctionName", Order="ASC").Functions]
    assert names == ["copy", "life"]
    for name in names:
        api("DeleteFunction", FunctionName=name)
        assert api.code("GetFunction", FunctionName=name) == "ResourceNotFound.Function"
    assert api("ListFunctions").TotalCount == 0


def test_namespaces(api):
    api("CreateNamespace", Namespace="checks", Description="one")
    api("UpdateNamespace", Namespace="checks", Description="two")
    listed = {space.Name: space.Description for space in api("ListNamespaces").Namespaces}
    assert listed == {"default": "", "checks": "two"}
    api("CreateFunction", FunctionName="there", Namespace="checks", Runtime="Python3.9", Code={"ZipFile": package(FIRST)})
    assert api.code("DeleteNamespace", Namespace="checks") == "ResourceInUse.Namespace"
    api("DeleteFunction", FunctionName="there", Namespace="checks")
    api("DeleteNamespace", Namespace="checks")
    assert api.code("ListFunctions", Namespace="checks") == "ResourceNotFound.Namespace"


def test_a_failure_of_the_function_is_a_result_and_one_of_the_api_an_exception(api):
    api("CreateFunction", FunctionName="fails", Runtime="Python3.9", Code={"ZipFile": package(FAILS)})
    result = invoke(api, "fails", {})
    document = json.loads(result.RetMsg)
    assert result.InvokeResult == 1
    assert (document["errorCode"], document["statusCode"]) == (-1, 430)
    assert "ValueError: on purpose" in document["stackTrace"]
    assert api.code("CreateFunction", FunctionName="fails", Code={"ZipFile": package(FAILS)}) == "ResourceInUse.FunctionName"
    assert api.code("Invoke", FunctionName="nobody") == "ResourceNotFound.Function"
    api("DeleteFunction", FunctionName="fails")


def test_versions_and_aliases(api):
    api("CreateFunction", FunctionName="versions", Runtime="Python3.9", Code={"ZipFile": package(FIRST)})
    first = api("PublishVersion", FunctionName="versions", Description="the first")
    assert (first.FunctionVersion, first.Description, first.Runtime) == ("1", "the first", "Python3.9")
    api("UpdateFunctionCode", FunctionName="versions", ZipFile=package(SECOND), Publish="TRUE")
    listed = api("ListVersionByFunction", FunctionName="versions", Order="ASC")
    assert (listed.FunctionVersion, listed.TotalCount) == (["$LATEST", "1", "2"], 3)
    assert [one.Status for one in listed.Versions] == ["Active"] * 3
    routing = {"AdditionalVersionWeights": [{"Version": "2", "Weight": 1}]}
    api("CreateAlias", FunctionName="versions", Name="live", FunctionVersion="1", Description="what users see")
    assert "got" in json.loads(invoke(api, "versions", {}, Qualifier="live").RetMsg)
    api("UpdateAlias", FunctionName="versions", Name="live", FunctionVersion="1", RoutingConfig=routing)
    assert json.loads(invoke(api, "versions", {}, Qualifier="live").RetMsg) == "none"
    alias = api("GetAlias", FunctionName="versions", Name="live")
    assert (alias.FunctionVersion, alias.Description) == ("1", "what users see")
    assert [(one.Version, one.Weight) for one in alias.RoutingConfig.AdditionalVersionWeights] == [("2", 1)]
    assert [one.Name for one in api("ListAliases", FunctionName="versions").Aliases] == ["$DEFAULT", "live"]
    assert api.code("DeleteFunctionVersion", FunctionName="versions", Qualifier="2") == "UnsupportedOperation.AliasBind"
    api("DeleteAlias", FunctionName="versions", Name="live")
    api("DeleteFunctionVersion", FunctionName="versions", Qualifier="2")
    refusals = [
        ("PublishVersion", {"FunctionName": "nobody"}, "ResourceNotFound.Function"),
        ("PublishVersion", {"FunctionName": "versions", "Description": "x" * 1001}, "InvalidParameterValue.Description"),
        ("ListVersionByFunction", {"FunctionName": "nobody"}, "ResourceNotFound.Function"),
        ("ListVersionByFunction", {"FunctionName": "versions", "Limit": -1}, "InvalidParameterValue.Limit"),
        ("DeleteFunctionVersion", {"FunctionName": "versions", "Qualifier": "2"}, "ResourceNotFound.FunctionVersion"),
        ("CreateAlias", {"FunctionName": "versions", "Name": "live", "FunctionVersion": "2"}, "ResourceNotFound.FunctionVersion"),
        ("CreateAlias", {"FunctionName": "versions", "Name": "-", "FunctionVersion": "1"}, "InvalidParameterValue.Alias"),
        ("UpdateAlias", {"FunctionName": "versions", "Name": "live", "FunctionVersion": "1"}, "ResourceNotFound.Alias"),
        ("UpdateAlias", {"FunctionName": "versions", "Name": "$DEFAULT", "FunctionVersion": "x"}, "InvalidParameterValue"),
        ("GetAlias", {"FunctionName": "versions", "Name": "live"}, "ResourceNotFound.Alias"),
        ("GetAlias", {"FunctionName": "nobody", "Name": "live"}, "ResourceNotFound.Function"),
        ("ListAliases", {"FunctionName": "nobody"}, "ResourceNotFound.Function"),
        ("ListAliases", {"FunctionName": "versions", "Limit": "many"}, "InvalidParameterValue"),
        ("DeleteAlias", {"FunctionName": "versions", "Name": "live"}, "ResourceNotFound.Alias"),
        ("DeleteAlias", {"FunctionName": "versions", "Name": "$DEFAULT"}, "FailedOperation.DeleteAlias"),
    ]
    for action, fields, code in refusals:
        assert api.code(action, **fields) == code, (action, fields)
    api("DeleteFunction", FunctionName="versions")


def test_layers(api):
    code = {"ZipFile": package("WORD = 'shared'\n", "shared.py")}
    published = api("PublishLayerVersion", LayerName="common", CompatibleRuntimes=["Python3.9"], Content=code, Description="of all", LicenseInfo="MIT")
    assert published.LayerVersion == 1
    layer = api("GetLayerVersion", LayerName="common", LayerVersion=1)
    assert (layer.Status, layer.CompatibleRuntimes, layer.Description, layer.LicenseInfo) == ("Active", ["Python3.9"], "of all", "MIT")
    content = urllib.request.urlopen(layer.Location).read()
    assert hashlib.sha256(content).hexdigest() == layer.CodeSha256
    assert [one.LayerName for one in api("ListLayers", SearchKey="com").Layers] == ["common"]
    assert [one.LayerVersion for one in api("ListLayerVersions", LayerName="common").LayerVersions] == [1]
    source = "import shared\ndef main_handler(event, context):\n    return shared.WORD\n"
    held = [{"LayerName": "common", "LayerVersion": 1}]
    api("CreateFunction", FunctionName="layered", Runtime="Python3.9", Code={"ZipFile": package(source)}, Layers=held)
    assert json.loads(invoke(api, "layered", {}).RetMsg) == "shared"
    assert [(one.LayerName, one.LayerVersion) for one in api("GetFunction", FunctionName="layered").Layers] == [("common", 1)]
    api("DeleteLayerVersion", LayerName="common", LayerVersion=1)
    assert json.loads(invoke(api, "layered", {}).RetMsg) == "shared"
    refusals = [
        ("PublishLayerVersion", {"LayerName": "!", "CompatibleRuntimes": ["Python3.9"], "Content": code}, "InvalidParameterValue.LayerName"),
        ("PublishLayerVersion", {"LayerName": "common", "CompatibleRuntimes": [], "Content": code}, "InvalidParameterValue"),
        ("GetLayerVersion", {"LayerName": "common", "LayerVersion": 1}, "ResourceNotFound.Layer"),
        ("GetLayerVersion", {"LayerName": "", "LayerVersion": 1}, "InvalidParameterValue.LayerName"),
        ("ListLayers", {"Limit": 1000}, "InvalidParameterValue.Limit"),
        ("ListLayers", {"Offset": -1}, "InvalidParameterValue.Offset"),
        ("ListLayerVersions", {"LayerName": "nothing"}, "ResourceNotFound.Layer"),
        ("ListLayerVersions", {"LayerName": "-"}, "InvalidParameterValue.LayerName"),
        ("DeleteLayerVersion", {"LayerName": "common", "LayerVersion": 1}, "ResourceNotFound.Layer"),
        ("DeleteLayerVersion", {"LayerName": "-", "LayerVersion": 1}, "InvalidParameterValue.LayerName"),
    ]
    for action, fields, expected in refusals:
        assert api.code(action, **fields) == expected, (action, fields)
    api("DeleteFunction", FunctionName="layered")


@pytest.mark.parametrize("method,verb,unsigned", [
    ("TC3-HMAC-SHA256", "POST", False),
    ("TC3-HMAC-SHA256", "GET", False),
    ("TC3-HMAC-SHA256", "POST", True),
    ("HmacSHA1", "POST", False),
    ("HmacSHA1", "GET", False),
    ("HmacSHA256", "POST", False),
    ("HmacSHA256", "GET", False),
])
def test_every_way_to_sign(server, method, verb, unsigned):
    api = Api(server, method, verb, unsigned)
    variables = {"Variables": [{"Key": "COLOUR", "Value": "a b&c=d"}]}
    api("CreateFunction", FunctionName="signed", Runtime="Python3.9", MemorySize=128, Code={"ZipFile": package(SECOND)}, Environment=variables)
    assert invoke(api, "signed", {"x": "y z"}).RetMsg == '"a b&c=d"'
    api("DeleteFunction", FunctionName="signed")
    other = Api(server, method, verb, unsigned, key="wrong")
    assert other.code("ListFunctions") == "AuthFailure.SignatureFailure"


def test_an_endpoint_with_a_scheme(server):
    assert Api(server, endpoint="http://" + server.address)("ListFunctions").TotalCount == 0
