"""User ids of instances: none is reused soon, even after a kill, and a few ids are enough for many functions."""

import json
from contextlib import contextmanager

import pytest

from api import Api
from package import package
from virga import Server

WHO = "import os\ndef main_handler(event, context):\n    return os.getuid()\n"


def who(api, name):
    api("CreateFunction", FunctionName=name, Runtime="Python3.9", Code={"ZipFile": package(WHO)})
    return json.loads(api("Invoke", FunctionName=name).Result.RetMsg)


@contextmanager
def running(tmp_path, *flags):
    server = Server(tmp_path / "data", "users", ["--network", "internal", *flags])
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_user_id_is_not_reused_by_another_account_after_a_restart(end, tmp_path):
    with running(tmp_path) as server:
        created = json.loads(server.cli("account", "create", "stranger"))
        before = [who(Api(server), "first%d" % number) for number in range(3)]
        if end == "stop":
            server.process.terminate()
            server.process.wait(60)
        else:
            server.kill()
        server.start()
        theirs = Api(server, secret_id=created["SecretId"], key=created["SecretKey"])
        after = [who(theirs, "second%d" % number) for number in range(3)]
    # All ids of the first run come before these, in the order of assignment.
    assert min(after) > max(before), (before, after)


def test_prewarmed_sandboxes_release_user_ids_for_another_account(tmp_path):
    with running(tmp_path, "--uid-count", "24") as server:
        server.expect("failed to make a pre-warmed sandbox; retrying after the pause")
        users = [who(Api(server), "of-first")]
        # Each account has sandboxes that wait for its functions, and all of them together are more than there are users.
        for number in range(6):
            created = json.loads(server.cli("account", "create", "account%d" % number))
            theirs = Api(server, secret_id=created["SecretId"], key=created["SecretKey"])
            users.append(who(theirs, "of-other"))
    assert len(set(users)) == len(users), users
