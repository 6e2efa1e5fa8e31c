"""Edge cases of S3's API, named after Ceph's tests for S3 servers; the cases are our own. See docs/compatibility.md."""

import base64
import hmac
import itertools
import json
import threading
import time
from urllib.parse import quote

import pytest
import requests
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from bucket_clients import ACCOUNT, REGION, Refused, S3, s3_client

NUMBERS = itertools.count()
MB = 1 << 20


@pytest.fixture
def s3(server):
    store = S3(server, "rules-%d" % next(NUMBERS))
    store.create()
    return store


def refused(status, code, call, *arguments, **fields):
    with pytest.raises(Refused) as error:
        call(*arguments, **fields)
    assert (error.value.status, error.value.code) in ((status, code), (status, None)), error.value


# Lists.


def listed(answer):
    return [one["Key"] for one in answer.get("Contents", [])], [one["Prefix"] for one in answer.get("CommonPrefixes", [])]


@pytest.fixture(scope="module")
def library(server):
    """A bucket that nobody changes."""
    store = S3(server, "library")
    store.create()
    for key in ("asdf", "b ar/1", "bar", "baz", "boo/bar", "boo/baz/xyzzy", "cab", "cquux/bla", "cquux/thud", "p%r/1", "z+1/a", "_u/1", "q.x"):
        store.put(key, key.encode())
    return store


@pytest.mark.parametrize("delimiter, prefixes, keys", [
    ("/", ["_u/", "b ar/", "boo/", "cquux/", "p%r/", "z+1/"], ["asdf", "bar", "baz", "cab", "q.x"]),
    ("a", ["a", "b a", "ba", "boo/ba", "ca", "cquux/bla", "z+1/a"], ["_u/1", "cquux/thud", "p%r/1", "q.x"]),
    ("%", ["p%"], None),
    (" ", ["b "], None),
    (".", ["q."], None),
    ("oo/ba", ["boo/ba"], None),
    ("\n", [], None),
    ("nowhere", [], None),
    ("", [], None),
])
@pytest.mark.parametrize("method", ["list_objects", "list_objects_v2"])
def test_a_delimiter_may_be_any_text(library, method, delimiter, prefixes, keys):
    answer = library.on(method, Delimiter=delimiter)
    assert answer.get("Delimiter", "") == delimiter
    found = listed(answer)
    assert found[1] == prefixes
    if keys is not None:
        assert found[0] == keys
    assert answer.get("KeyCount", len(found[0]) + len(found[1])) == len(found[0]) + len(found[1])


@pytest.mark.parametrize("prefix, delimiter, keys, prefixes", [
    ("boo/", "", ["boo/bar", "boo/baz/xyzzy"], []),
    ("ba", "", ["bar", "baz"], []),
    ("", "", None, []),
    ("nowhere", "/", [], []),
    ("\n", "/", [], []),
    ("boo/", "/", ["boo/bar"], ["boo/baz/"]),
    ("b", "a", [], ["b a", "ba", "boo/ba"]),
    ("boo/", "nowhere", ["boo/bar", "boo/baz/xyzzy"], []),
    ("asdf", "/", ["asdf"], []),
])
@pytest.mark.parametrize("method", ["list_objects", "list_objects_v2"])
def test_a_prefix_may_be_any_text(library, method, prefix, delimiter, keys, prefixes):
    answer = library.on(method, Prefix=prefix, Delimiter=delimiter)
    found = listed(answer)
    assert answer["Prefix"] in (prefix, quote(prefix)) and found[1] == prefixes
    assert len(found[0]) == 13 if keys is None else found[0] == keys


def test_list_pages_end_at_their_marker(library):
    page = library.on("list_objects", MaxKeys=1, Delimiter="/")
    seen, names = [], []
    for _ in range(20):
        keys, prefixes = listed(page)
        assert len(keys + prefixes) == 1
        seen += keys + prefixes
        if not page["IsTruncated"]:
            assert "NextMarker" not in page
            break
        assert page["NextMarker"] == seen[-1]
        page = library.on("list_objects", MaxKeys=1, Delimiter="/", Marker=page["NextMarker"])
    assert seen == sorted(seen) and len(seen) == 11
    zero = library.on("list_objects", MaxKeys=0)
    assert listed(zero) == ([], []) and not zero["IsTruncated"]
    zero = library.on("list_objects_v2", MaxKeys=0)
    assert (zero["KeyCount"], zero["IsTruncated"]) == (0, False)
    assert library.on("list_objects")["MaxKeys"] == 1000
    for marker, first in (("", "_u/1"), ("bar", "baz"), ("bb", "boo/bar"), ("\n", "_u/1"), ("zzz", None)):
        for answer in (library.on("list_objects", Marker=marker), library.on("list_objects_v2", StartAfter=marker)):
            assert (listed(answer)[0] + [None])[0] == first, marker
    answer = library.on("list_objects_v2", StartAfter="bar", MaxKeys=1)
    assert answer["StartAfter"] == "bar"
    answer = library.on("list_objects_v2", StartAfter="bar", ContinuationToken=answer["NextContinuationToken"], MaxKeys=1)
    assert listed(answer)[0] == ["boo/bar"] and answer["ContinuationToken"]


