"""The trigger actions through the official Python SDK."""

import ast
import datetime
import json
import time

import pytest

from api import Api
from package import FIRST, package

TWO_HOURLY = "0 0 */2 * * * *"


@pytest.fixture(scope="module")
def api(server):
    return Api(server)


@pytest.fixture
def function(api, request):
    name = request.node.name.replace("test_", "fn_")
    api("CreateFunction", FunctionName=name, Runtime="Python3.9", Code={"ZipFile": package(FIRST)})
    yield name
    api("DeleteFunction", FunctionName=name)


def test_timer_lifecycle(api, function):
    of_it = {"FunctionName": function, "TriggerName": "every-2_hours", "Type": "timer"}
    created = api("CreateTrigger", TriggerDesc=TWO_HOURLY, CustomArgument="tick", Description="often", Enable="OPEN", **of_it).TriggerInfo
    assert (created.Type, created.TriggerName, created.Enable, created.Qualifier) == ("timer", "every-2_hours", 1, "$LATEST")
    assert json.loads(created.TriggerDesc) == {"cron": TWO_HOURLY}
    assert (created.CustomArgument, created.Description) == ("tick", "often")
    assert (created.AvailableStatus, created.BindStatus, created.TriggerAttribute) == ("Available", "on", "single")
    assert created.ResourceId.endswith(":function/%s/every-2_hours" % function)
    # As the Serverless tool-kit compares it: the text as it came back is what it would send again.
    api("UpdateTrigger", TriggerDesc=created.TriggerDesc, CustomArgument="tock", Enable="CLOSE", **of_it)
    listed = api("ListTriggers", FunctionName=function)
    one = listed.Triggers[0]
    assert (listed.TotalCount, one.TriggerDesc, one.CustomArgument, one.Enable) == (1, created.TriggerDesc, "tock", 0)
    api("UpdateTriggerStatus", Enable="OPEN", **of_it)
    shown = api("GetFunction", FunctionName=function).Triggers
    assert [(trigger.TriggerName, trigger.Enable) for trigger in shown] == [("every-2_hours", 1)]
    api("DeleteTrigger", **of_it)
    assert api("ListTriggers", FunctionName=function).TotalCount == 0


