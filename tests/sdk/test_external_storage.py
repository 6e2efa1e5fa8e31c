"""Buckets whose bytes are in an external S3: a real SeaweedFS, which fails and recovers meanwhile."""

import hashlib
import json
import re
import time

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

import seaweed
from virga import Server

pytestmark = pytest.mark.skipif(not seaweed.FOUND, reason="SeaweedFS is not installed; pip install -r tests/sdk/requirements.txt")

MB = 1 << 20
LARGE = hashlib.shake_256(b"large").digest(20 * MB)
SMALL = b"small"


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    storage = seaweed.SeaweedFS(tmp_path_factory.mktemp("weed") / "data")
    yield storage
    storage.stop()


@pytest.fixture(scope="module")
def virga(storage, tmp_path_factory):
    directory = tmp_path_factory.mktemp("external")
    keys = directory / "keys.json"
    keys.write_text(json.dumps({"access_key_id": "anybody", "secret_access_key": "not-checked"}))
    server = Server(directory / "data", "external", (
        "--network", "internal", "--bucket-s3-endpoint", "http://" + storage.address, "--bucket-s3-bucket", "first",
        "--bucket-s3-credentials", str(keys)))
    yield server
    server.stop()
    assert "not-checked" not in open(server.data + ".log").read()


def connect(virga):
    return boto3.client("s3", endpoint_url="http://" + virga.buckets, region_name="ap-guangzhou", aws_access_key_id=virga.secret_id,
                        aws_secret_access_key=virga.secret_key,
                        config=Config(retries={"max_attempts": 1, "mode": "standard"}, proxies={}, read_timeout=120))


@pytest.fixture
def client(virga):
    client = connect(virga)
    if "photos" not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket="photos")
    return client


def blobs(storage):
    """The keys in the external storage."""
    _, listed = storage.call("GET", "/first?list-type=2")
    return set(re.findall("<Key>([^<]*)</Key>", listed))


def eventually(what, check):
    for _ in range(600):
        if check():
            return
        time.sleep(0.1)
    raise AssertionError(what)


def read(client, key, **more):
    return client.get_object(Bucket="photos", Key=key, **more)["Body"].read()


def test_objects_are_read_back_unchanged(virga, storage, client):
    before = blobs(storage)
    client.put_object(Bucket="photos", Key="small", Body=SMALL)
    assert blobs(storage) == before, "small objects are in the index"
    client.put_object(Bucket="photos", Key="large", Body=LARGE)
    assert len(blobs(storage) - before) == 1
    upload = client.create_multipart_upload(Bucket="photos", Key="parts")["UploadId"]
    parts = []
    for number in (1, 2):
        half = LARGE[(number - 1) * 10 * MB:number * 10 * MB]
        tag = client.upload_part(Bucket="photos", Key="parts", UploadId=upload, PartNumber=number, Body=half)["ETag"]
        parts.append({"PartNumber": number, "ETag": tag})
    client.complete_multipart_upload(Bucket="photos", Key="parts", UploadId=upload, MultipartUpload={"Parts": parts})
    assert all(key.startswith("virga-") for key in blobs(storage) - before)
    virga.stop()
    virga.start()
    client = connect(virga)
    for key in ("large", "parts"):
        assert read(client, key) == LARGE
        # Across the parts of the upload there, and of the one here.
        assert read(client, key, Range="bytes=%d-%d" % (8 * MB - 3, 10 * MB + 3)) == LARGE[8 * MB - 3:10 * MB + 4]
        assert read(client, key, Range="bytes=-5") == LARGE[-5:]
    assert read(client, "small") == SMALL
    for key in ("small", "large", "parts"):
        client.delete_object(Bucket="photos", Key=key)
    eventually("their bytes are gone", lambda: blobs(storage) == before)


def test_garbage_collection_removes_only_garbage(virga, storage, client):
    client.put_object(Bucket="photos", Key="kept", Body=LARGE)
    prefix = next(iter(blobs(storage))).split("/")[0]
    garbage, others = prefix + "/00/" + "0" * 32, {"00/" + "0" * 32, prefix + "/notes.txt"}
    for key in {garbage} | others:
        storage.call("PUT", "/first/" + key, b"bytes")
    virga.stop()
    virga.start()
    eventually("garbage is removed", lambda: garbage not in blobs(storage))
    assert others <= blobs(storage)
    assert read(connect(virga), "kept") == LARGE
    for key in others:
        storage.call("DELETE", "/first/" + key)


def test_outage_of_external_storage_is_reported_and_recovered(virga, storage, client):
    virga.expect("a bucket request failed: the external storage is unavailable", "failed to remove a blob", "failed to abort an upload")
    client.put_object(Bucket="photos", Key="there", Body=LARGE)
    client.put_object(Bucket="photos", Key="small", Body=SMALL)
    upload = client.create_multipart_upload(Bucket="photos", Key="parts")["UploadId"]
    part = {"Bucket": "photos", "Key": "parts", "UploadId": upload, "PartNumber": 1}
    half_read = client.get_object(Bucket="photos", Key="there")["Body"]
    begun = half_read.read(MB)
    storage.stop()
    for refused in (lambda: client.put_object(Bucket="photos", Key="new", Body=LARGE), lambda: client.upload_part(Body=LARGE, **part),
                    lambda: read(client, "there")):
        with pytest.raises(ClientError) as failure:
            refused()
        answer = failure.value.response
        assert (answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]) == (503, "ServiceUnavailable")
    # Objects in the index are still served.
    assert read(client, "small") == SMALL
    assert client.head_object(Bucket="photos", Key="there")["ContentLength"] == len(LARGE)
    assert {one["Key"] for one in client.list_objects_v2(Bucket="photos")["Contents"]} >= {"small", "there"}
    with pytest.raises(ClientError):
        client.head_object(Bucket="photos", Key="new")
    # A read in progress ends early with an error, or waits until it can continue; it never returns wrong bytes.
    storage.start()
    try:
        assert begun + half_read.read() == LARGE
    except Exception as failure:  # noqa: B902 boto's own kinds
        assert "IncompleteRead" in type(failure).__name__ + str(failure) or "Connection" in type(failure).__name__ + str(failure), failure
    eventually("it is there again", lambda: put(client, "new"))
    assert read(client, "new") == read(client, "there") == LARGE
    tag = client.upload_part(Body=LARGE, **part)["ETag"]
    client.complete_multipart_upload(Bucket="photos", Key="parts", UploadId=upload,
                                     MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]})
    assert read(client, "parts") == LARGE
    for key in ("new", "there", "parts", "small"):
        client.delete_object(Bucket="photos", Key=key)


def put(client, key):
    try:
        client.put_object(Bucket="photos", Key=key, Body=LARGE)
        return True
    except ClientError as failure:
        assert failure.response["Error"]["Code"] == "ServiceUnavailable", failure
        return False