def test_invalid_list_parameters_are_refused(library):
    for wrong in ("blah", "-1"):
        answer = raw(library, "GET", "?max-keys=" + wrong)
        assert (answer.status_code, "<Code>InvalidArgument</Code>" in answer.text) == (400, True), answer.text
    refused(400, "InvalidArgument", library.on, "list_objects_v2", ContinuationToken="no token")


def raw(store, method, rest, body=b"", headers=None):
    """A request as no client would send it, signed by version 4."""
    request = AWSRequest(method, "http://%s/%s%s" % (store.server.buckets, store.bucket, rest), data=body, headers=dict(headers or {}))
    request.context["payload_signing_enabled"] = True
    S3SigV4Auth(Credentials(store.server.secret_id, store.server.secret_key), "s3", REGION).add_auth(request)
    prepared = request.prepare()
    return requests.request(method, prepared.url, data=body, headers=dict(prepared.headers))


def test_list_shows_object_metadata(library, s3):
    head = library.client.head_object(Bucket=library.bucket, Key="asdf")
    item = library.on("list_objects", Prefix="asdf")["Contents"][0]
    assert (item["ETag"], item["Size"], item["LastModified"].replace(microsecond=0)) == (head["ETag"], 4, head["LastModified"])
    assert item["Owner"]["ID"] and item["StorageClass"] == "STANDARD"
    assert "Owner" not in library.on("list_objects_v2", Prefix="asdf")["Contents"][0]
    assert "Owner" not in library.on("list_objects_v2", Prefix="asdf", FetchOwner=False)["Contents"][0]
    assert library.on("list_objects_v2", Prefix="asdf", FetchOwner=True)["Contents"][0]["Owner"]["ID"] == item["Owner"]["ID"]
    encoded = library.on("list_objects_v2", Delimiter="/", EncodingType="url")
    assert encoded["EncodingType"] == "url" and {"b%20ar/", "z%2B1/", "p%25r/"} <= set(listed(encoded)[1])
    for key in (" ", '"', "$", "%", "&", "'", "<", ">", "_", "_ ", "__", "a\tb", "x\n", "//", "/lead", "trail/"):
        s3.put(key, b"1")
        assert s3.get(key)[0] == b"1"
    assert listed(s3.on("list_objects"))[0] == sorted([" ", '"', "$", "%", "&", "'", "<", ">", "_", "_ ", "__", "a\tb", "x\n", "//", "/lead", "trail/"])
    assert s3.anonymously("GET", "").status_code == 403
    s3.set_acl("public-read")
    assert s3.anonymously("GET", "?list-type=2").status_code == 200


# Buckets.


@pytest.mark.parametrize("name", ["a", "-abc", "abc-", "a_bc", "Abc", "a" * 64, "192.168.5.123", "foo..bar", "foo.-bar", "foo-.bar"])
def test_bucket_name_rules(server, name):
    store = S3(server, "never")
    answer = None
    store.bucket = name
    answer = raw(store, "PUT", "")
    assert (answer.status_code, "<Code>InvalidBucketName</Code>" in answer.text) == (400, True), answer.text


@pytest.mark.parametrize("name", ["foo", "0foo", "aaa-111", "a" * 49])
def test_names_that_a_bucket_may_have(server, name):
    store = S3(server, name)
    store.create()
    made = {one["Name"]: one["CreationDate"] for one in store.call("list_buckets")["Buckets"]}[name]
    assert abs(made.timestamp() - time.time()) < 3600
    store.delete_bucket()


def test_recreating_a_bucket_keeps_its_objects(s3):
    s3.put("k", b"1")
    s3.set_acl("public-read")
    refused(409, "BucketAlreadyOwnedByYou", s3.create)
    assert s3.get("k")[0] == b"1" and len(s3.acl()[1]) == 2
    refused(404, "NoSuchBucket", S3(s3.server, "nowhere").delete_bucket)
    refused(404, "NoSuchBucket", S3(s3.server, "nowhere").list)
    refused(404, "NoSuchBucket", S3(s3.server, "nowhere").delete, "k")
    assert s3.on("get_bucket_location")["LocationConstraint"] == REGION
    assert s3.on("head_bucket")["BucketRegion"] == REGION
    assert requests.get("http://%s/" % s3.server.buckets).status_code == 403


