"""Official clients inside functions, with the endpoints that they have built in and the keys of the function's role.

Nothing of them is changed: they come as a layer, and go where they go in the cloud.
"""

import base64
import importlib
import io
import json
import os
import sys
import zipfile

import pytest

from api import Api
from bucket_clients import ACCOUNT, REGION, S3
from package import package

RUNTIME = "Python%d.%d" % sys.version_info[:2]
# The clients' packages; of the SDK only SCF's service, since the whole SDK exceeds the size of a layer.
MODULES = ["certifi", "charset_normalizer", "Crypto", "crcmod", "idna", "qcloud_cos", "requests", "six", "urllib3", "xmltodict",
           "tencentcloud/common", "tencentcloud/scf", "tencentcloud/__init__.py", "tencentserverless"]
INSIDE = '''
import os
from qcloud_cos import CosConfig, CosS3Client, CosServiceError
from tencentcloud.common import credential
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.scf.v20180416 import models, scf_client

REGION = os.environ["TENCENTCLOUD_REGION"]

def keys():
    return [os.environ["TENCENTCLOUD_" + name] for name in ("SECRETID", "SECRETKEY", "SESSIONTOKEN")]

def lists(event):
    client = scf_client.ScfClient(credential.Credential(*keys()), REGION)
    return sorted(one.FunctionName for one in client.ListFunctions(models.ListFunctionsRequest()).Functions)

def deletes(event):
    client = scf_client.ScfClient(credential.Credential(*keys()), REGION)
    request = models.DeleteFunctionRequest()
    request.FunctionName = event["name"]
    try:
        return client.DeleteFunction(request).RequestId
    except TencentCloudSDKException as refused:
        return refused.get_code()

def invokes(event):
    from tencentserverless import scf
    return scf.invoke(event["name"], data=event["data"])

def copies(event):
    secret_id, secret_key, token = keys()
    domain = event.get("domain")
    endpoint = domain and "cos.%s.%s" % (REGION, domain)
    client = CosS3Client(CosConfig(Region=event.get("region", REGION), Endpoint=endpoint, SecretId=secret_id, SecretKey=secret_key, Token=token))
    body = client.get_object(Bucket=event["bucket"], Key=event["from"])["Body"].get_raw_stream().read()
    try:
        client.put_object(Bucket=event["bucket"], Key=event["to"], Body=body + b" again")
    except CosServiceError as refused:
        return refused.get_error_code()
    return body.decode()

def main_handler(event, context):
    return globals()[event["do"]](event)
'''
ECHO = "def main_handler(event, context):\n    return {'echo': event}\n"


def libraries():
    """A layer with the clients, as they are installed here."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for module in MODULES:
            place = os.path.dirname(importlib.import_module(module.split("/")[0]).__file__)
            site = os.path.dirname(place) if os.path.basename(place) == module.split("/")[0] else place
            root = os.path.join(site, module)
            files = [os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names]
            if not files:
                files = [root if os.path.isfile(root) else root + ".py"]
            for path in files:
                if not path.endswith(".pyc"):
                    archive.write(path, os.path.relpath(path, site))
    return base64.b64encode(packed.getvalue()).decode()


@pytest.fixture(scope="module", params=["ENABLE", "DISABLE"])
def inside(request, server, tmp_path_factory):
    """Does something in a function whose role may list and call functions, and read and write some objects of a bucket. The platform's
    services are not the public network."""
    where = "qcs::cos:%s:uid/%s:cloud-%s/" % (REGION, ACCOUNT, ACCOUNT)
    policy = {"version": "2.0", "statement": [
        {"effect": "allow", "action": ["scf:ListFunctions", "scf:Invoke"], "resource": ["*"]},
        {"effect": "allow", "action": ["name/cos:GetObject"], "resource": [where + "in/*"]},
        {"effect": "allow", "action": ["name/cos:PutObject"], "resource": [where + "out/*"]},
    ]}
    file = tmp_path_factory.mktemp("policy") / "policy.json"
    file.write_text(json.dumps(policy))
    server.cli("role", "create", "clouded", "--policy", str(file))
    api = Api(server)
    version = api("PublishLayerVersion", LayerName="clients", CompatibleRuntimes=[RUNTIME], Content={"ZipFile": libraries()}).LayerVersion
    layers = [{"LayerName": "clients", "LayerVersion": version}]
    api("CreateFunction", FunctionName="echo", Runtime=RUNTIME, Code={"ZipFile": package(ECHO)})
    api("CreateFunction", FunctionName="inside", Runtime=RUNTIME, Role="clouded", Timeout=60, InitTimeout=60, MemorySize=512, Layers=layers,
        PublicNetConfig={"PublicNetStatus": request.param, "EipConfig": {"EipStatus": "DISABLE"}}, Code={"ZipFile": package(INSIDE)})

    def do(what, **event):
        result = api("Invoke", FunctionName="inside", ClientContext=json.dumps(dict(event, do=what))).Result
        assert result.InvokeResult == 0, result.ErrMsg
        return json.loads(result.RetMsg)

    yield do
    for name in ("echo", "inside"):
        api("DeleteFunction", FunctionName=name)


def test_python_sdk_uses_its_builtin_host_with_role_credentials(inside):
    assert inside("lists") == ["echo", "inside"]
    assert inside("deletes", name="echo") == "UnauthorizedOperation"
    assert inside("lists") == ["echo", "inside"]


def test_tencentserverless_calls_another_function(inside):
    answer = inside("invokes", name="echo", data={"rain": 7})
    answer = json.loads(answer) if isinstance(answer, str) else answer
    assert answer == {"echo": {"rain": 7}}


@pytest.fixture(scope="module")
def store(server):
    store = S3(server, "cloud")
    store.create()
    return store


@pytest.mark.parametrize("domain", [None, "tencentcos.cn"])
def test_cos_sdk_uses_its_builtin_hosts_with_role_credentials(store, inside, domain):
    store.put("in/k", b"rain")
    bucket = "cloud-" + ACCOUNT
    assert inside("copies", bucket=bucket, domain=domain, **{"from": "in/k", "to": "out/k"}) == "rain"
    assert store.get("out/k")[0] == b"rain again"
    assert inside("copies", bucket=bucket, domain=domain, **{"from": "in/k", "to": "another-bucket"}) == "AccessDenied"
