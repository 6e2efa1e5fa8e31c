"""Events from external storage: a real SeaweedFS reports its changes, and functions run."""

import json
import re
import time

import pytest

import seaweed
from api import Api
from package import package
from virga import Server

pytestmark = pytest.mark.skipif(not seaweed.FOUND, reason="SeaweedFS is not installed; pip install -r tests/sdk/requirements.txt")

TOKEN = "the-token-of-a-seaweedfs"
ECHO = "def main_handler(event, context):\n    return event\n"


@pytest.fixture(scope="module")
def virga(tmp_path_factory):
    directory = tmp_path_factory.mktemp("seaweedfs")
    sources = directory / "sources.toml"
    sources.write_text("[weed]\ntoken = '%s'\n[weed.buckets]\nPhotos = 'photos'\n" % TOKEN)
    server = Server(directory / "data", "seaweedfs", ("--network", "internal", "--event-sources", str(sources)))
    yield server
    server.stop()
    assert TOKEN not in open(server.data + ".log").read()


@pytest.fixture(scope="module")
def storage(virga, tmp_path_factory):
    storage = seaweed.SeaweedFS(tmp_path_factory.mktemp("weed") / "data", "http://%s/events/s3" % virga.address, TOKEN)
    yield storage
    storage.stop()


@pytest.fixture(scope="module")
def api(virga):
    api = Api(virga)
    for name, event in (("made", "cos:ObjectCreated:*"), ("gone", "cos:ObjectRemove:*")):
        api("CreateFunction", FunctionName=name, Runtime="Python3.9", Code={"ZipFile": package(ECHO)})
        for bucket in ("photos", "kept"):
            host = "%s-1250000000.cos.ap-guangzhou.myqcloud.com" % bucket
            api("CreateTrigger", FunctionName=name, Type="cos", TriggerName=host,
                TriggerDesc=json.dumps({"event": event, "filter": {"Prefix": "in/", "Suffix": ""}}))
    yield api


def got(api, name, key, count):
    """The events that a function got of a key, once they are so many."""
    found = []
    for _ in range(600):
        logs = api("GetFunctionLogs", FunctionName=name, Limit=1000).Data
        records = [json.loads(log.RetMsg)["Records"][0] for log in logs]
        found = [one for one in records if one["cos"]["cosObject"]["key"] == key]
        if len(found) >= count:
            return found
        time.sleep(0.1)
    raise AssertionError("%s got %s" % (name, found))


def test_objects_run_functions(api, storage):
    storage.call("PUT", "/photos")
    # The last one says when all before it have come.
    storage.call("PUT", "/photos/out/a.jpg", b"nobody waits for it")
    storage.call("PUT", "/photos/in/a b+ü.jpg", b"0123456789", **{"Content-Type": "image/jpeg"})
    key = "/1250000000/photos/in/a b+ü.jpg"
    [record] = got(api, "made", key, 1)
    assert record["event"]["eventName"] == "cos:ObjectCreated:Put"
    assert record["event"]["eventQueue"] == "qcs:0:lambda:gz:appid/1250000000:default.made.$LATEST"
    assert abs(record["event"]["eventTime"] - time.time()) < 120
    assert record["cos"]["cosBucket"] == {"region": "gz", "name": "photos", "appid": "1250000000"}
    assert record["cos"]["cosObject"]["size"] == 10
    assert record["cos"]["cosObject"]["meta"]["Content-Type"] == "image/jpeg"
    # Over it, and away.
    storage.call("PUT", "/photos/in/a b+ü.jpg", b"other")
    sizes = sorted(one["cos"]["cosObject"]["size"] for one in got(api, "made", key, 2))
    assert sizes == [5, 10]
    storage.call("DELETE", "/photos/in/a b+ü.jpg")
    [record] = got(api, "gone", key, 1)
    assert (record["event"]["eventName"], record["cos"]["cosObject"]["size"]) == ("cos:ObjectRemove:Delete", 5)
    assert not [log for log in api("GetFunctionLogs", FunctionName="made", Limit=1000).Data if "/out/" in log.RetMsg]


def test_copy_and_multipart_upload_cause_one_event_each(api, storage):
    storage.call("PUT", "/photos/in/first", b"x" * 100)
    storage.call("PUT", "/photos/in/copy", **{"x-amz-copy-source": "/photos/in/first"})
    assert got(api, "made", "/1250000000/photos/in/copy", 1)[0]["cos"]["cosObject"]["size"] == 100
    upload = re.search("<UploadId>(.*)</UploadId>", storage.call("POST", "/photos/in/parts?uploads")[1]).group(1)
    parts = ""
    for number in (1, 2):
        headers, _ = storage.call("PUT", "/photos/in/parts?partNumber=%d&uploadId=%s" % (number, upload), b"z" * (5 << 20))
        parts += "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>" % (number, headers["ETag"])
    whole = "<CompleteMultipartUpload>%s</CompleteMultipartUpload>" % parts
    storage.call("POST", "/photos/in/parts?uploadId=%s" % upload, whole.encode())
    [record] = got(api, "made", "/1250000000/photos/in/parts", 1)
    assert record["event"]["eventName"] == "cos:ObjectCreated:CompleteMultipartUpload"
    assert record["cos"]["cosObject"]["size"] == 10 << 20
    # Tags are no change of the object: what comes after them comes alone.
    tags = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
    storage.call("PUT", "/photos/in/first?tagging", tags)
    storage.call("PUT", "/photos/in/last", b"x")
    got(api, "made", "/1250000000/photos/in/last", 1)
    assert len(got(api, "made", "/1250000000/photos/in/first", 1)) == 1
    assert not [log for log in api("GetFunctionLogs", FunctionName="made", Limit=1000).Data if ".uploads" in log.RetMsg]


def test_versions_and_their_markers(api, storage):
    storage.call("PUT", "/kept")
    storage.call("PUT", "/kept?versioning", b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")
    headers, _ = storage.call("PUT", "/kept/in/v", b"1")
    version = headers["x-amz-version-id"]
    key = "/1250000000/kept/in/v"
    [record] = got(api, "made", key, 1)
    assert (record["event"]["eventName"], record["cos"]["cosObject"]["vid"]) == ("cos:ObjectCreated:Put", version)
    storage.call("DELETE", "/kept/in/v")
    [record] = got(api, "gone", key, 1)
    assert record["event"]["eventName"] == "cos:ObjectRemove:DeleteMarkerCreated"
    storage.call("DELETE", "/kept/in/v?versionId=" + version)
    records = got(api, "gone", key, 2)
    removed = [one for one in records if one["event"]["eventName"] == "cos:ObjectRemove:Delete"]
    assert [one["cos"]["cosObject"]["vid"] for one in removed] == [version]
    assert len(got(api, "made", key, 1)) == 1