# Objects.


@pytest.mark.parametrize("headers, status, code", [
    ({"Content-MD5": "YWJyYWNhZGFicmE="}, 400, "InvalidDigest"),
    ({"Content-MD5": ""}, 400, "InvalidDigest"),
    ({"Content-MD5": "rL0Y20zC+Fzt72VPzMSk2A=="}, 400, "BadDigest"),
    ({"x-amz-acl": "no-such-acl"}, 400, "InvalidArgument"),
    ({"x-amz-storage-class": "NO_SUCH"}, 400, "InvalidStorageClass"),
    ({"x-amz-meta-a": "x" * 3000}, 400, "MetadataTooLarge"),
    ({"x-amz-tagging": "a=1&a=2"}, 400, "InvalidTag"),
    ({"x-amz-checksum-crc32": "AAAAAA=="}, 400, "BadDigest"),
    ({"x-amz-checksum-crc32": "no"}, 400, "BadDigest"),
    ({"x-amz-server-side-encryption-customer-algorithm": "AES256"}, 501, "NotImplemented"),
    ({"x-amz-server-side-encryption": "aws:kms"}, 501, "NotImplemented"),
    ({"x-amz-object-lock-mode": "GOVERNANCE"}, 501, "NotImplemented"),
])
def test_unenforceable_header_is_refused(s3, headers, status, code):
    answer = raw(s3, "PUT", "/k", b"rain", headers)
    assert (answer.status_code, "<Code>%s</Code>" % code in answer.text) == (status, True), answer.text
    refused(404, "NoSuchKey", s3.get, "k")


def test_empty_optional_headers_are_ignored(s3):
    for headers in ({"Content-Type": ""}, {"User-Agent": ""}, {"Expect": "200"}, {"x-amz-meta-empty": ""}):
        assert raw(s3, "PUT", "/k", b"rain", headers).status_code in (200, 417), headers
    assert s3.head("k")["meta"] == {"empty": ""}
    s3.put("k", b"1", meta={"name": "value"}, Expires="Wed, 21 Oct 2037 07:28:00 GMT")
    facts = s3.head("k")
    assert facts["meta"] == {"name": "value"} and facts["expires"] == "Wed, 21 Oct 2037 07:28:00 GMT"
    s3.put("k", b"2")
    assert s3.head("k")["meta"] == {} and s3.get("k")[0] == b"2"
    s3.put("empty", b"")
    assert s3.head("empty")["content-length"] == "0"


def test_an_error_names_its_request(s3):
    answer = raw(s3, "GET", "/nowhere")
    assert answer.status_code == 404 and "<RequestId>%s</RequestId>" % answer.headers["x-amz-request-id"] in answer.text
    assert "<Resource>" in answer.text and answer.headers["Content-Type"] == "application/xml"


def chunked(body):
    for at in range(0, len(body), 1000):
        yield body[at:at + 1000]


def test_body_of_unknown_length_is_accepted(s3):
    url = s3.url("PUT", "k")[0]
    assert requests.put(url, data=chunked(b"rain" * 1000)).status_code == 200
    assert s3.get("k")[0] == b"rain" * 1000


def test_conditions_of_a_write(s3):
    refused(404, "NoSuchKey", s3.put, "k", b"1", IfMatch='"other"')
    etag = s3.put("k", b"1", IfNoneMatch="*")
    refused(412, "PreconditionFailed", s3.put, "k", b"2", IfNoneMatch="*")
    refused(412, "PreconditionFailed", s3.put, "k", b"2", IfMatch='"other"')
    assert s3.get("k")[0] == b"1"
    s3.put("k", b"2", IfMatch=etag)
    assert s3.get("k")[0] == b"2"


def test_one_of_concurrent_conditional_writers_wins(s3):
    won = []

    def write(number):
        store = S3(s3.server, s3.bucket)
        try:
            store.put("k", b"%d" % number, IfNoneMatch="*")
            won.append(b"%d" % number)
        except Refused as error:
            assert error.status in (409, 412)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    [writer.start() for writer in writers]
    [writer.join() for writer in writers]
    assert len(won) == 1 and s3.get("k")[0] == won[0]