def test_a_timer_runs_its_function(api, function):
    api("CreateTrigger", FunctionName=function, TriggerName="tick", Type="timer", TriggerDesc="* * * * * * *", CustomArgument="now")
    for _ in range(1200):
        records = api("GetFunctionLogs", FunctionName=function).Data
        if records:
            break
        time.sleep(0.1)
    # The function prints what it gets.
    printed = [line for line in records[0].Log.splitlines() if line.startswith("first ")]
    event = ast.literal_eval(printed[0][len("first "):])
    assert list(event) == ["Type", "TriggerName", "Time", "Message"]
    assert (event["Type"], event["TriggerName"], event["Message"]) == ("Timer", "tick", "now")
    due = datetime.datetime.strptime(event["Time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc).timestamp()
    assert time.time() - 60 < due <= time.time()


def test_listing(api, function):
    for name, desc in [("one", "of the first"), ("two", "of the second"), ("three", "of the second")]:
        api("CreateTrigger", FunctionName=function, TriggerName=name, Type="timer", TriggerDesc=TWO_HOURLY, Description=desc, Enable="CLOSE")
    api("UpdateTriggerStatus", FunctionName=function, TriggerName="one", Type="timer", Enable="OPEN")

    def names(**more):
        return [trigger.TriggerName for trigger in api("ListTriggers", FunctionName=function, **more).Triggers]

    assert names()[0] == "one", "the one changed last comes first"
    assert sorted(names(OrderBy="add_time", Order="ASC")) == ["one", "three", "two"]
    assert len(names(Limit=2)) == 2 and len(names(Offset=2)) == 1
    assert sorted(names(Filters=[{"Name": "Description", "Values": ["second"]}])) == ["three", "two"]
    assert names(Filters=[{"Name": "TriggerName", "Values": ["thr"]}]) == ["three"]
    # As the Serverless tool-kit looks for a URL.
    of_type = lambda kind: names(Limit=1000, Filters=[{"Name": "Type", "Values": [kind]}, {"Name": "Qualifier", "Values": [""]}])
    assert len(of_type("timer")) == 3 and of_type("http") == []
    assert names(Filters=[{"Name": "Qualifier", "Values": ["$DEFAULT"]}]) == []


def test_refusals(api, function):
    of_it = {"FunctionName": function, "TriggerName": "t", "Type": "timer"}
    api("CreateTrigger", TriggerDesc=TWO_HOURLY, **of_it)
    create = dict(of_it, TriggerName="other", TriggerDesc=TWO_HOURLY)
    rows = [
        ("CreateTrigger", dict(create, TriggerName="t"), "ResourceInUse.TriggerName"),
        ("CreateTrigger", dict(create, TriggerName="a.b"), "InvalidParameterValue.TriggerName"),
        ("CreateTrigger", dict(create, TriggerName=""), "InvalidParameterValue.TriggerName"),
        ("CreateTrigger", dict(create, Type="Timer"), "InvalidParameterValue.Type"),
        ("CreateTrigger", dict(create, TriggerDesc="* * *"), "InvalidParameterValue.TriggerDesc"),
        ("CreateTrigger", dict(create, TriggerDesc='{"cron":5}'), "InvalidParameterValue.TriggerDesc"),
        ("CreateTrigger", dict(create, TriggerDesc='{"cron"'), "InvalidParameterValue.TriggerDesc"),
        ("CreateTrigger", dict(create, TriggerDesc="0 0 0 30 2 * *"), "InvalidParameterValue.TriggerDesc"),
        ("CreateTrigger", dict(of_it, TriggerName="other"), "InvalidParameterValue.TriggerDesc"),
        ("CreateTrigger", dict(create, Enable="ON"), "InvalidParameterValue.Enable"),
        ("CreateTrigger", dict(create, CustomArgument="x" * 4097), "InvalidParameterValue.CustomArgument"),
        ("CreateTrigger", dict(create, Description="x" * 1001), "InvalidParameterValue.Description"),
        ("CreateTrigger", dict(create, Qualifier="nowhere"), "ResourceNotFound.Qualifier"),
        ("CreateTrigger", dict(create, Qualifier="no where"), "InvalidParameterValue.Qualifier"),
        ("CreateTrigger", dict(create, FunctionName="nobody"), "ResourceNotFound.Function"),
        ("CreateTrigger", dict(create, Namespace="nowhere"), "ResourceNotFound.Namespace"),
        ("UpdateTrigger", dict(of_it, TriggerDesc="61 * * * * * *"), "InvalidParameterValue.TriggerDesc"),
        ("UpdateTrigger", dict(of_it, TriggerName="u"), "ResourceNotFound.Trigger"),
        ("UpdateTrigger", dict(of_it, Qualifier="$DEFAULT"), "ResourceNotFound.Trigger"),
        ("UpdateTriggerStatus", dict(of_it, Enable="1"), "InvalidParameterValue.Enable"),
        ("UpdateTriggerStatus", dict(of_it, Enable="OPEN", TriggerName="u"), "ResourceNotFound.Trigger"),
        ("DeleteTrigger", dict(of_it, TriggerName="u"), "ResourceNotFound.Trigger"),
        ("DeleteTrigger", dict(of_it, Type="cron"), "InvalidParameterValue.Type"),
        ("DeleteTrigger", dict(of_it, FunctionName="nobody"), "ResourceNotFound.Function"),
        ("ListTriggers", {"FunctionName": "nobody"}, "ResourceNotFound.Function"),
        ("ListTriggers", {"FunctionName": function, "OrderBy": "AddTime"}, "InvalidParameterValue.OrderBy"),
        ("ListTriggers", {"FunctionName": function, "Filters": [{"Name": "Kind", "Values": ["timer"]}]}, "InvalidParameterValue.Filters"),
    ]
    for action, fields, code in rows:
        assert api.code(action, **fields) == code, (action, fields)
    for kind in ("ckafka", "cls"):
        assert api.code("CreateTrigger", **dict(create, Type=kind)) == "UnsupportedOperation"
    for number in range(9):
        api("CreateTrigger", **dict(create, TriggerName="n%d" % number))
    assert api.code("CreateTrigger", **create) == "LimitExceeded.Trigger"


def test_versions_and_aliases_that_triggers_are_on(api, function):
    api("PublishVersion", FunctionName=function)
    api("CreateAlias", FunctionName=function, Name="live", FunctionVersion="1")
    for name, qualifier in [("on-1", "1"), ("on-live", "live"), ("on-default", "$DEFAULT")]:
        api("CreateTrigger", FunctionName=function, TriggerName=name, Type="timer", TriggerDesc=TWO_HOURLY, Qualifier=qualifier)
    shown = api("GetFunction", FunctionName=function, Qualifier="live").Triggers
    assert [trigger.TriggerName for trigger in shown] == ["on-live"]
    assert len(api("GetFunction", FunctionName=function).Triggers) == 3
    assert api.code("DeleteAlias", FunctionName=function, Name="live") == "ResourceInUse.Trigger"
    api("DeleteTrigger", FunctionName=function, TriggerName="on-live", Type="timer", Qualifier="live")
    api("DeleteAlias", FunctionName=function, Name="live")
    assert api.code("DeleteFunctionVersion", FunctionName=function, Qualifier="1") == "ResourceInUse.Trigger"
    api("DeleteFunctionVersion", FunctionName=function, Qualifier="1", ForceDelete="TRUE")
    assert [trigger.TriggerName for trigger in api("ListTriggers", FunctionName=function).Triggers] == ["on-default"]
