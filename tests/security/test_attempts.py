"""An attacker inside a function, checked from outside: every attempt must be refused in the expected way.

One server, one attacking function for attempts inside an instance, and pairs of functions for attempts across instances.
"""

import base64
import io
import json
import os
import re
import socket
import stat
import sys
import zipfile

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
import attacker
from api import Api
from virga import Server, UserServer

PAIRS = [name for name in attacker.ATTEMPTS if name.startswith("leave_")]
ALONE = [name for name in attacker.ATTEMPTS if name not in PAIRS]


@pytest.fixture(scope="module", params=["root", "user"])
def world(tmp_path_factory, request):
    if request.param == "root":
        server = Server(tmp_path_factory.mktemp("virga") / "data", "security")
    else:
        server = UserServer("security")
    api = Api(server)
    attacker = ("index.py", open(os.path.join(HERE, "attacker.py")).read(), None)
    code = package([attacker])
    for name in ("attacker", "leaves"):
        api("CreateFunction", FunctionName=name, Runtime="Python3.9", Timeout=20, Code={"ZipFile": code})
    # Equal packages have one overlay for all functions of an account.
    code = package([attacker, ("another", "", None)])
    api("CreateFunction", FunctionName="finds", Runtime="Python3.9", Timeout=20, Code={"ZipFile": code})
    listening = socket.socket(socket.AF_UNIX)
    listening.bind("\0virga-security-test")
    listening.listen(1)
    yield server, api
    listening.close()
    server.stop()


def package(entries):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text, mode in entries:
            entry = zipfile.ZipInfo(name)
            entry.create_system = 3
            entry.external_attr = (mode or 0o100644) << 16
            archive.writestr(entry, text)
    return base64.b64encode(packed.getvalue()).decode()


def run(world, function, attempt, **more):
    server, api, *_ = world
    directory = [word for word in open("/proc/%d/cmdline" % server.process.pid).read().split("\0")]
    data = directory[directory.index("--data") + 1]
    host = [line.split()[0] for line in os.popen("hostname -I")] or ["127.0.0.2"]
    event = dict(more, attempt=attempt, data=data, api=server.address, host=host[0], abstract="virga-security-test",
                 root=not isinstance(server, UserServer))
    result = api("Invoke", FunctionName=function, ClientContext=json.dumps(event)).Result
    assert result.InvokeResult == 0, result.RetMsg
    return json.loads(result.RetMsg)


@pytest.mark.parametrize("name", ALONE)
def test_attempts_inside_one_instance(world, name):
    _, expected = attacker.ATTEMPTS[name]
    got = run(world, "attacker", name)
    assert re.fullmatch(expected, got), "%s: %s" % (name, got)


@pytest.mark.parametrize("name", PAIRS)
def test_attempts_against_a_neighbour_instance(world, name):
    left = run(world, "leaves", name, side="leave")
    found = run(world, "finds", name, side="find")
    assert "left: True" in left, "the attempt itself does not work: %s" % left
    assert "found: False" in found, "%s: %s" % (name, found)


@pytest.fixture(scope="module")
def stranger(world):
    """Another account, with a function of the same package."""
    server, api = world
    created = json.loads(server.cli("account", "create", "stranger"))
    theirs = Api(server, secret_id=created["SecretId"], key=created["SecretKey"])
    code = package([("index.py", open(os.path.join(HERE, "attacker.py")).read(), None)])
    theirs("CreateFunction", FunctionName="finds", Runtime="Python3.9", Timeout=20, Code={"ZipFile": code})
    return server, theirs


@pytest.mark.parametrize("name", [name for name in PAIRS if "lock" in name])
def test_attempts_against_another_account(world, stranger, name):
    left = run(world, "leaves", name, side="leave", stranger=True)
    found = run(stranger, "finds", name, side="find", stranger=True)
    assert "left: True" in left, left
    assert "found: False" in found, found


def test_instances_do_not_see_each_others_open_files(world):
    step = lambda function, step: run(world, function, "watch_activity_of_others", step=step)
    assert step("leaves", "watch") == "watching"
    assert step("finds", "use") == "used"
    assert step("leaves", "look") == "nothing"
    # It sees its own actions.
    assert step("leaves", "use") == "used"
    assert step("leaves", "look") != "nothing"


def test_two_instances_have_different_user_ids(world):
    server, api = world
    source = "import os, time\ndef main_handler(event, context):\n    time.sleep(0.5)\n    return [os.getuid(), os.getgid()]\n"
    api("CreateFunction", FunctionName="who", Runtime="Python3.9", Code={"ZipFile": package([("index.py", source, None)])})
    import concurrent.futures

    def call(_):
        return json.loads(Api(server)("Invoke", FunctionName="who").Result.RetMsg)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        users = list(pool.map(call, range(4)))
    assert len({user for user, _ in users}) > 1
    assert all(user == group and user >= 1000 for user, group in users), users


@pytest.mark.parametrize("target", ["/etc/shadow", "../../../../etc/shadow", "/proc/self/root"])
def test_a_link_in_a_package(world, target):
    _, api = world
    entries = [("index.py", "", None), ("link", target, stat.S_IFLNK | 0o777)]
    code = api.code("CreateFunction", FunctionName="links", Runtime="Python3.9", Code={"ZipFile": package(entries)})
    assert code == "InvalidParameterValue.ZipFile"


def test_answer_forged_before_its_request_is_refused(world):
    """A handler writes a second answer behind its own; the next request must not be given it."""
    server, api = world
    source = """
import os, struct, threading
def main_handler(event, context):
    if event.get("forge"):
        body = struct.pack("<H", 200) + b'"forged"'
        frame = struct.pack("<IBBxx", len(body), 17, 2) + body
        threading.Timer(0.3, os.write, (4, frame)).start()  # After this request's own answer.
    return "honest"
"""
    api("CreateFunction", FunctionName="forger", Runtime="Python3.9", Code={"ZipFile": package([("index.py", source, None)])})
    import time

    for _ in range(3):
        assert json.loads(api("Invoke", FunctionName="forger", ClientContext='{"forge": 1}').Result.RetMsg) == "honest"
        results, until = [], time.monotonic() + 120
        # Until it is there: who finds it instead of its own answer ends.
        while not any("another request" in result.ErrMsg for result in results):
            assert time.monotonic() < until, [result.ErrMsg for result in results]
            time.sleep(0.03)
            results.append(api("Invoke", FunctionName="forger").Result)
        assert all(result.RetMsg != '"forged"' for result in results), [result.RetMsg for result in results]


def test_number_of_attempts_does_not_shrink():
    assert len(attacker.ATTEMPTS) >= 60