def test_a_reader_sees_one_object_or_the_other(s3):
    """A concurrent reader gets one of the written bodies, whole."""
    bodies = {bytes([letter]) * MB for letter in b"ab"}
    s3.put("k", min(bodies))
    ends = threading.Event()

    def write(body):
        store = S3(s3.server, s3.bucket)
        while not ends.is_set():
            store.put("k", body)

    writers = [threading.Thread(target=write, args=(body,)) for body in bodies]
    [writer.start() for writer in writers]
    try:
        assert {s3.get("k")[0] for _ in range(20)} <= bodies
    finally:
        ends.set()
        [writer.join() for writer in writers]


@pytest.mark.parametrize("size, given, status, expected", [
    (10, "bytes=4-7", 206, b"4567"), (10, "bytes=4-", 206, b"456789"), (10, "bytes=-7", 206, b"3456789"), (10, "bytes=-100", 206, b"0123456789"),
    (10, "bytes=40-50", 416, None), (0, "bytes=40-50", 416, None), (10, "bytes=7-4", 200, b"0123456789"),
    (10, "lines=1-2", 200, b"0123456789"),
])
def test_edges_of_a_range(s3, size, given, status, expected):
    s3.put("k", b"0123456789"[:size])
    answer = raw(s3, "GET", "/k", headers={"Range": given})
    assert answer.status_code == status, answer.text
    if expected is not None:
        assert answer.content == expected
    if status == 206:
        start = 10 - len(expected) if given.startswith("bytes=-") or given.endswith("-") else 4
        assert answer.headers["Content-Range"] == "bytes %d-%d/10" % (start, start + len(expected) - 1)


def test_limits_of_removing_many(s3):
    for number in range(3):
        s3.put("k%d" % number, b"1")
    quiet = s3.on("delete_objects", Delete={"Objects": [{"Key": "k0"}, {"Key": "never"}], "Quiet": True})
    assert "Deleted" not in quiet and "Errors" not in quiet
    many = [{"Key": "k%d" % number} for number in range(1001)]
    refused(400, "MalformedXML", s3.on, "delete_objects", Delete={"Objects": many})
    assert s3.list()[0] == ["k1", "k2"]
    assert len(s3.on("delete_objects", Delete={"Objects": many[:1000]})["Deleted"]) == 1000
    assert s3.list()[0] == []


# Copies.


def test_edges_of_a_copy(s3, server):
    etag = s3.put("k ?+", b"rain", meta={"a": "1"}, ContentType="text/x-rain")
    source = {"Bucket": s3.bucket, "Key": "k ?+"}
    refused(400, "InvalidRequest", s3.on, "copy_object", Key="k ?+", CopySource=source)
    s3.on("copy_object", Key="k ?+", CopySource=source, MetadataDirective="REPLACE", Metadata={"b": "2"})
    assert s3.head("k ?+")["meta"] == {"b": "2"}
    other = S3(server, s3.bucket + "-to")
    other.create()
    other.on("copy_object", Key="copy", CopySource=source, CopySourceIfMatch=etag, ACL="public-read")
    assert other.get("copy")[0] == b"rain" and len(other.acl("copy")[1]) == 2
    other.on("copy_object", Key="copy", CopySource=source, CopySourceIfNoneMatch='"other"')
    refused(412, "PreconditionFailed", other.on, "copy_object", Key="copy", CopySource=source, CopySourceIfMatch='"other"')
    refused(412, "PreconditionFailed", other.on, "copy_object", Key="copy", CopySource=source, CopySourceIfNoneMatch=etag)
    refused(404, "NoSuchBucket", other.on, "copy_object", Key="copy", CopySource={"Bucket": "nowhere", "Key": "k"})
    refused(404, "NoSuchKey", other.on, "copy_object", Key="copy", CopySource={"Bucket": s3.bucket, "Key": "nowhere"})
    refused(404, "NoSuchBucket", S3(server, "nowhere").on, "copy_object", Key="copy", CopySource=source)
    s3.put("empty", b"")
    s3.copy("empty", "empty too")
    assert s3.get("empty too")[0] == b""
    s3.put("big", b"z" * (16 * MB))
    s3.copy("big", "big too")
    assert s3.head("big too")["content-length"] == str(16 * MB)


