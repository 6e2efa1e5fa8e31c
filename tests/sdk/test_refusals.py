"""Refused requests of every action on functions, namespaces, layers and the account, with their error codes."""

import json

import pytest

from api import Api
from package import FIRST, package

NOBODY = {"FunctionName": "nobody"}
NOWHERE = {"FunctionName": "taken", "Namespace": "nowhere"}
NEW = {"FunctionName": "fresh", "Runtime": "Python3.9", "Code": {"ZipFile": package(FIRST)}}
LAYER = {"LayerName": "fresh", "CompatibleRuntimes": ["Python3.9"], "Content": {"ZipFile": package(FIRST)}}

# Where a function `taken` and a layer `taken` are.
ROWS = [
    ("CopyFunction", {"FunctionName": "nobody", "NewFunctionName": "fresh"}, "ResourceNotFound.Function"),
    ("CopyFunction", {"FunctionName": "taken", "NewFunctionName": "taken"}, "ResourceInUse.FunctionName"),
    ("CopyFunction", {"FunctionName": "taken", "NewFunctionName": "fresh", "TargetNamespace": "nowhere"}, "ResourceNotFound.Namespace"),
    ("CreateFunction", dict(NEW, FunctionName="taken"), "ResourceInUse.FunctionName"),
    ("CreateFunction", dict(NEW, FunctionName="1"), "InvalidParameterValue.FunctionName"),
    ("CreateFunction", dict(NEW, Code={"ZipFile": "UEs="}), "InvalidParameterValue.ZipFile"),
    ("CreateFunction", dict(NEW, MemorySize=100), "InvalidParameterValue.MemorySize"),
    ("CreateFunction", dict(NEW, Timeout=901), "LimitExceeded.Timeout"),
    ("CreateFunction", dict(NEW, Runtime="Cobol"), "InvalidParameterValue.Runtime"),
    ("CreateFunction", dict(NEW, Handler="x"), "InvalidParameterValue.Handler"),
    ("CreateFunction", dict(NEW, Namespace="nowhere"), "ResourceNotFound.Namespace"),
    ("CreateNamespace", {"Namespace": "default"}, "ResourceInUse.Namespace"),
    ("CreateNamespace", {"Namespace": "1"}, "InvalidParameterValue.NamespaceInvalid"),
    ("DeleteFunction", NOBODY, "ResourceNotFound.Function"),
    ("DeleteFunction", NOWHERE, "ResourceNotFound.Namespace"),
    ("DeleteNamespace", {"Namespace": "nowhere"}, "ResourceNotFound.Namespace"),
    ("DeleteNamespace", {"Namespace": "default"}, "InvalidParameterValue.DefaultNamespace"),
    ("DeleteNamespace", {"Namespace": "1"}, "InvalidParameterValue.NamespaceInvalid"),
    ("GetFunction", NOBODY, "ResourceNotFound.Function"),
    ("GetFunction", NOWHERE, "ResourceNotFound.Namespace"),
    ("GetFunction", {"FunctionName": "taken", "Qualifier": "7"}, "ResourceNotFound.FunctionVersion"),
    ("GetFunctionAddress", NOBODY, "ResourceNotFound.Function"),
    ("GetFunctionAddress", NOWHERE, "ResourceNotFound.Namespace"),
    ("GetFunctionLogs", {"FunctionName": "1"}, "InvalidParameterValue.FunctionName"),
    ("GetFunctionLogs", {"FunctionName": "taken", "Limit": 10001}, "LimitExceeded.Offset"),
    ("GetFunctionLogs", {"FunctionName": "taken", "FunctionRequestId": "x"}, "InvalidParameterValue.FunctionRequestId"),
    ("GetLayerVersion", {"LayerName": "nothing", "LayerVersion": 1}, "ResourceNotFound.Layer"),
    ("GetLayerVersion", {"LayerName": "taken", "LayerVersion": 7}, "ResourceNotFound.LayerVersion"),
    ("Invoke", NOBODY, "ResourceNotFound.Function"),
    ("Invoke", {"FunctionName": "taken", "Qualifier": "7"}, "ResourceNotFound.Qualifier"),
    ("Invoke", {"FunctionName": "taken", "InvocationType": "Sometimes"}, "InvalidParameterValue.InvokeType"),
    ("InvokeFunction", NOBODY, "ResourceNotFound.Function"),
    ("InvokeFunction", {"FunctionName": "taken", "Event": "{"}, "InvalidParameter.Payload"),
    ("ListFunctions", {"Namespace": "nowhere"}, "ResourceNotFound.Namespace"),
    ("ListFunctions", {"Limit": -1}, "InvalidParameterValue.Limit"),
    ("ListFunctions", {"Orderby": "Luck"}, "InvalidParameterValue.OrderBy"),
    ("ListLayers", {"Limit": -1}, "InvalidParameterValue.Limit"),
    ("ListLayers", {"Offset": -1}, "InvalidParameterValue.Offset"),
    ("ListNamespaces", {"Limit": -1}, "InvalidParameterValue.Limit"),
    ("ListNamespaces", {"Offset": -1}, "InvalidParameterValue.Offset"),
    ("ListLayerVersions", {"LayerName": "nothing"}, "ResourceNotFound.Layer"),
    ("ListLayerVersions", {"LayerName": "-"}, "InvalidParameterValue.LayerName"),
    ("DeleteLayerVersion", {"LayerName": "-", "LayerVersion": 1}, "InvalidParameterValue.LayerName"),
    ("PublishLayerVersion", dict(LAYER, LayerName="-"), "InvalidParameterValue.LayerName"),
    ("PublishLayerVersion", dict(LAYER, Content={"ZipFile": "UEs="}), "InvalidParameterValue.ZipFile"),
    ("UpdateFunctionCode", dict(NOBODY, ZipFile=package(FIRST)), "ResourceNotFound.Function"),
    ("UpdateFunctionCode", {"FunctionName": "taken", "ZipFile": "UEs="}, "InvalidParameterValue.ZipFile"),
    ("UpdateFunctionConfiguration", NOBODY, "ResourceNotFound.Function"),
    ("UpdateFunctionConfiguration", {"FunctionName": "taken", "MemorySize": 100}, "InvalidParameterValue.MemorySize"),
    ("UpdateNamespace", {"Namespace": "nowhere", "Description": ""}, "ResourceNotFound.Namespace"),
    ("UpdateNamespace", {"Namespace": "default", "Description": "x" * 1001}, "InvalidParameterValue.Description"),
]


