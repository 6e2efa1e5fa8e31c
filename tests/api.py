"""The official Python SDK, action by action."""

import json
import os

import pytest
from tencentcloud.common import credential
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.scf.v20180416 import models, scf_client
from tencentcloud.tag.v20180813 import models as tag_models
from tencentcloud.tag.v20180813 import tag_client

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PUBLISHED = json.load(open(os.path.join(ROOT, "crates/scf/tests/api-2018-04-16.json")))
# Fields of SCF's answers that its SDKs lack.
UNPUBLISHED = json.load(open(os.path.join(ROOT, "crates/scf/tests/unpublished.json")))
for name, fields in UNPUBLISHED["types"].items():
    PUBLISHED["types"][name].update(fields)
# The same of the tag service, whose types share names with SCF's.
TAGS = json.load(open(os.path.join(ROOT, "crates/scf/tests/tag-2018-08-13.json")))
PLAIN = {"str": str, "int": int, "float": (int, float), "bool": bool}


def misfits(value, kind, where, types=PUBLISHED["types"]):
    """The differences between an answer and the published API: missing or unknown fields, values of another type."""
    if value is None:
        return []
    if kind.startswith("["):
        if not isinstance(value, list):
            return ["%s is no list: %r" % (where, value)]
        return [wrong for number, one in enumerate(value) for wrong in misfits(one, kind[1:-1], "%s[%d]" % (where, number), types)]
    if kind in PLAIN:
        # A bool of Python's is an int, too.
        fits = isinstance(value, PLAIN[kind]) and (kind == "bool" or not isinstance(value, bool))
        return [] if fits else ["%s is no %s: %r" % (where, kind, value)]
    return fields_that_misfit(value, types[kind], where, types)


def fields_that_misfit(value, fields, where, types=PUBLISHED["types"]):
    if not isinstance(value, dict):
        return ["%s is no object: %r" % (where, value)]
    named = ["%s.%s is %s" % (where, name, "unknown" if name in value else "missing") for name in set(value) ^ set(fields)]
    return sorted(named) + [wrong for name in set(value) & set(fields) for wrong in misfits(value[name], fields[name], where + "." + name, types)]


class Api:
    """Calls actions by name, checks the shape of each answer, and records the calls and their error codes."""

    published = PUBLISHED
    models = models
    Client = scf_client.ScfClient
    # The codes of each action, over all conformance tests; the empty one is success.
    called = {}

    def __init__(self, server, method="TC3-HMAC-SHA256", verb="POST", unsigned=False, endpoint=None, key=None, secret_id=None, token=None):
        http = HttpProfile(endpoint=endpoint or server.address, protocol="http", reqMethod=verb)
        profile = ClientProfile(signMethod=method, httpProfile=http)
        profile.unsignedPayload = unsigned
        pair = credential.Credential(secret_id or server.secret_id, key or server.secret_key, token)
        self.client = self.Client(pair, "ap-guangzhou", profile)
        self.send, self.client.call = self.client.call, self.see

    def see(self, action, *arguments, **more):
        """Sends for the SDK, and looks at what came back."""
        codes = Api.called.setdefault(action, set())
        try:
            answer = self.send(action, *arguments, **more)
        except TencentCloudSDKException as refused:
            codes.add(refused.get_code())
            raise
        codes.add("")
        wrong = fields_that_misfit(json.loads(answer)["Response"], self.published["actions"][action]["response"], action,
                                   self.published["types"])
        assert not wrong, wrong
        return answer

    def __call__(self, action, **fields):
        request = getattr(self.models, action + "Request")()
        request.from_json_string(json.dumps(fields))
        return getattr(self.client, action)(request)

    def code(self, action, **fields):
        """The error code with which an action is refused."""
        with pytest.raises(TencentCloudSDKException) as refused:
            self(action, **fields)
        assert refused.value.get_request_id()
        return refused.value.get_code()


class Tags(Api):
    """The same of the tag service."""

    published = TAGS
    models = tag_models
    Client = tag_client.TagClient
