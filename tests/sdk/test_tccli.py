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


def test_the_whole_life_of_a_function(tccli):
    def ok(action, *arguments):
        code, answer = tccli(action, *arguments)
        assert code == 0, answer
        return answer

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
