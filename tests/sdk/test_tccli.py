"""The official command line, tccli, through the whole life of a function."""

import json
import os
import subprocess
import sys

import pytest

from package import FIRST, SECOND, package


@pytest.fixture(scope="module")
def tccli(server, tmp_path_factory):
    home = str(tmp_path_factory.mktemp("home"))
    program = os.path.join(os.path.dirname(sys.executable), "tccli")

    def run(action, *arguments):
        command = [program, "scf", action, "--endpoint", "http://" + server.address, *arguments]
        done = subprocess.run(command, env=dict(server.environment(), HOME=home), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        text = done.stdout.decode()
        if done.returncode:
            return done.returncode, text
        return 0, json.loads(text) if text.strip() else {}

    return run


@pytest.fixture(scope="module")
def ok(tccli):
    def run(action, *arguments):
        code, answer = tccli(action, *arguments)
        assert code == 0, answer
        return answer

    return run


def test_function_lifecycle(ok, tccli):
    ok("CreateFunction", "--FunctionName", "life", "--Runtime", "Python3.9", "--MemorySize", "128", "--Code", json.dumps({"ZipFile": package(FIRST)}))
    assert ok("GetFunction", "--FunctionName", "life")["Status"] == "Active"
    result = ok("Invoke", "--FunctionName", "life", "--ClientContext", '{"a": 1}', "--LogType", "Tail")["Result"]
    assert json.loads(result["RetMsg"]) == {"got": {"a": 1}, "name": "life"}
    assert "first" in result["Log"]
    ok("UpdateFunctionCode", "--FunctionName", "life", "--ZipFile", package(SECOND))
    ok("UpdateFunctionConfiguration", "--FunctionName", "life", "--Environment", json.dumps({"Variables": [{"Key": "COLOUR", "Value": "red"}]}))
    assert ok("Invoke", "--FunctionName", "life")["Result"]["RetMsg"] == '"red"'
    assert ok("ListFunctions", "--Limit", "5")["TotalCount"] == 1
    assert ok("GetFunctionLogs", "--FunctionName", "life")["TotalCount"] == 2
    assert len(ok("GetFunctionAddress", "--FunctionName", "life")["CodeSha256"]) == 64
    ok("DeleteFunction", "--FunctionName", "life")
    code, text = tccli("GetFunction", "--FunctionName", "life")
    assert code != 0 and "ResourceNotFound.Function" in text


def test_versions_and_aliases(ok, tccli):
    named = ("--FunctionName", "versions")
    ok("CreateFunction", *named, "--Runtime", "Python3.9", "--Code", json.dumps({"ZipFile": package(FIRST)}))
    assert ok("PublishVersion", *named, "--Description", "the first")["FunctionVersion"] == "1"
    ok("UpdateFunctionCode", *named, "--ZipFile", package(SECOND), "--Publish", "TRUE")
    assert ok("ListVersionByFunction", *named, "--Order", "ASC")["FunctionVersion"] == ["$LATEST", "1", "2"]
    weights = json.dumps({"AdditionalVersionWeights": [{"Version": "2", "Weight": 1.0}]})
    ok("CreateAlias", *named, "--Name", "live", "--FunctionVersion", "1", "--RoutingConfig", weights)
    assert ok("Invoke", *named, "--Qualifier", "live")["Result"]["RetMsg"] == '"none"'
    ok("UpdateAlias", *named, "--Name", "live", "--FunctionVersion", "1", "--RoutingConfig", "{}")
    assert json.loads(ok("Invoke", *named, "--Qualifier", "live")["Result"]["RetMsg"])["name"] == "versions"
    code, text = tccli("DeleteFunctionVersion", *named, "--Qualifier", "1")
    assert code != 0 and "UnsupportedOperation.AliasBind" in text
    ok("DeleteAlias", *named, "--Name", "live")
    ok("DeleteFunctionVersion", *named, "--Qualifier", "1")
    ok("DeleteFunction", *named)


def test_timers(ok, tccli):
    named = ("--FunctionName", "timed")
    timer = (*named, "--TriggerName", "nightly", "--Type", "timer")
    ok("CreateFunction", *named, "--Runtime", "Python3.9", "--Code", json.dumps({"ZipFile": package(FIRST)}))
    assert ok("CreateTrigger", *timer, "--TriggerDesc", "0 30 2 * * * *", "--Enable", "CLOSE")["TriggerInfo"]["Enable"] == 0
    ok("UpdateTrigger", *timer, "--TriggerDesc", '{"cron":"0 45 2 * * * *"}', "--CustomArgument", "sleep")
    ok("UpdateTriggerStatus", *timer, "--Enable", "OPEN")
    (one, ) = ok("ListTriggers", *named)["Triggers"]
    assert (one["TriggerDesc"], one["CustomArgument"], one["Enable"]) == ('{"cron":"0 45 2 * * * *"}', "sleep", 1)
    ok("DeleteTrigger", *timer)
    code, text = tccli("DeleteTrigger", *timer)
    assert code != 0 and "ResourceNotFound.Trigger" in text
    ok("DeleteFunction", *named)


def test_layers_and_reserved_concurrency(ok):
    content = json.dumps({"ZipFile": package("WORD = 'shared'\n", "shared.py")})
    ok("PublishLayerVersion", "--LayerName", "common", "--CompatibleRuntimes", '["Python3.9"]', "--Content", content)
    uses = "import shared\ndef main_handler(event, context):\n    return shared.WORD\n"
    layers = json.dumps([{"LayerName": "common", "LayerVersion": 1}])
    named = ("--FunctionName", "layered")
    ok("CreateFunction", *named, "--Runtime", "Python3.9", "--Code", json.dumps({"ZipFile": package(uses)}), "--Layers", layers)
    assert ok("Invoke", *named)["Result"]["RetMsg"] == '"shared"'
    ok("PutReservedConcurrencyConfig", *named, "--ReservedConcurrencyMem", "256")
    assert ok("GetReservedConcurrencyConfig", *named)["ReservedMem"] == 256
    assert ok("GetAccount")["AccountUsage"]["TotalAllocatedConcurrencyMem"] == 256
    ok("DeleteReservedConcurrencyConfig", *named)
    ok("DeleteFunction", *named)
    ok("DeleteLayerVersion", "--LayerName", "common", "--LayerVersion", "1")
    assert ok("ListLayers")["TotalCount"] == 0
