"""The conformance tests have called every action, with success and with failures.

This file runs last, after the files beside it.
"""

import pytest
from tencentcloud.scf.v20180416 import models, scf_client

from api import PUBLISHED, TAGS, Api


def test_the_published_actions_are_the_sdks():
    requests = {name[: -len("Request")] for name in dir(models) if name.endswith("Request")}
    assert set(PUBLISHED["actions"]) == {name for name in requests if hasattr(scf_client.ScfClient, name)}


def test_every_action_was_called():
    if len(Api.called) < 2:
        pytest.skip("it counts what the other files of this directory have called, in the same run")
    short = {}
    for action in sorted(list(PUBLISHED["actions"]) + list(TAGS["actions"])):
        seen = Api.called.get(action, set())
        if "" not in seen or len(seen) < 3:
            short[action] = sorted(seen)
    assert not short, "each needs a case that succeeds and two that fail in different ways"
