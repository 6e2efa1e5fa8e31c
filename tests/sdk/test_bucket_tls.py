"""Buckets over TLS under the local authority, by the names that clients of COS and S3 use. The names resolve to virga within this process."""

import os
import socket

import boto3
import pytest
from botocore.client import Config
from qcloud_cos import CosConfig, CosS3Client

from bucket_clients import ACCOUNT, REGION
from virga import Server

ADDRESS = "127.94.0.3"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    flags = ("--network", "internal", "--tls-listen", ADDRESS + ":9443", "--bucket-tls-listen", ADDRESS + ":443")
    server = Server(tmp_path_factory.mktemp("virga") / "data", "bucket-tls", flags)
    yield server
    server.stop()


@pytest.fixture
def ca(server, monkeypatch):
    """The authority's certificate; all names lead to virga."""
    real = socket.getaddrinfo
    names = (".myqcloud.com", ".tencentcos.cn", ".localhost", ".internal")
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *more, **also: real(
        ADDRESS if isinstance(host, str) and host.endswith(names) else host, *more, **also))
    return os.path.join(server.data, "tls", "ca.pem")


@pytest.mark.parametrize("domain", ["myqcloud.com", "tencentcos.cn"])
def test_cos_client_uses_its_builtin_hosts(server, ca, domain):
    hosts = dict(Endpoint="cos.%s.%s" % (REGION, domain), ServiceDomain="service.cos." + domain)
    client = CosS3Client(CosConfig(Region=REGION, **hosts, SecretId=server.secret_id, SecretKey=server.secret_key, Scheme="https", VerifySSL=ca), retry=0)
    bucket = "tls-%s-%s" % (domain.replace(".", "-"), ACCOUNT)
    client.create_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="k", Body=b"rain")
    assert client.get_object(Bucket=bucket, Key="k")["Body"].get_raw_stream().read() == b"rain"
    assert bucket in [one["Name"] for one in client.list_buckets()["Buckets"]["Bucket"]]


@pytest.mark.parametrize("style", ["path", "virtual"])
@pytest.mark.parametrize("host", ["s3.localhost", "s3.ap-guangzhou.localhost", "s3.virga.internal"])
def test_s3_client_uses_bucket_host(server, ca, host, style):
    client = boto3.client("s3", endpoint_url="https://" + host, region_name=REGION, aws_access_key_id=server.secret_id,
                          aws_secret_access_key=server.secret_key, verify=ca,
                          config=Config(s3={"addressing_style": style}, retries={"total_max_attempts": 1}))
    bucket = "tls-%s-%s" % (host.replace(".", "-"), style)
    client.create_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="k", Body=b"rain")
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"rain"
