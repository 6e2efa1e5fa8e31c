"""The official Python SDK on concurrency: of the account, reserved, and provisioned."""

import json
import os
import time

import pytest

from api import Api
from package import FIRST, package


@pytest.fixture(scope="module")
def api(server):
    return Api(server)


def invoke(api, name, event, **more):
    return api("Invoke", FunctionName=name, ClientContext=json.dumps(event), **more).Result


def test_reserved_concurrency_and_account_totals(api):
    api("CreateFunction", FunctionName="reserved", Runtime="Python3.9", Code={"ZipFile": package(FIRST)})
    api("PutReservedConcurrencyConfig", FunctionName="reserved", ReservedConcurrencyMem=1024)
    assert api("GetReservedConcurrencyConfig", FunctionName="reserved").ReservedMem == 1024
    account = api("GetAccount")
    usage, limit = account.AccountUsage, account.AccountLimit
    total = usage.TotalConcurrencyMem
    # SCF's quota, or what the node has.
    assert 0 < total <= min(128000, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20)
    assert (total, usage.TotalAllocatedConcurrencyMem, limit.NamespacesCount) == (total, 1024, 5)
    default = [one for one in usage.Namespace if one.Namespace == "default"][0]
    assert "reserved" in default.Functions and default.FunctionsCount == len(default.Functions)
    assert [one.TimeoutLimit for one in limit.Namespace if one.Namespace == "default"] == [900]
    api("PutReservedConcurrencyConfig", FunctionName="reserved", ReservedConcurrencyMem=0)
    refused = invoke(api, "reserved", {})
    assert refused.InvokeResult == -1 and json.loads(refused.ErrMsg)["statusCode"] == 432
    api("DeleteReservedConcurrencyConfig", FunctionName="reserved")
    assert invoke(api, "reserved", {}).InvokeResult == 0
    for action in ("PutReservedConcurrencyConfig", "GetReservedConcurrencyConfig", "DeleteReservedConcurrencyConfig"):
        more = {"ReservedConcurrencyMem": 128} if action.startswith("Put") else {}
        assert api.code(action, FunctionName="nobody", **more) == "ResourceNotFound.Function"
        assert api.code(action, FunctionName="reserved", Namespace="nowhere", **more) == "ResourceNotFound.Namespace"
    beyond = api.code("PutReservedConcurrencyConfig", FunctionName="reserved", ReservedConcurrencyMem=total)
    assert beyond == "LimitExceeded.FunctionReservedConcurrencyMemory"
    api("PutTotalConcurrencyConfig", TotalConcurrencyMem=total // 2)
    usage = api("GetAccount").AccountUsage
    assert (usage.TotalConcurrencyMem, usage.UserConcurrencyMemLimit, usage.Namespace[0].TotalConcurrencyMem) == (total, total // 2, total // 2)
    assert api.code("PutTotalConcurrencyConfig", TotalConcurrencyMem=min(12800, total // 10) - 1) == "LimitExceeded.TotalConcurrencyMemory"
    assert api.code("PutTotalConcurrencyConfig", TotalConcurrencyMem=total // 10, Namespace="nowhere") == "ResourceNotFound.Namespace"
    api("PutTotalConcurrencyConfig", TotalConcurrencyMem=total)
    api("DeleteFunction", FunctionName="reserved")


def provisioned(api, name, status):
    """The shown document of a version, once it has a status."""
    for _ in range(1200):
        shown = api("GetProvisionedConcurrencyConfig", FunctionName=name, Qualifier="1").Allocated[0]
        if shown.Status == status:
            return shown
        time.sleep(0.1)
    raise AssertionError("it is %s, not %s" % (shown.Status, status))


def test_provisioned_concurrency(api):
    api("CreateFunction", FunctionName="ahead", Runtime="Python3.9", Code={"ZipFile": package(FIRST)})
    api("PublishVersion", FunctionName="ahead")
    version = {"FunctionName": "ahead", "Qualifier": "1"}
    assert api("GetProvisionedConcurrencyConfig", FunctionName="ahead").Allocated == []
    api("PutProvisionedConcurrencyConfig", VersionProvisionedConcurrencyNum=2, **version)
    shown = provisioned(api, "ahead", "Done")
    counts = (shown.AllocatedProvisionedConcurrencyNum, shown.AvailableProvisionedConcurrencyNum)
    assert (shown.Qualifier, shown.StatusReason, counts) == ("1", "", (2, 2))
    result = invoke(api, "ahead", {}, Qualifier="1", LogType="Tail")
    assert result.InvokeResult == 0 and "Provisioned Report RequestId" in result.Log
    function = [one for one in api("ListFunctions").Functions if one.FunctionName == "ahead"][0]
    assert function.TotalProvisionedConcurrencyMem == 256
    assert api("GetAccount").AccountUsage.Namespace[0].TotalAllocatedProvisionedMem == 256
    nightly = {"TriggerName": "night", "TriggerProvisionedConcurrencyNum": 1, "TriggerCronConfig": "0 0 3 * * * *"}
    api("PutProvisionedConcurrencyConfig", VersionProvisionedConcurrencyNum=2, TriggerActions=[nightly], **version)
    action = provisioned(api, "ahead", "Done").TriggerActions[0]
    assert (action.TriggerName, action.TriggerCronConfig, action.ProvisionedType) == ("night", "0 0 3 * * * *", "Default")
    tracking = dict(version, VersionProvisionedConcurrencyNum=0, ProvisionedType="ConcurrencyUtilizationTracking")
    api("PutProvisionedConcurrencyConfig", TrackingTarget=0.5, MinCapacity=1, MaxCapacity=3, **tracking)
    assert provisioned(api, "ahead", "Done").AllocatedProvisionedConcurrencyNum >= 1
    api("DeleteProvisionedConcurrencyConfig", **version)
    assert api("GetProvisionedConcurrencyConfig", **version).Allocated == []
    refusals = [
        ("Put", dict(version, Qualifier="$LATEST", VersionProvisionedConcurrencyNum=1), "InvalidParameterValue.Qualifier"),
        ("Put", dict(version, Qualifier="7", VersionProvisionedConcurrencyNum=1), "ResourceNotFound.FunctionVersion"),
        ("Put", dict(version, FunctionName="nobody", VersionProvisionedConcurrencyNum=1), "ResourceNotFound.Function"),
        ("Put", dict(version, VersionProvisionedConcurrencyNum=1000), "FailedOperation.ProvisionedExceedAvailable"),
        ("Put", dict(version, VersionProvisionedConcurrencyNum=1, ProvisionedType="Sometimes"), "InvalidParameterValue.ProvisionType"),
        ("Put", dict(tracking, TrackingTarget=1), "InvalidParameterValue.TrackingTarget"),
        ("Put", dict(tracking, TrackingTarget=0.5, MinCapacity=2, MaxCapacity=1), "InvalidParameterValue.MinCapacity"),
        ("Put", dict(version, VersionProvisionedConcurrencyNum=1, TriggerActions=[dict(nightly, TriggerCronConfig="3am")]), "InvalidParameterValue.TriggerCronConfig"),
        ("Get", {"FunctionName": "nobody"}, "ResourceNotFound.Function"),
        ("Get", dict(version, Qualifier="7"), "ResourceNotFound.FunctionVersion"),
        ("Delete", {"FunctionName": "nobody", "Qualifier": "1"}, "ResourceNotFound.Function"),
        ("Delete", dict(version, Qualifier="7"), "ResourceNotFound.FunctionVersion"),
    ]
    for verb, fields, code in refusals:
        assert api.code(verb + "ProvisionedConcurrencyConfig", **fields) == code, (verb, fields)
    api("DeleteFunction", FunctionName="ahead")