def test_a_copy_may_be_of_a_version(s3):
    s3.keep_versions()
    first = s3.on("put_object", Key="k", Body=b"1")["VersionId"]
    s3.put("k", b"2")
    done = s3.on("copy_object", Key="copy", CopySource={"Bucket": s3.bucket, "Key": "k", "VersionId": first})
    assert done["CopySourceVersionId"] == first and done["VersionId"] and s3.get("copy")[0] == b"1"
    s3.on("copy_object", Key="k", CopySource={"Bucket": s3.bucket, "Key": "k", "VersionId": first})
    assert s3.get("k")[0] == b"1"
    upload = s3.begin("parts")
    part = s3.on("upload_part_copy", Key="parts", UploadId=upload, PartNumber=1, CopySource={"Bucket": s3.bucket, "Key": "k", "VersionId": first})
    assert part["CopySourceVersionId"] == first
    assert s3.complete("parts", upload, [(1, part["CopyPartResult"]["ETag"])])["VersionId"]


# Multipart uploads.


def test_edges_of_a_multipart_upload(s3):
    upload = s3.begin("k", Metadata={"a": "1"})
    refused(400, "MalformedXML", s3.complete, "k", upload, [])
    with_nothing = s3.on("list_parts", Key="k", UploadId=upload)
    assert not with_nothing.get("Parts") and not with_nothing["IsTruncated"]
    s3.part("k", upload, 1, b"first")
    again = s3.part("k", upload, 1, b"again")
    refused(400, "InvalidPart", s3.complete, "k", upload, [(1, again), (9999, again)])
    for number in (0, 10001):
        refused(400, "InvalidArgument", s3.part, "k", upload, number, b"x")
    s3.put("k", b"before")
    s3.complete("k", upload, [(1, again)])
    assert s3.get("k")[0] == b"again" and s3.head("k")["meta"] == {"a": "1"}
    assert s3.on("get_object", Key="k", PartNumber=1)["PartsCount"] == 1
    refused(416, "InvalidPartNumber", s3.on, "get_object", Key="k", PartNumber=2)
    refused(404, "NoSuchUpload", s3.abort, "k", "56788")
    uploads = sorted((key, s3.begin(key)) for key in ("a", "b", "a"))
    found = s3.on("list_multipart_uploads", MaxUploads=2)
    assert found["IsTruncated"] and [one["Key"] for one in found["Uploads"]] == ["a", "a"] and found["Uploads"][0]["Owner"]["ID"]
    rest = s3.on("list_multipart_uploads", KeyMarker=found["NextKeyMarker"], UploadIdMarker=found["NextUploadIdMarker"])
    assert sorted((one["Key"], one["UploadId"]) for one in found["Uploads"] + rest["Uploads"]) == uploads
    for number in (1, 2, 3):
        s3.part("a", uploads[0][1], number, b"x")
    page = s3.on("list_parts", Key="a", UploadId=uploads[0][1], MaxParts=2)
    assert page["IsTruncated"] and page["NextPartNumberMarker"] == 2
    page = s3.on("list_parts", Key="a", UploadId=uploads[0][1], PartNumberMarker=2)
    assert [one["PartNumber"] for one in page["Parts"]] == [3]


@pytest.mark.parametrize("given", ["0-2", "bytes=0", "bytes=hello-world", "bytes=0-bar", "bytes=hello-", "bytes=0-2,3-5"])
def test_a_part_s_range_must_be_one(s3, given):
    s3.put("k", b"rain")
    upload = s3.begin("to")
    refused(400, "InvalidArgument", s3.on, "upload_part_copy", Key="to", UploadId=upload, PartNumber=1, CopySource=s3.bucket + "/k", CopySourceRange=given)


def test_a_part_s_range_must_be_there(s3):
    s3.put("k", b"rain")
    upload = s3.begin("to")
    refused(416, "InvalidRange", s3.part_copy, "to", upload, 1, "k", 0, 21)
    whole = s3.on("upload_part_copy", Key="to", UploadId=upload, PartNumber=1, CopySource={"Bucket": s3.bucket, "Key": "k"})
    s3.complete("to", upload, [(1, whole["CopyPartResult"]["ETag"])])
    assert s3.get("to")[0] == b"rain"


# Tags.


@pytest.mark.parametrize("tags, code", [
    ({"k%d" % number: "v" for number in range(11)}, ("BadRequest", "InvalidTag")), ({"k" * 129: "v"}, ("InvalidTag",)), ({"k": "v" * 257}, ("InvalidTag",)),
])
def test_limits_of_tags(s3, tags, code):
    s3.put("k", b"1")
    s3.set_tags("k", {"k%d" % number: "v" * 256 for number in range(10)})
    with pytest.raises(Refused) as error:
        s3.set_tags("k", tags)
    assert error.value.status == 400 and error.value.code in code
    assert len(s3.tags("k")) == 10 and s3.on("head_object", Key="k")["ResponseMetadata"]["HTTPHeaders"]["x-amz-tagging-count"] == "10"
    s3.set_tags("k", {"k" * 128: "v" * 256})
    assert s3.tags("k") == {"k" * 128: "v" * 256}
    s3.on("delete_object_tagging", Key="k")
    assert s3.tags("k") == {}


