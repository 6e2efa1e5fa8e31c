"""What the judges before have called: every action that virga serves, with success and with failures.

It comes last, after the files beside it.
"""

import pytest
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.scf.v20180416 import models, scf_client

from api import PUBLISHED, Api


def test_the_published_actions_are_the_sdks():
    requests = {name[: -len("Request")] for name in dir(models) if name.endswith("Request")}
    assert set(PUBLISHED["actions"]) == {name for name in requests if hasattr(scf_client.ScfClient, name)}


def test_every_action_that_is_served_was_called(server):
    if len(Api.called) < 2:
        pytest.skip("it counts what the other files of this directory have called, in the same run")
    called = {action: set(codes) for action, codes in Api.called.items()}
    api = Api(server)
    short = {}
    for action in sorted(PUBLISHED["actions"]):
        try:
            api(action)
            code = ""
        except TencentCloudSDKException as refused:
            code = refused.get_code()
        seen = called.get(action, set())
        failures = seen - {""}
        if code != "UnsupportedOperation" and ("" not in seen or len(failures) < 2):
            short[action] = sorted(seen)
    assert not short, "each needs a case that succeeds and two that fail in different ways"
