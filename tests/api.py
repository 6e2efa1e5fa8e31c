"""The official Python SDK, action by action."""

import json

import pytest
from tencentcloud.common import credential
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.scf.v20180416 import models, scf_client


class Api:
    """Calls actions by name and notes which."""

    def __init__(self, server, method="TC3-HMAC-SHA256", verb="POST", unsigned=False, endpoint=None, key=None):
        http = HttpProfile(endpoint=endpoint or server.address, protocol="http", reqMethod=verb)
        profile = ClientProfile(signMethod=method, httpProfile=http)
        profile.unsignedPayload = unsigned
        pair = credential.Credential(server.secret_id, key or server.secret_key)
        self.client = scf_client.ScfClient(pair, "ap-guangzhou", profile)
        self.called = set()

    def __call__(self, action, **fields):
        self.called.add(action)
        request = getattr(models, action + "Request")()
        request.from_json_string(json.dumps(fields))
        return getattr(self.client, action)(request)

    def code(self, action, **fields):
        """The error code with which an action is refused."""
        with pytest.raises(TencentCloudSDKException) as refused:
            self(action, **fields)
        assert refused.value.get_request_id()
        return refused.value.get_code()