# Versions.


def test_versions_of_before_and_after(s3):
    """An object from before versioning is the version `null`, and so is one that is written while versioning is suspended."""
    s3.put("k", b"0")
    s3.keep_versions()
    first = s3.on("put_object", Key="k", Body=b"1")["VersionId"]
    assert s3.get("k", VersionId="null")[0] == b"0"
    s3.on("put_bucket_versioning", VersioningConfiguration={"Status": "Suspended"})
    s3.put("k", b"2")
    assert s3.get("k", VersionId="null")[0] == b"2" and s3.get("k", VersionId=first)[0] == b"1"
    s3.delete("k")
    refused(404, "NoSuchKey", s3.get, "k")
    versions, markers = s3.versions()
    assert versions == [("k", first, False)] and markers == [("k", "null")]
    s3.delete("k", VersionId="null")
    assert s3.get("k")[0] == b"1"
    s3.keep_versions()
    done = s3.on("delete_objects", Delete={"Objects": [{"Key": "k"}, {"Key": "k", "VersionId": first}]})["Deleted"]
    assert {one.get("VersionId") for one in done} == {None, first} and [one["DeleteMarker"] for one in done if one.get("DeleteMarker")] == [True]
    versions, markers = s3.versions()
    assert versions == [] and len(markers) == 1
    with pytest.raises(Refused) as error:
        s3.get("k", VersionId=markers[0][1])
    assert (error.value.status, error.value.code) == (405, "MethodNotAllowed")
    s3.delete("k", VersionId=markers[0][1])
    s3.delete_bucket()


def test_versions_are_listed_by_page(s3):
    s3.keep_versions()
    made = [(key, s3.on("put_object", Key=key, Body=b"%d" % number)["VersionId"]) for number in range(3) for key in ("_", ":", " ")]
    found, where = [], {}
    while True:
        page = s3.on("list_object_versions", MaxKeys=2, **where)
        found += [(one["Key"], one["VersionId"]) for one in page["Versions"]]
        if not page["IsTruncated"]:
            break
        where = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}
    assert found == [(key, version) for name in sorted({key for key, _ in made}) for key, version in reversed(made) if key == name]
    acl = s3.on("get_object_acl", Key="_", VersionId=made[0][1])
    s3.on("put_object_acl", Key="_", VersionId=made[0][1], ACL="public-read")
    assert len(acl["Grants"]) == 1 and len(s3.on("get_object_acl", Key="_", VersionId=made[0][1])["Grants"]) == 2
    assert len(s3.on("get_object_acl", Key="_")["Grants"]) == 1


# Access.


@pytest.mark.parametrize("bucket, key, may", [
    ("private", "private", ()), ("private", "public-read", ("get",)), ("private", "public-read-write", ("get",)),
    ("public-read", "private", ("list",)), ("public-read", "public-read", ("list", "get")),
    ("public-read-write", "private", ("list", "put")), ("public-read-write", "public-read", ("list", "get", "put")),
])
def test_bucket_and_object_acls_combine(s3, bucket, key, may):
    s3.put("k", b"1", ACL=key)
    s3.set_acl(bucket)
    found = [name for name, asked in (("list", ("GET", "")), ("get", ("GET", "k")), ("put", ("PUT", "new"))) if s3.anonymously(*asked).status_code == 200]
    assert tuple(found) == may
    assert s3.anonymously("GET", "k?acl").status_code == s3.anonymously("PUT", "k?acl", headers={"x-amz-acl": "private"}).status_code == 403


def test_authenticated_read_needs_a_signature(s3, server):
    account = json.loads(server.cli("account", "create", "reader"))
    key = json.loads(server.cli("key", "create", "--account", str(account["AppId"])))
    s3.put("k", b"1", ACL="authenticated-read")
    reader = S3(server, "%s-%s" % (s3.bucket, ACCOUNT))
    reader.client = s3_client(server, key["SecretId"], key["SecretKey"])
    assert s3.anonymously("GET", "k").status_code == 403 and reader.get("k")[0] == b"1"
    refused(403, "AccessDenied", reader.put, "k", b"2")
    for call in (lambda: s3.on("put_object_acl", Key="k", GrantRead="id=someone"), lambda: s3.on("put_bucket_acl", GrantRead="emailAddress=a@example.com")):
        refused(501, "NotImplemented", call)


