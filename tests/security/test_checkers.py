"""Public tools that search for escapes, or stress a kernel, run inside a function: libcap's and libcap-ng's checkers, and stress-ng."""

import json
import re

import pytest

from api import Api
from package import package

RUNS = """
import os, subprocess
def main_handler(event, context):
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    done = subprocess.run(event["command"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict(os.environ, PATH=path), cwd="/tmp")
    return {"code": done.returncode, "output": done.stdout.decode("utf-8", "replace")[-20000:]}
"""
# Stressors of stress-ng; each is refused, or ends inside its own instance.
STRESSORS = ["access", "bad-altstack", "clone", "dev", "dnotify", "enosys", "fork", "get", "key", "kill", "mmap", "mq", "pipe", "prctl", "procfs",
             "ptrace", "resources", "seccomp", "sem-sysv", "set", "shm-sysv", "sigsegv", "sysbadaddr", "sysinfo", "unshare", "userfaultfd", "vfork",
             "zombie"]


@pytest.fixture(scope="module")
def api(server):
    api = Api(server)
    for name, memory in (("runs", 512), ("neighbour", 128)):
        api("CreateFunction", FunctionName=name, Runtime="Python3.9", Timeout=60, MemorySize=memory, Code={"ZipFile": package(RUNS)})
    return api


def run(api, command, name="runs"):
    return api("Invoke", FunctionName=name, ClientContext=json.dumps({"command": command})).Result


def output(api, *command):
    result = run(api, list(command))
    assert result.InvokeResult == 0, result.RetMsg
    return json.loads(result.RetMsg)["output"]


def test_capsh_finds_no_capability(api):
    said = output(api, "capsh", "--print")
    assert re.search(r"^Current: =$", said, re.M), said
    assert re.search(r"^Bounding set =$", said, re.M), said
    assert re.search(r"^Ambient set =$", said, re.M), said
    assert "no-new-privs=1" in said and not re.search(r"^uid=0", said, re.M), said


def test_captest_gains_no_capability(api):
    for flag in ("--text", "--drop-all", "--lock"):
        said = output(api, "captest", flag)
        assert re.search(r"[Cc]urrent capabilities: none", said), said
        assert "SUCCESS" not in said, said


@pytest.mark.parametrize("stressor", STRESSORS)
def test_kernel_stress_ends_inside_its_instance(api, stressor):
    result = run(api, ["stress-ng", "--temp-path", "/tmp", "--timeout", "1", "--" + stressor, "2"])
    # It ran, or its instance did not survive it, which is its own affair.
    assert result.InvokeResult == 0 or json.loads(result.ErrMsg)["statusCode"] in (433, 434, 439), result.ErrMsg
    if result.InvokeResult == 0:
        # The tool was found, and understood the request.
        assert json.loads(result.RetMsg)["code"] not in (1, 127), result.RetMsg
    assert json.loads(run(api, ["true"], "neighbour").RetMsg)["code"] == 0
