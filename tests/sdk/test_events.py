"""Asynchronous events as the official Python SDK sees them."""

import json
import time

import pytest

from api import Api
from package import FAILS, FIRST, package

UNKNOWN = "00000000-0000-0000-0000-000000000000"


@pytest.fixture(scope="module")
def api(server):
    api = Api(server)
    api("CreateFunction", FunctionName="later", Runtime="Python3.9", Code={"ZipFile": package(FIRST)})
    yield api
    api("DeleteFunction", FunctionName="later")


def send(api, name, event=None):
    result = api("Invoke", FunctionName=name, InvocationType="Event", ClientContext=json.dumps(event or {})).Result
    assert (result.Log, result.RetMsg, result.ErrMsg, result.InvokeResult) == ("", "", "", 0)
    return result.FunctionRequestId


def ended(api, request):
    for _ in range(1200):
        status = api("GetAsyncEventStatus", InvokeRequestId=request).Result
        assert status.InvokeRequestId == request
        if status.Status != "RUNNING":
            return status
        time.sleep(0.1)
    raise AssertionError("it never ended")


def test_event_lifecycle(api):
    request = send(api, "later", {"a": "\u4f60"})
    status = ended(api, request)
    assert (status.Status, status.StatusCode) == ("FINISHED", 200)
    listed = api("ListAsyncEvents", FunctionName="later", Order="DESC", Orderby="StartTime", InvokeType=["API"], Status=["FINISHED"])
    assert listed.TotalCount >= 1
    event = [one for one in listed.EventList if one.InvokeRequestId == request][0]
    assert (event.InvokeType, event.Qualifier, event.Status) == ("API", "$DEFAULT", "FINISHED")
    assert event.StartTime <= event.EndTime
    shown = api("GetRequestStatus", FunctionName="later", FunctionRequestId=request)
    assert (shown.TotalCount, shown.Data[0].RetCode, shown.Data[0].RetryNum, shown.Data[0].RequestId) == (1, 0, 0, request)
    assert json.loads(shown.Data[0].RetMsg)["got"] == {"a": "\u4f60"}
    assert shown.Data[0].Duration > 0 and 0 < shown.Data[0].MemUsage < 128


def test_event_retries_and_dead_letters(api, server):
    server.expect("an event failed permanently")
    api("CreateFunction", FunctionName="fails", Runtime="Python3.9", Code={"ZipFile": package(FAILS)},
        DeadLetterConfig={"Type": "function", "Name": "later"})
    assert api("GetFunction", FunctionName="fails").DeadLetterConfig.Name == "later"
    api("UpdateFunctionEventInvokeConfig", FunctionName="fails", AsyncTriggerConfig={"MsgTTL": 60, "RetryConfig": [{"RetryNum": 0}]})
    config = api("GetFunctionEventInvokeConfig", FunctionName="fails").AsyncTriggerConfig
    assert (config.MsgTTL, [one.RetryNum for one in config.RetryConfig]) == (60, [0, -1])
    before = api("ListAsyncEvents", FunctionName="later", InvokeType=["DEAD_LETTER"]).TotalCount
    request = send(api, "fails")
    status = ended(api, request)
    assert (status.Status, status.StatusCode) == ("FAILED", 430)
    for _ in range(1200):
        if api("ListAsyncEvents", FunctionName="later", InvokeType=["DEAD_LETTER"]).TotalCount > before:
            break
        time.sleep(0.1)
    else:
        raise AssertionError("the dead letter never came")
    api("DeleteFunction", FunctionName="fails")


def test_event_is_cancelled(api):
    api("PutReservedConcurrencyConfig", FunctionName="later", ReservedConcurrencyMem=0)
    request = send(api, "later")
    shown = api("GetRequestStatus", FunctionName="later", FunctionRequestId=request)
    assert shown.Data[0].RetCode == 1
    api("TerminateAsyncEvent", FunctionName="later", InvokeRequestId=request, GraceShutdown=True)
    assert ended(api, request).Status == "ABORTED"
    assert api.code("TerminateAsyncEvent", FunctionName="later", InvokeRequestId=request) == "FailedOperation.AsyncEventStatus"
    api("DeleteReservedConcurrencyConfig", FunctionName="later")


def test_a_function_that_always_runs_asynchronously(api):
    api("CreateFunction", FunctionName="long", Runtime="Python3.9", Code={"ZipFile": package(FIRST)}, AsyncRunEnable="TRUE", Timeout=86400)
    assert api("GetFunction", FunctionName="long").AsyncRunEnable == "TRUE"
    result = api("Invoke", FunctionName="long", ClientContext="{}").Result
    assert result.RetMsg == ""
    assert ended(api, result.FunctionRequestId).Status == "FINISHED"
    api("DeleteFunction", FunctionName="long")


@pytest.mark.parametrize("action,fields,code", [
    ("Invoke", {"FunctionName": "nobody", "InvocationType": "Event"}, "ResourceNotFound.Function"),
    ("Invoke", {"FunctionName": "later", "InvocationType": "Event", "ClientContext": '"%s"' % ("x" * (128 << 10))},
     "InvalidParameter.RequestTooLarge"),
    ("ListAsyncEvents", {"FunctionName": "nobody"}, "ResourceNotFound.Function"),
    ("ListAsyncEvents", {"FunctionName": "later", "Status": ["LOST"]}, "InvalidParameterValue.Status"),
    ("ListAsyncEvents", {"FunctionName": "later", "Limit": 101}, "InvalidParameterValue.Limit"),
    ("ListAsyncEvents", {"FunctionName": "later", "Orderby": "Luck"}, "InvalidParameterValue.OrderBy"),
    ("GetAsyncEventStatus", {"InvokeRequestId": UNKNOWN}, "ResourceNotFound.AsyncEvent"),
    ("GetAsyncEventStatus", {"InvokeRequestId": "x"}, "InvalidParameterValue"),
    ("GetRequestStatus", {"FunctionName": "nobody", "FunctionRequestId": UNKNOWN}, "ResourceNotFound.Function"),
    ("GetRequestStatus", {"FunctionName": "later", "FunctionRequestId": "x"}, "InvalidParameterValue.FunctionRequestId"),
    ("TerminateAsyncEvent", {"FunctionName": "nobody", "InvokeRequestId": UNKNOWN}, "ResourceNotFound.Function"),
    ("TerminateAsyncEvent", {"FunctionName": "later", "InvokeRequestId": UNKNOWN}, "ResourceNotFound.AsyncEvent"),
    ("GetFunctionEventInvokeConfig", {"FunctionName": "nobody"}, "ResourceNotFound.Function"),
    ("GetFunctionEventInvokeConfig", {"FunctionName": "later", "Qualifier": "7"}, "ResourceNotFound.FunctionVersion"),
    ("UpdateFunctionEventInvokeConfig", {"FunctionName": "nobody", "AsyncTriggerConfig": {"MsgTTL": 60}}, "ResourceNotFound.Function"),
    ("UpdateFunctionEventInvokeConfig", {"FunctionName": "later", "AsyncTriggerConfig": {"MsgTTL": 59}}, "LimitExceeded.MsgTTL"),
    ("UpdateFunctionEventInvokeConfig", {"FunctionName": "later", "AsyncTriggerConfig": {"RetryConfig": [{"RetryNum": 3}]}},
     "LimitExceeded.RetryNum"),
    ("UpdateFunctionConfiguration", {"FunctionName": "later", "DeadLetterConfig": {"Type": "queue", "Name": "dead-letters"}},
     "InvalidParameterValue.DeadLetterConfig"),
])
def test_refusals(api, action, fields, code):
    assert api.code(action, **fields) == code
