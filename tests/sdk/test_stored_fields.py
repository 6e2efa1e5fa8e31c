"""Every field of every document is shown again after creation and after an update, unless docs/fields.md lists it as ignored."""

import json
import os
import re

import pytest

from api import PUBLISHED, ROOT, UNPUBLISHED, Api, misfits
from package import FIRST, package

HOST = "photos-1250000000.cos.ap-guangzhou.myqcloud.com"
# Fields that identify the function, control the request, or name the code.
NAMING = {"FunctionName", "Namespace", "Code", "Publish", "InstallDependency", "Tags", "Role", "Layers", "AsyncRunEnable"}
# Values that differ from those that are shown where nothing was given.
EVENT = {
    "Handler": "index.other",
    "Description": "described",
    "MemorySize": 256,
    "Timeout": 7,
    "InitTimeout": 11,
    "Runtime": "Python3.9",
    "Type": "Event",
    "Environment": {"Variables": [{"Key": "COLOUR", "Value": "grey"}]},
    "VpcConfig": {"VpcId": "vpc-1", "SubnetId": "subnet-1"},
    "ClsLogsetId": "logset-1",
    "ClsTopicId": "topic-1",
    "DeadLetterConfig": {"Type": "function", "Name": "dead-letters", "FilterType": "tag"},
    "PublicNetConfig": {"PublicNetStatus": "DISABLE", "EipConfig": {"EipStatus": "ENABLE"}},
    "CfsConfig": {"CfsInsList": [{"UserId": "1", "UserGroupId": "2", "CfsId": "cfs-1", "MountInsId": "cfs-2", "LocalMountDir": "/mnt/",
                                  "RemoteMountDir": "/", "IpAddress": "10.0.0.1", "MountVpcId": "vpc-2", "MountSubnetId": "subnet-2"}]},
    "TraceEnable": "TRUE",
    "DnsCache": "TRUE",
    "L5Enable": "TRUE",
    "IntranetConfig": {"IpFixed": "ENABLE"},
}
WEB = {
    "Type": "HTTP",
    "ProtocolType": "WS",
    "ProtocolParams": {"WSParams": {"IdleTimeOut": 30}},
    "InstanceConcurrencyConfig": {
        "DynamicEnabled": "TRUE", "MaxConcurrency": 5, "InstanceIsolationEnabled": "TRUE", "Type": "Session-Based",
        "MixNodeConfig": [{"NodeSpec": "GN10X", "Num": 2}],
        "SessionConfig": {"SessionSource": "HEADER", "SessionName": "x-session", "MaximumConcurrencySessionPerInstance": 3,
                          "MaximumTTLInSeconds": 600, "MaximumIdleTimeInSeconds": 60, "SessionPath": "/s", "IdleTimeoutStrategy": "FATAL"},
    },
}
OTHERS = {
    "Description": "changed",
    "MemorySize": 512,
    "Timeout": 9,
    "InitTimeout": 12,
    "Environment": {"Variables": [{"Key": "COLOUR", "Value": "blue"}]},
    "VpcConfig": {"VpcId": "vpc-3", "SubnetId": "subnet-3"},
    "ClsLogsetId": "logset-3",
    "ClsTopicId": "topic-3",
    "DeadLetterConfig": {"Type": "function", "Name": "others", "FilterType": ""},
    "PublicNetConfig": {"PublicNetStatus": "ENABLE", "EipConfig": {"EipStatus": "DISABLE"}},
    "CfsConfig": {"CfsInsList": []},
    "TraceEnable": "FALSE",
    "DnsCache": "FALSE",
    "L5Enable": "FALSE",
    "IntranetConfig": {"IpFixed": "DISABLE"},
}


@pytest.fixture(scope="module")
def api(server):
    return Api(server)


def ignored(action):
    """The fields that the page calls ignored."""
    page = open(os.path.join(ROOT, "docs/fields.md")).read()
    row = next(line for line in page.splitlines() if line.startswith("| `%s` |" % action))
    return set(re.findall("`([^`]+)`", row.split("|")[4]))


def send(api, action, **fields):
    """As JSON, since the SDK's types lack what its server takes."""
    return api.client.call_json(action, fields)


def shown(api, name):
    answer = send(api, "GetFunction", FunctionName=name)["Response"]
    for document, kind in (("VpcConfig", "VpcConfig"), ("CfsConfig", "CfsConfig"), ("IntranetConfig", "IntranetConfigOut"), ("EipConfig", "EipOutConfig"),
                           ("PublicNetConfig", "PublicNetConfigOut"), ("DeadLetterConfig", "DeadLetterConfig")):
        assert not misfits(answer[document], kind, document)
    return answer


def lacks(given, answer, where):
    """The given values that are not shown, by paths."""
    if isinstance(given, dict):
        return [path for name, part in given.items() for path in lacks(part, (answer or {}).get(name), where + "." + name)]
    if isinstance(given, list):
        if not isinstance(answer, list) or len(given) != len(answer):
            return [where]
        return [path for one, other in zip(given, answer) for path in lacks(one, other, where)]
    return [] if given == answer else ["%s: %r, not %r" % (where, answer, given)]