# URLs.


@pytest.mark.parametrize("seconds, status, code", [
    (604800, 200, None), (604801, 400, "AuthorizationQueryParametersError"), (0, 400, "AuthorizationQueryParametersError"),
    (-7, 400, "AuthorizationQueryParametersError"),
])
def test_maximum_lifetime_of_a_url(s3, seconds, status, code):
    s3.put("k", b"1")
    request = AWSRequest("GET", "http://%s/%s/k" % (s3.server.buckets, s3.bucket))
    S3SigV4QueryAuth(Credentials(s3.server.secret_id, s3.server.secret_key), "s3", REGION, expires=seconds).add_auth(request)
    answer = requests.get(request.url)
    assert answer.status_code == status and (code is None or "<Code>%s</Code>" % code in answer.text), answer.text


def test_presigned_url_overrides_response_headers(s3):
    s3.put("k", b"1")
    wanted = {"ResponseCacheControl": "no-cache", "ResponseContentDisposition": "bla", "ResponseContentEncoding": "aaa", "ResponseContentLanguage": "esperanto",
              "ResponseContentType": "foo/bar"}
    url = s3.client.generate_presigned_url("get_object", Params=dict(wanted, Bucket=s3.bucket, Key="k"))
    answer = requests.get(url, stream=True)
    assert [answer.headers[name] for name in ("Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type")] == list(wanted.values())
    s3.set_acl("public-read", "k")
    assert s3.anonymously("GET", "k?response-content-type=foo/bar").status_code == 400


# Pages of other origins.


@pytest.mark.parametrize("allowed, origin, served", [
    ("*suffix", "foo.suffix", True), ("*suffix", "foo.suffix.get", False), ("start*end", "startend", True), ("start*end", "start12end", True),
    ("start*end", "0start12end", False), ("prefix*", "prefix.suffix", True), ("prefix*", "bla.prefix", False), ("*", "any", True),
])
def test_origins_that_a_rule_is_for(s3, allowed, origin, served):
    s3.set_acl("public-read")
    s3.put("k", b"1", ACL="public-read")
    s3.set_cors(allowed)
    answer = s3.anonymously("GET", "k", headers={"Origin": origin})
    assert answer.status_code == 200 and ("Access-Control-Allow-Origin" in answer.headers) == served
    asks = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    assert s3.anonymously("OPTIONS", "k", headers=asks).status_code == (200 if served else 403)
    assert s3.anonymously("OPTIONS", "k", headers=dict(asks, **{"Access-Control-Request-Method": "DELETE"})).status_code == 403


def test_cors_preflight_requires_origin_and_method(s3):
    whole = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}

    def asked(**headers):
        answer = s3.anonymously("OPTIONS", "k", headers={name.replace("_", "-"): value for name, value in headers.items()})
        return answer.status_code, answer.text

    for rules in (False, True):
        if rules:
            s3.set_cors("*")
        for headers, word in [
            ({}, "Origin request header needed"),
            ({"Access-Control-Request-Method": "GET"}, "Origin request header needed"),
            ({"Origin": "https://a.example"}, "Invalid Access-Control-Request-Method: null"),
            (dict(whole, **{"Access-Control-Request-Method": "PATCH"}), "Invalid Access-Control-Request-Method: PATCH"),
        ]:
            status, text = asked(**headers)
            assert status == 400 and "<Code>BadRequest</Code>" in text and word in text, (headers, text)
        assert asked(**whole)[0] == (200 if rules else 403)


# Forms.


def form(store, conditions=None, key="foo.txt", expiration=None, document=None, fields=None, body=b"bar", sign=True, **changes):
    """Uploads by a form that is signed by version 4; `changes` are made to its fields after that."""
    day = time.strftime("%Y%m%d", time.gmtime())
    scope = "%s/%s/%s/s3/aws4_request" % (store.server.secret_id, day, REGION)
    own = {"key": key, "Content-Type": "text/plain", "x-amz-algorithm": "AWS4-HMAC-SHA256", "x-amz-credential": scope,
           "x-amz-date": day + "T000000Z", **(fields or {})}
    if document is None:
        given = [{"bucket": store.bucket}, ["starts-with", "$key", "foo"], ["starts-with", "$Content-Type", "text/plain"],
                 ["content-length-range", 0, 4 * MB]] if conditions is None else conditions
        given = given + [{name: own[name]} for name in ("x-amz-algorithm", "x-amz-credential", "x-amz-date")]
        document = {"expiration": expiration or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 600)), "conditions": given}
    if sign:
        own["policy"] = base64.b64encode(json.dumps(document).encode()).decode()
        secret = ("AWS4" + store.server.secret_key).encode()
        for part in (day, REGION, "s3", "aws4_request", own["policy"]):
            secret = hmac.new(secret, part.encode(), "sha256").digest()
        own["x-amz-signature"] = secret.hex()
    own.update(changes)
    sent = [(name, (None, value)) for name, value in own.items() if value is not None] + [("file", ("foo.txt", body))]
    bucket = store.bucket if sign else "%s-%s" % (store.bucket, ACCOUNT)
    return requests.post("http://%s/%s" % (store.server.buckets, bucket), files=sent, allow_redirects=False)


