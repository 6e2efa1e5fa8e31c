"""The official Python SDK with keys of several accounts."""

import json

import pytest
from tencentcloud.common.common_client import CommonClient
from tencentcloud.common import credential
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile

from api import Api
from package import FIRST, package


class Pair:
    """A key, where `Api` looks for one."""

    def __init__(self, server, made):
        self.address = server.address
        self.secret_id, self.secret_key = made["SecretId"], made["SecretKey"]


def make_key(server, tmp_path, statements):
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({"version": "2.0", "statement": statements}))
    return Pair(server, json.loads(server.cli("key", "create", "--policy", str(path))))


@pytest.fixture(scope="module")
def api(server):
    return Api(server)


def test_accounts_do_not_see_each_other(server, api):
    created = json.loads(server.cli("account", "create", "neighbour"))
    other = Api(Pair(server, created))
    api("CreateFunction", FunctionName="mine", Runtime="Python3.9", Code={"ZipFile": package(FIRST)})
    assert other("ListFunctions").TotalCount == 0
    assert other.code("GetFunction", FunctionName="mine") == "ResourceNotFound.Function"
    other("CreateFunction", FunctionName="mine", Runtime="Python3.9", Code={"ZipFile": package(FIRST)})
    other("DeleteFunction", FunctionName="mine")
    assert api("ListFunctions").TotalCount == 1
    api("DeleteFunction", FunctionName="mine")
    server.cli("account", "delete", "neighbour")
    assert other.code("ListFunctions") == "AuthFailure.SecretIdNotFound"


def test_policy_limits_a_key(server, api, tmp_path):
    api("CreateFunction", FunctionName="bounded", Runtime="Python3.9", Code={"ZipFile": package(FIRST)})
    resource = "qcs::scf:ap-guangzhou:uin/100000000001:namespace/default/function/bounded"
    key = Api(make_key(server, tmp_path, [{"effect": "allow", "action": ["scf:InvokeFunction"], "resource": [resource]}]))
    assert key("Invoke", FunctionName="bounded").Result.InvokeResult == 0
    assert key.code("GetFunction", FunctionName="bounded") == "UnauthorizedOperation"
    assert key.code("Invoke", FunctionName="another") == "UnauthorizedOperation"
    api("DeleteFunction", FunctionName="bounded")


@pytest.mark.parametrize("method", ["HmacSHA1", "HmacSHA256"])
def test_policy_applies_to_version_2_signatures(server, api, tmp_path, method):
    pair = make_key(server, tmp_path, [{"effect": "allow", "action": "scf:ListNamespaces", "resource": "*"}])
    old = Api(pair, method=method)
    assert old("ListNamespaces").TotalCount == 1
    assert old.code("ListFunctions") == "UnauthorizedOperation"


def test_common_client_of_the_sdk_cannot_sign_operator_requests(server):
    profile = ClientProfile(httpProfile=HttpProfile(endpoint=server.address, protocol="http"))
    pair = credential.Credential(server.secret_id, server.secret_key)
    keys = server.cli("key", "list", "--json")
    for service in ("scf", "virga_operator"):
        client = CommonClient(service, "virga-1", pair, "ap-guangzhou", profile=profile)
        for action in ("ListAccounts", "CreateKey"):
            with pytest.raises(TencentCloudSDKException) as refused:
                client.call_json(action, {})
            assert refused.value.get_code() in ("AuthFailure.SignatureFailure", "MissingParameter")
    assert server.cli("key", "list", "--json") == keys


def test_temporary_credentials_come_with_their_token(server, api, tmp_path):
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({"version": "2.0", "statement": [{"effect": "allow", "action": "scf:List*", "resource": "*"}]}))
    server.cli("role", "create", "checker", "--policy", str(path))
    lent = json.loads(server.cli("role", "assume", "checker"))
    pair = Pair(server, {"SecretId": lent["TmpSecretId"], "SecretKey": lent["TmpSecretKey"]})
    for method in ("TC3-HMAC-SHA256", "HmacSHA256"):
        temporary = Api(pair, method=method, token=lent["Token"])
        assert temporary("ListNamespaces").TotalCount == 1
        assert temporary.code("GetAccount") == "UnauthorizedOperation"
        assert Api(pair, method=method).code("ListNamespaces") == "AuthFailure.TokenFailure"
        assert Api(pair, method=method, token="x").code("ListNamespaces") == "AuthFailure.TokenFailure"
    server.cli("role", "delete", "checker")
    assert temporary.code("ListNamespaces") == "AuthFailure.TokenFailure"