@pytest.mark.parametrize("action,values", [("CreateFunction", [EVENT, WEB]), ("UpdateFunctionConfiguration", [OTHERS, WEB])])
def test_every_field_is_shown_again_or_documented_as_ignored(action, values):
    published = set(PUBLISHED["actions"][action]["request"]) | set(UNPUBLISHED["requests"].get(action, {}))
    given = {name for fields in values for name in fields}
    assert published - given - NAMING == ignored(action) | ({"Runtime"} if action.startswith("Update") else set())


def test_get_function_shows_creation_settings(api):
    for name in ("dead-letters", "others"):
        send(api, "CreateFunction", FunctionName=name, Runtime="Python3.9", Code={"ZipFile": package(FIRST)})
    send(api, "CreateFunction", FunctionName="made", Code={"ZipFile": package(FIRST)}, **EVENT)
    assert not lacks(EVENT, shown(api, "made"), "")
    assert shown(api, "made")["EipConfig"] == {"EipFixed": "TRUE", "Eips": []}
    listed = send(api, "ListFunctions", SearchKey="made")["Response"]["Functions"][0]
    assert listed["TraceEnable"] == "TRUE"
    # Nothing that an update does not mention changes.
    before = shown(api, "made")
    send(api, "UpdateFunctionConfiguration", FunctionName="made", PublicNetConfig={"PublicNetStatus": "ENABLE"})
    after = shown(api, "made")
    assert after["PublicNetConfig"] == {"PublicNetStatus": "ENABLE", "EipConfig": {"EipStatus": "ENABLE", "EipAddress": []}}
    changed = {name for name in after if before[name] != after[name]}
    assert changed <= {"PublicNetConfig", "ModTime", "RequestId"}
    send(api, "UpdateFunctionConfiguration", FunctionName="made", **OTHERS)
    assert not lacks(OTHERS, shown(api, "made"), "")
    assert shown(api, "made")["EipConfig"]["EipFixed"] == "FALSE"


# Version 1 of the signature writes documents as a form, all values as text.
@pytest.mark.parametrize("method", ["TC3-HMAC-SHA256", "HmacSHA256"])
def test_get_function_shows_web_function_settings(server, method):
    api, name = Api(server, method=method), "web-" + method
    web = package("#!/bin/sh\nexec sleep 1000\n", "scf_bootstrap")
    api("CreateFunction", FunctionName=name, Runtime="Python3.9", Code={"ZipFile": web}, CfsConfig=EVENT["CfsConfig"], **WEB)
    assert not lacks(dict(WEB, CfsConfig=EVENT["CfsConfig"]), shown(api, name), "")
    other = {"InstanceConcurrencyConfig": dict(WEB["InstanceConcurrencyConfig"], Type="Request-Based", MaxConcurrency=6)}
    api("UpdateFunctionConfiguration", FunctionName=name, **other)
    assert not lacks(other, shown(api, name), "")


def test_malformed_values_are_refused_by_name(api):
    for field, value in (("VpcConfig", "vpc-1"), ("CfsConfig", []), ("TraceEnable", "yes"), ("L5Enable", "on"), ("DnsCache", "1"),
                         ("PublicNetConfig", {"PublicNetStatus": "ENABLE", "EipConfig": {"EipStatus": "TRUE"}})):
        with pytest.raises(Exception) as refused:
            send(api, "UpdateFunctionConfiguration", FunctionName="made", **{field: value})
        assert refused.value.get_message().startswith(field), refused.value


def test_bucket_trigger_shows_bucket_url(api):
    desc = {"event": "cos:ObjectCreated:*", "filter": {"Prefix": "in/", "Suffix": ".jpg"}}
    made = send(api, "CreateTrigger", FunctionName="made", TriggerName=HOST, Type="cos", TriggerDesc=json.dumps(desc), Enable="OPEN")
    text = made["Response"]["TriggerInfo"]["TriggerDesc"]
    assert text == '{"bucketUrl":"%s","event":"cos:ObjectCreated:*","filter":{"Prefix":"in/","Suffix":".jpg"}}' % HOST
    # The shown document selects the trigger.
    send(api, "DeleteTrigger", FunctionName="made", TriggerName=HOST, Type="cos", TriggerDesc=text)


def test_event_invoke_config_shows_error_codes_and_intervals(api):
    config = send(api, "GetFunctionEventInvokeConfig", FunctionName="made")["Response"]["AsyncTriggerConfig"]
    assert config["RetryConfig"] == [
        {"ErrorCode": ["default"], "RetryNum": 2, "RetryInterval": 60},
        {"ErrorCode": ["432"], "RetryNum": -1, "RetryInterval": 60},
    ]
    send(api, "UpdateFunctionEventInvokeConfig", FunctionName="made", AsyncTriggerConfig=config)
    config["RetryConfig"][0]["RetryInterval"] = 1
    with pytest.raises(Exception) as refused:
        send(api, "UpdateFunctionEventInvokeConfig", FunctionName="made", AsyncTriggerConfig=config)
    assert "RetryInterval: 1 is not allowed; 60" in refused.value.get_message()