def conditions(store, *more, key="foo"):
    return [{"bucket": store.bucket}, ["starts-with", "$key", key], ["starts-with", "$Content-Type", "text/plain"], *more]


def test_forms_that_are_served(s3):
    assert form(s3).status_code == 204 and s3.get("foo.txt")[0] == b"bar"
    assert form(s3, key="foo-${filename}").status_code == 204 and s3.get("foo-foo.txt")[0] == b"bar"
    assert form(s3, body=b"foo" * MB).status_code == 204 and s3.head("foo.txt")["content-length"] == str(3 * MB)
    for given, status in (("200", 200), ("201", 201), ("404", 204)):
        fields = {"success_action_status": given}
        assert form(s3, conditions(s3, {"success_action_status": given}), fields=fields).status_code == status
    assert form(s3, fields={"x-ignore-foo": "bar"}).status_code == 204
    odd = [{"bUcKeT": s3.bucket}, ["StArTs-WiTh", "$KeY", "foo"], ["starts-with", "$CONTENT-TYPE", "text/plain"]]
    assert form(s3, odd).status_code in (204, 400)
    meta = conditions(s3, ["starts-with", "$x-amz-meta-foo", "bar"])
    assert form(s3, meta, fields={"x-amz-meta-foo": "barclamp"}).status_code == 204 and s3.head("foo.txt")["meta"] == {"foo": "barclamp"}
    there = "http://somewhere.example/"
    answer = form(s3, conditions(s3, {"success_action_redirect": there}), fields={"success_action_redirect": there})
    assert answer.status_code == 303 and answer.headers["Location"].startswith(there)
    s3.set_acl("public-read-write")
    assert form(s3, key="foo open", sign=False, **{name: None for name in ("x-amz-algorithm", "x-amz-credential", "x-amz-date")}).status_code == 204
    assert s3.get("foo open")[0] == b"bar"


@pytest.mark.parametrize("case, status", [
    (dict(**{"x-amz-credential": "AKIDnobody/20260101/x/s3/aws4_request"}), (400, 403)),
    (dict(**{"x-amz-signature": "0" * 64}), (403,)),
    # Without a signature the bucket's short name is nobody's.
    (dict(**{"x-amz-signature": None}), (400, 403, 404)),
    (dict(expiration="not a date"), (400,)),
    (dict(expiration="2020-01-01T00:00:00Z"), (403,)),
    (dict(key=None), (400,)),
    (dict(key="bar.txt"), (403,)),
    (dict(fields={"x-amz-meta-foo": "bar"}), (403,)),
    (dict(fields={"acl": "public-read"}), (403,)),
    (dict(conditions=[{"bucket": "another"}, ["starts-with", "$key", "foo"]]), (403,)),
    (dict(conditions=[["content-length-range", 0, 1], ["starts-with", "$key", ""], ["starts-with", "$Content-Type", ""]]), (400, 403)),
    (dict(conditions=[["content-length-range", 512, 1000], ["starts-with", "$key", ""], ["starts-with", "$Content-Type", ""]]), (400, 403)),
    (dict(conditions=[["content-length-range", 0], ["starts-with", "$key", ""]]), (400, 403)),
    (dict(conditions=[["content-length-range", -1, 0], ["starts-with", "$key", ""]]), (400, 403)),
    (dict(document={"conditions": []}), (400, 403)),
    (dict(document={"expiration": "2037-01-01T00:00:00Z"}), (400, 403)),
    (dict(document={"EXPIRATION": "2037-01-01T00:00:00Z", "conditions": []}), (400, 403)),
    (dict(document={"expiration": "2037-01-01T00:00:00Z", "conditions": [{}]}), (400, 403)),
])
def test_forms_that_are_refused(s3, case, status):
    answer = form(s3, **case)
    assert answer.status_code in status, answer.text
    assert s3.list()[0] == []