@pytest.fixture(scope="module")
def api(server):
    api = Api(server)
    api("CreateFunction", **dict(NEW, FunctionName="taken"))
    api("PublishLayerVersion", **dict(LAYER, LayerName="taken"))
    return api


@pytest.mark.parametrize("action,fields,code", ROWS, ids=["%s-%s" % (row[0], row[2]) for row in ROWS])
def test_refusals(api, action, fields, code):
    assert api.code(action, **fields) == code


def test_refused_requests_have_no_effect(api):
    assert [one.FunctionName for one in api("ListFunctions").Functions] == ["taken"]
    assert [one.LayerName for one in api("ListLayers").Layers] == ["taken"]
    assert [one.Name for one in api("ListNamespaces").Namespaces] == ["default"]
    shown = api("GetFunction", FunctionName="taken")
    assert (shown.MemorySize, shown.Status) == (128, "Active")
    assert json.loads(api("Invoke", FunctionName="taken").Result.RetMsg)["name"] == "taken"


def test_unknown_callers_learn_nothing(server):
    assert Api(server, key="wrong").code("GetAccount") == "AuthFailure.SignatureFailure"
    assert Api(server, secret_id="nobody").code("GetAccount") == "AuthFailure.SecretIdNotFound"
    # The same whether or not there is such a function.
    for name in ("taken", "nobody"):
        assert Api(server, key="wrong").code("GetFunction", FunctionName=name) == "AuthFailure.SignatureFailure"
