"""No condition of a write is ignored: it is enforced, or refused by name. By S3's API and by COS's."""

import base64
import datetime
import hashlib
import itertools
import json
import re
import time
import zlib

import pytest
import requests
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from bucket_clients import ACCOUNT, REGION, Cos, Refused, S3, cos_client, s3_client

NUMBERS = itertools.count()
MB = 1 << 20


@pytest.fixture
def s3(server):
    store = S3(server, "held-%d" % next(NUMBERS))
    store.create()
    return store


@pytest.fixture
def cos(server):
    store = Cos(server, "held-%d" % next(NUMBERS))
    store.create()
    return store


def refused(status, code, call, *arguments, **fields):
    with pytest.raises(Refused) as error:
        call(*arguments, **fields)
    assert (error.value.status, error.value.code) in ((status, code), (status, None)), error.value


def raw(store, method, rest, body=b"", headers=None, key=None):
    """A request that no client would send, signed by version 4."""
    request = AWSRequest(method, "http://%s/%s%s" % (store.server.buckets, store.bucket, rest), data=body, headers=dict(headers or {}))
    request.context["payload_signing_enabled"] = True
    S3SigV4Auth(Credentials(store.server.secret_id, store.server.secret_key), "s3", REGION).add_auth(request)
    prepared = request.prepare()
    return requests.request(method, prepared.url, data=body, headers=dict(prepared.headers))


def says(answer, status, code, named=""):
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert "<Code>%s</Code>" % code in answer.text and named in answer.text, answer.text


# Deletes with conditions.


def test_delete_enforces_conditions(s3):
    etag = s3.put("k", b"rain")
    written = s3.client.head_object(Bucket=s3.bucket, Key="k")["LastModified"]
    for wrong in (dict(IfMatch='"wrong"'), dict(IfMatchSize=5), dict(IfMatchLastModifiedTime=written - datetime.timedelta(seconds=1)),
                  dict(IfMatch=etag, IfMatchSize=5)):
        refused(412, "PreconditionFailed", s3.on, "delete_object", Key="k", **wrong)
        assert s3.get("k")[0] == b"rain"
    s3.on("delete_object", Key="k", IfMatch=etag, IfMatchSize=4, IfMatchLastModifiedTime=written)
    assert s3.list()[0] == []
    # Deleting a missing object succeeds.
    s3.on("delete_object", Key="k", IfMatch='"wrong"')
    s3.put("k", b"rain")
    s3.on("delete_object", Key="k", IfMatch="*")
    assert s3.list()[0] == []


def test_delete_objects_enforces_conditions(s3):
    etags = {key: s3.put(key, key.encode()) for key in "abcd"}
    written = s3.client.head_object(Bucket=s3.bucket, Key="d")["LastModified"]
    wanted = [{"Key": "a", "ETag": "wrong"}, {"Key": "b", "ETag": etags["b"].strip('"')}, {"Key": "c", "Size": 7},
              {"Key": "d", "LastModifiedTime": written - datetime.timedelta(hours=1)}, {"Key": "none", "ETag": "wrong"}]
    done = s3.on("delete_objects", Delete={"Objects": wanted})
    assert sorted(one["Key"] for one in done["Deleted"]) == ["b", "none"]
    assert {one["Key"]: one["Code"] for one in done["Errors"]} == dict.fromkeys("acd", "PreconditionFailed")
    assert s3.list()[0] == ["a", "c", "d"]
    done = s3.on("delete_objects", Delete={"Objects": [{"Key": "d", "LastModifiedTime": written, "Size": 1, "ETag": etags["d"]}]})
    assert [one["Key"] for one in done["Deleted"]] == ["d"]


def test_delete_of_a_version_enforces_conditions(s3):
    s3.keep_versions()
    first, second = s3.put("k", b"1"), s3.put("k", b"22")
    ids = [version for _, version, _ in s3.versions()[0]]
    refused(412, "PreconditionFailed", s3.on, "delete_object", Key="k", VersionId=ids[1], IfMatch=second)
    refused(412, "PreconditionFailed", s3.on, "delete_object", Key="k", IfMatch=first)
    s3.delete("hidden")
    refused(412, "PreconditionFailed", s3.on, "delete_object", Key="hidden", IfMatch=first)
    s3.on("delete_object", Key="hidden", VersionId=s3.versions()[1][0][1])
    assert len(s3.versions()[0]) == 2 and s3.versions()[1] == []
    s3.on("delete_object", Key="k", VersionId=ids[1], IfMatch=first)
    assert [version for _, version, _ in s3.versions()[0]] == ids[:1]


def test_cos_delete_enforces_condition(cos):
    etag = cos.put("k", b"rain")
    refused(412, "PreconditionFailed", cos.on, "delete_object", Key="k", IfMatch='"wrong"')
    assert cos.get("k")[0] == b"rain"
    cos.on("delete_object", Key="k", IfMatch=etag)
    assert cos.list()[0] == []


# Conditions of other writes.

WRITES = [("PUT", "/k", b"x"), ("PUT", "/k?acl", b""), ("PUT", "/k?tagging", b"<Tagging><TagSet/></Tagging>"), ("DELETE", "/k?tagging", b""),
          ("POST", "/k?uploads", b""), ("POST", "/?delete", b"<Delete><Object><Key>k</Key></Object></Delete>"), ("DELETE", "", b""),
          ("PUT", "?acl", b""), ("DELETE", "?cors", b""), ("PUT", "?versioning", b""), ("DELETE", "?tagging", b""), ("DELETE", "/k", b""),
          ("POST", "/k?restore", b"<RestoreRequest><Days>1</Days></RestoreRequest>")]


@pytest.mark.parametrize("method, rest, body", WRITES, ids=["%s %s" % one[:2] for one in WRITES])
@pytest.mark.parametrize("condition", ["If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Anything", "x-amz-if-match-size",
                                       "x-amz-copy-source-if-match", "x-amz-if-match-initiated-time"])
def test_no_write_condition_is_ignored(s3, method, rest, body, condition):
    """A condition that does not hold stops the write, one way or the other."""
    s3.put("k", b"rain")
    never = {"If-None-Match": "*", "If-Modified-Since": "Wed, 21 Oct 2037 07:28:00 GMT", "If-Unmodified-Since": "Wed, 21 Oct 2015 07:28:00 GMT",
             "x-amz-if-match-size": "77"}
    headers = {condition: never.get(condition, '"wrong"')}
    if "delete" in rest:
        headers["Content-MD5"] = base64.b64encode(hashlib.md5(body).digest()).decode()
    answer = raw(s3, method, rest, body, headers)
    assert answer.status_code in (412, 501), answer.text
    if answer.status_code == 501:
        assert condition.lower() in answer.text, answer.text
    assert s3.get("k")[0] == b"rain" and s3.uploads() == []
    says(raw(s3, method, rest, body, dict(headers, **{condition: ""})), 501 if answer.status_code == 501 else 400,
         "NotImplemented" if answer.status_code == 501 else "InvalidArgument", condition.lower())


def test_copy_enforces_conditions_on_its_target(s3):
    s3.put("from", b"new")
    etag = s3.put("to", b"old")
    source = {"x-amz-copy-source": s3.bucket + "/from"}
    for wrong in ({"If-None-Match": "*"}, {"If-Match": '"wrong"'}, {"If-None-Match": etag}):
        says(raw(s3, "PUT", "/to", headers=dict(source, **wrong)), 412, "PreconditionFailed")
        assert s3.get("to")[0] == b"old"
    assert raw(s3, "PUT", "/to", headers=dict(source, **{"If-Match": etag})).status_code == 200
    assert raw(s3, "PUT", "/other", headers=dict(source, **{"If-None-Match": "*"})).status_code == 200
    assert s3.get("to")[0] == s3.get("other")[0] == b"new"


def test_multipart_upload_applies_settings_of_its_creation(cos):
    """COS's clients say that nothing may be overwritten where a large upload begins."""
    forbids = {"Metadata": {"x-cos-forbid-overwrite": "true"}}
    upload = cos.on("create_multipart_upload", Key="k", **forbids)["UploadId"]
    etag = cos.part("k", upload, 1, b"part")
    cos.put("k", b"there")
    refused(409, "FileAlreadyExists", cos.on, "create_multipart_upload", Key="k", **forbids)
    with pytest.raises(Refused) as error:
        cos.complete("k", upload, [(1, etag)])
    assert error.value.status in (409, 412) and cos.get("k")[0] == b"there"
    refused(409, "FileAlreadyExists", cos.on, "copy_object", Key="k", CopySource={"Bucket": cos.bucket, "Key": "k", "Region": REGION},
            CopyStatus="Replaced", **forbids)


@pytest.mark.parametrize("headers", [{"If-Match": '"wrong"'}, {"If-None-Match": "*"}, {"x-cos-forbid-overwrite": "true"},
                                     {"x-cos-server-side-encryption": "AES256"}, {"x-cos-grant-read": 'id="a"'}], ids=lambda one: next(iter(one)))
def test_append_refuses_unsupported_headers_by_name(cos, headers):
    cos.on("append_object", Key="log", Position=0, Data=b"1")
    with pytest.raises(Exception) as error:
        cos.client.append_object(Bucket=cos.bucket, Key="log", Position=1, Data=b"2", Metadata=headers)
    assert error.value.get_error_code() == "NotImplemented" and next(iter(headers)).lower() in str(error.value).lower()
    assert cos.get("log")[0] == b"1"


def test_lists_say_which_checksums_objects_have(s3):
    s3.on("put_object", Key="sha", Body=b"1", ChecksumAlgorithm="SHA256")
    s3.on("put_object", Key="crc", Body=b"1", ChecksumAlgorithm="CRC32")
    for listed in (s3.on("list_objects_v2")["Contents"], s3.on("list_objects")["Contents"], s3.on("list_object_versions")["Versions"]):
        assert {one["Key"]: (one["ChecksumAlgorithm"], one["ChecksumType"]) for one in listed} == {
            "sha": (["SHA256"], "FULL_OBJECT"), "crc": (["CRC32"], "FULL_OBJECT")}


@pytest.mark.parametrize("grant", ["grant-read", "grant-full-control"])
def test_empty_grants_are_none(cos, grant):
    """COS's client for Node.js sends empty grants, unsigned, when it puts back the list that it got."""
    cos.put("k", b"1")
    host = "%s.cos.%s.myqcloud.com" % (cos.bucket, REGION)
    signed = cos.client.get_auth(Method="PUT", Bucket=cos.bucket, Key="k", Params={"acl": ""}, Headers={"Host": host})
    for given, status in (("", 200), ('id="1"', 403)):
        headers = {"Host": host, "Authorization": signed, "x-cos-" + grant: given}
        assert requests.put("http://%s/k?acl" % cos.server.buckets, headers=headers).status_code == status


def test_append_ignores_headers_without_a_meaning(cos):
    cos.on("append_object", Key="log", Position=0, Data=b"1")
    cos.on("append_object", Key="log", Position=1, Data=b"2", Metadata={"x-cos-test": "1"})
    assert cos.get("log")[0] == b"12"


def test_append_keeps_its_metadata(cos):
    cos.on("append_object", Key="log.html", Position=0, Data=b"1", ACL="public-read", StorageClass="STANDARD_IA")
    assert cos.anonymously("GET", "log.html").content == b"1"
    facts = cos.head("log.html")
    assert facts["x-cos-storage-class"] == "STANDARD_IA" and facts["content-type"] == "text/html"


def test_version_id_of_a_write_is_refused(s3):
    says(raw(s3, "PUT", "/k?versionId=null", b"x"), 400, "InvalidArgument", "version")
    says(raw(s3, "POST", "/k?uploads&versionId=null"), 400, "InvalidArgument", "version")


def test_a_header_has_one_value(s3):
    """A header with two values is refused, since only one could take effect."""
    import http.client
    url = s3.client.generate_presigned_url("put_object", Params={"Bucket": s3.bucket, "Key": "k"})
    connection = http.client.HTTPConnection(s3.server.buckets)
    connection.putrequest("PUT", url.split(s3.server.buckets)[1], skip_accept_encoding=True)
    for name, value in (("Content-Length", "1"), ("If-None-Match", "*"), ("If-None-Match", '"a"')):
        connection.putheader(name, value)
    connection.endheaders(b"1")
    assert connection.getresponse().status == 400 and s3.list()[0] == []


def test_the_size_of_an_upload_is_compared(s3):
    upload = s3.begin("k")
    parts = {"Parts": [{"PartNumber": 1, "ETag": s3.part("k", upload, 1, b"rain")}]}
    refused(400, "InvalidArgument", s3.on, "complete_multipart_upload", Key="k", UploadId=upload, MultipartUpload=parts, MpuObjectSize=5)
    s3.on("complete_multipart_upload", Key="k", UploadId=upload, MultipartUpload=parts, MpuObjectSize=4)
    assert s3.get("k")[0] == b"rain"


# Owners.


def test_an_expected_owner_is_compared(server, s3):
    s3.put("k", b"rain")
    owner = s3.acl()[0]
    calls = [("put_object", dict(Key="k", Body=b"x")), ("get_object", dict(Key="k")), ("delete_object", dict(Key="k")), ("list_objects_v2", {}),
             ("delete_objects", dict(Delete={"Objects": [{"Key": "k"}]})), ("put_bucket_acl", dict(ACL="public-read")), ("delete_bucket", {}),
             ("create_multipart_upload", dict(Key="k")), ("copy_object", dict(Key="l", CopySource=s3.bucket + "/k"))]
    for method, fields in calls:
        refused(403, "AccessDenied", s3.on, method, ExpectedBucketOwner="123456789012", **fields)
    assert s3.get("k")[0] == b"rain" and s3.list()[0] == ["k"]
    refused(403, "AccessDenied", s3.on, "copy_object", Key="l", CopySource=s3.bucket + "/k", ExpectedSourceBucketOwner="123456789012")
    upload = s3.begin("l")
    refused(403, "AccessDenied", s3.on, "upload_part_copy", Key="l", UploadId=upload, PartNumber=1, CopySource=s3.bucket + "/k",
            ExpectedSourceBucketOwner="123456789012")
    for right in (ACCOUNT, owner, owner.rsplit("/", 1)[1]):
        s3.on("copy_object", Key="l", CopySource=s3.bucket + "/k", ExpectedBucketOwner=right, ExpectedSourceBucketOwner=right)


def test_the_account_that_began_an_upload_is_its_initiator(server, s3):
    account = json.loads(server.cli("account", "create", "guest"))
    key = json.loads(server.cli("key", "create", "--account", str(account["AppId"])))
    guest = s3_client(server, key["SecretId"], key["SecretKey"])
    s3.set_acl("public-read-write")
    full = "%s-%s" % (s3.bucket, ACCOUNT)
    upload = guest.create_multipart_upload(Bucket=full, Key="k", ChecksumAlgorithm="CRC32C")["UploadId"]
    mine = s3.begin("l")
    uploads = {one["UploadId"]: one for one in s3.on("list_multipart_uploads")["Uploads"]}
    theirs = uploads[upload]["Initiator"]["ID"]
    assert theirs != uploads[mine]["Initiator"]["ID"] == uploads[mine]["Owner"]["ID"] == s3.acl()[0]
    assert s3.on("list_parts", Key="k", UploadId=upload)["Initiator"]["ID"] == theirs
    assert uploads[upload]["ChecksumType"] == "COMPOSITE"


# Unsupported settings of a new bucket or object.


@pytest.mark.parametrize("fields", [
    dict(ObjectOwnership="BucketOwnerEnforced"), dict(GrantRead='uri="http://acs.amazonaws.com/groups/global/AllUsers"'),
    dict(GrantFullControl='id="a"'), dict(ObjectLockEnabledForBucket=True),
    dict(CreateBucketConfiguration={"Bucket": {"Type": "Directory", "DataRedundancy": "SingleAvailabilityZone"}})], ids=lambda one: next(iter(one)))
def test_create_bucket_refuses_unsupported_settings(server, fields):
    store = S3(server, "less-%d" % next(NUMBERS))
    refused(501, "NotImplemented", store.on, "create_bucket", **fields)
    assert store.bucket not in store.buckets()


def test_a_new_bucket_of_cos_has_its_tags(server):
    store = Cos(server, "tagged-%d" % next(NUMBERS))
    store.on("create_bucket", ACL="public-read", Metadata={})
    store.set_bucket_tags({"a": "1"})
    other = Cos(server, "tagged-%d" % next(NUMBERS))
    host = "%s.cos.%s.myqcloud.com" % (other.bucket, REGION)
    headers = {"Host": host, "x-cos-tagging": "a=1&b=2"}
    authorization = other.client.get_auth(Method="PUT", Bucket=other.bucket, Key="/", Headers=dict(headers))
    answer = requests.put("http://%s/" % server.buckets, headers=dict(headers, Authorization=authorization))
    assert answer.status_code == 200 and other.bucket_tags() == {"a": "1", "b": "2"}, answer.text


@pytest.mark.parametrize("fields", [dict(ServerSideEncryption="AES256"), dict(SSEKMSKeyId="a"), dict(ServerSideEncryption="aws:kms"),
                                    dict(SSECustomerAlgorithm="AES256", SSECustomerKey="k" * 32), dict(BucketKeyEnabled=True),
                                    dict(ObjectLockLegalHoldStatus="ON")], ids=lambda one: "-".join(map(str, one)))
def test_an_object_is_not_put_with_less_than_was_asked(s3, fields):
    refused(501, "NotImplemented", s3.on, "put_object", Key="k", Body=b"x", **fields)
    refused(501, "NotImplemented", s3.on, "create_multipart_upload", Key="k", **fields)
    assert s3.list()[0] == [] and s3.uploads() == []


def test_cos_s_encryption_is_refused(cos):
    refused(501, "NotImplemented", cos.on, "put_object", Key="k", Body=b"x", ServerSideEncryption="AES256")
    refused(501, "NotImplemented", cos.on, "put_object", Key="k", Body=b"x", PicOperations='{"rules": []}')
    assert cos.list()[0] == []


def test_unenforceable_acl_is_refused(s3):
    owner = s3.acl()[0]
    full = {"Grantee": {"Type": "CanonicalUser", "ID": owner}, "Permission": "FULL_CONTROL"}
    everybody = {"Grantee": {"Type": "Group", "URI": "http://acs.amazonaws.com/groups/global/AllUsers"}, "Permission": "READ"}
    less = dict(full, Permission="READ")
    for grants in ([], [everybody], [less], [less, everybody]):
        refused(501, "NotImplemented", s3.on, "put_bucket_acl", AccessControlPolicy={"Owner": {"ID": owner}, "Grants": grants})
    refused(403, "AccessDenied", s3.on, "put_bucket_acl", AccessControlPolicy={"Owner": {"ID": "another"}, "Grants": [full]})
    s3.on("put_bucket_acl", AccessControlPolicy={"Owner": {"ID": owner}, "Grants": [full, everybody]})
    assert s3.acl()[1] == ["FULL_CONTROL", "READ"]
    refused(501, "NotImplemented", s3.on, "put_bucket_versioning", VersioningConfiguration={"Status": "Enabled", "MFADelete": "Enabled"})


def test_bucket_with_pending_upload_is_deleted(s3, cos):
    """S3 deletes the bucket with its upload; COS requires that the upload is aborted first."""
    s3.part("k", s3.begin("k"), 1, b"part")
    s3.delete_bucket()
    assert s3.bucket not in s3.buckets()
    upload = cos.begin("k")
    refused(409, "BucketNotEmpty", cos.delete_bucket)
    cos.abort("k", upload)
    cos.delete_bucket()


# Object metadata.


def test_get_object_attributes_returns_requested_ones(s3):
    upload = s3.begin("k", ChecksumAlgorithm="CRC32")
    parts = []
    for number, body in ((1, b"1" * (5 * MB)), (3, b"3" * MB), (7, b"7")):
        done = s3.on("upload_part", Key="k", UploadId=upload, PartNumber=number, Body=body, ChecksumAlgorithm="CRC32")
        parts.append({"PartNumber": number, "ETag": done["ETag"], "ChecksumCRC32": done["ChecksumCRC32"]})
    etag = s3.on("complete_multipart_upload", Key="k", UploadId=upload, MultipartUpload={"Parts": parts})["ETag"]
    every = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
    found = s3.on("get_object_attributes", Key="k", ObjectAttributes=every)
    assert found["ETag"] == etag.strip('"') and found["ObjectSize"] == 6 * MB + 1 and found["StorageClass"] == "STANDARD"
    assert found["Checksum"]["ChecksumType"] == "COMPOSITE"
    shown = found["ObjectParts"]
    assert shown["TotalPartsCount"] == 3 and not shown["IsTruncated"]
    assert [(one["PartNumber"], one["Size"]) for one in shown["Parts"]] == [(1, 5 * MB), (3, MB), (7, 1)]
    assert [one["ChecksumCRC32"] for one in shown["Parts"]] == [one["ChecksumCRC32"] for one in parts]
    page = s3.on("get_object_attributes", Key="k", ObjectAttributes=["ObjectParts"], MaxParts=1, PartNumberMarker=1)["ObjectParts"]
    assert ([one["PartNumber"] for one in page["Parts"]], page["IsTruncated"], page["NextPartNumberMarker"]) == ([3], True, 3)
    s3.put("plain", b"rain")
    found = s3.on("get_object_attributes", Key="plain", ObjectAttributes=every)
    assert (found["ObjectSize"], "ObjectParts" in found) == (4, False)
    says(raw(s3, "GET", "/k?attributes", headers={"x-amz-object-attributes": "ETag,Colour"}), 400, "InvalidArgument", "Colour")


@pytest.mark.parametrize("expires", ["5d", "0", "never", "Wed, 21 Oct 2037 07:28:00 GMT", "2037-10-21T07:28:00Z", "-1"])
def test_expires_is_kept_as_it_was_put(s3, cos, expires):
    answer = raw(s3, "PUT", "/k", b"rain", {"Expires": expires})
    assert answer.status_code == 200, answer.text
    for method in ("head_object", "get_object"):
        assert s3.on(method, Key="k")["ExpiresString"] == expires
    upload = raw(s3, "POST", "/m?uploads", headers={"Expires": expires})
    upload = re.search("<UploadId>(.*)</UploadId>", upload.text).group(1)
    s3.complete("m", upload, [(1, s3.part("m", upload, 1, b"part"))])
    copied = {"x-amz-copy-source": s3.bucket + "/k"}
    assert raw(s3, "PUT", "/c", headers=copied).status_code == 200
    assert raw(s3, "PUT", "/r", headers=dict(copied, **{"x-amz-metadata-directive": "REPLACE", "Expires": expires})).status_code == 200
    for key in "mcr":
        assert s3.on("head_object", Key=key)["ExpiresString"] == expires
    cos.on("put_object", Key="k", Body=b"rain", Expires=expires)
    assert cos.head("k")["expires"] == expires


def test_odd_values_of_optional_headers_are_ignored(s3):
    s3.put("k", b"rain")
    for headers in ({"If-Modified-Since": "never"}, {"If-Unmodified-Since": "yesterday"}, {"Range": "bytes=x"}, {"Range": "lines=1-2"},
                    {"Range": "bytes=0-1,3-4"}, {"Expires": "5d"}, {"Content-Type": "?"}):
        answer = raw(s3, "GET", "/k", headers=headers)
        assert (answer.status_code, answer.content) == (200, b"rain"), headers
    answer = raw(s3, "GET", "/k?response-expires=soon")
    assert (answer.status_code, answer.headers["Expires"]) == (200, "soon")
    for kind in ("?", "text", "a/b/c", "text/plain; charset"):
        assert raw(s3, "PUT", "/k", b"rain", {"Content-Type": kind}).status_code == 200
        assert s3.head("k")["content-type"] == kind


@pytest.mark.parametrize("key, kind", [("index.html", "text/html"), ("a/b.css", "text/css"), ("rain.png", "image/png"), ("a.JSON", "application/json"),
                                       ("none", "application/octet-stream"), ("a.b/c", "application/octet-stream")])
def test_cos_gives_an_object_a_type_by_its_suffix(server, cos, key, kind):
    cos.put(key, b"rain")
    assert cos.head(key)["content-type"] == kind and cos.get(key)[1]["content-type"] == kind
    upload = cos.begin("m" + key)
    cos.complete("m" + key, upload, [(1, cos.part("m" + key, upload, 1, b"part"))])
    assert cos.head("m" + key)["content-type"] == kind
    # COS shows the type that S3 stored; S3's API guesses none.
    s3 = S3(server, cos.bucket.rsplit("-", 1)[0])
    s3.put("s" + key, b"rain")
    assert s3.head("s" + key)["content-type"] == "binary/octet-stream" and cos.head("s" + key)["content-type"] == kind
    cos.put(key, b"rain", ContentType="text/x-rain")
    assert cos.head(key)["content-type"] == "text/x-rain"


def test_an_empty_delimiter_is_not_echoed(s3):
    s3.put("k", b"1")
    for method in ("list_objects", "list_objects_v2", "list_object_versions", "list_multipart_uploads"):
        assert "Delimiter" not in s3.on(method, Delimiter="")


@pytest.mark.parametrize("key", ["///////", "//", "//a", "a//", "./a", "a/../b"])
def test_keys_of_slashes(cos, key):
    """COS's Python client takes one slash off the front, and reads no key that is slashes alone."""
    cos.put(key, b"rain")
    assert cos.list()[0] == [key.removeprefix("/")] and cos.head(key)["content-length"] == "4"
    if key.strip("/"):
        assert cos.get(key)[0] == b"rain"
    cos.delete(key)
    assert cos.list()[0] == []


def chunks():
    yield b"drop by "
    yield b"drop"


def test_cos_accepts_body_of_unknown_length(cos):
    cos.put("k", chunks())
    assert cos.get("k")[0] == b"drop by drop"
    upload = cos.begin("m")
    cos.complete("m", upload, [(1, cos.part("m", upload, 1, chunks()))])
    assert cos.get("m")[0] == b"drop by drop"
    cos.on("append_object", Key="log", Position=0, Data=chunks())
    assert cos.get("log")[0] == b"drop by drop"


def test_s3_accepts_body_of_unknown_length_and_verifies_it(s3):
    """Signed by version 4 with its hash, but sent in chunks."""
    for body, announced, status in ((b"drop by drop", None, 200), (b"drop by drop", b"another", 400)):
        request = AWSRequest("PUT", "http://%s/%s/k" % (s3.server.buckets, s3.bucket), data=announced or body)
        request.context["payload_signing_enabled"] = True
        S3SigV4Auth(Credentials(s3.server.secret_id, s3.server.secret_key), "s3", REGION).add_auth(request)
        headers = {name: value for name, value in request.prepare().headers.items() if name.lower() != "content-length"}
        answer = requests.put(request.url, data=chunks(), headers=headers)
        assert answer.status_code == status, answer.text
        assert s3.get("k")[0] == body


# COS's list of buckets.


def test_cos_filters_an_account_s_buckets(server):
    names = ["filter-%d-%s" % (number, ACCOUNT) for number in range(3)]
    stores = [Cos(server, name.rsplit("-", 1)[0]) for name in names]
    begun = int(time.time())
    for store in stores:
        store.create()
    stores[1].set_bucket_tags({"team": "rain"})
    stores[2].set_bucket_tags({"team": "snow"})
    client = cos_client(server)

    def listed(**fields):
        found = client.list_buckets(**fields)
        buckets = (found.get("Buckets") or {}).get("Bucket") or []
        return [one["Name"] for one in buckets if one["Name"].startswith("filter-")], found

    assert listed()[0] == names and listed(Region=REGION)[0] == names
    assert listed(Region="ap-beijing")[0] == []
    assert listed(TagKey="team", TagValue="snow")[0] == names[2:]
    assert listed(TagKey="other", TagValue="snow")[0] == [] and listed(TagKey="team", TagValue="hail")[0] == []
    assert listed(CreateTime=begun - 1, Range="lt")[0] == [] and listed(CreateTime=begun - 1, Range="gt")[0] == names
    assert listed(CreateTime=begun + 3600, Range="gte")[0] == [] and listed(CreateTime=begun + 3600, Range="lte")[0] == names
    first, found = listed(MaxKeys=1)
    seen, marker = list(first), found.get("NextMarker")
    assert found["IsTruncated"] == "true"
    while marker:
        page, found = listed(MaxKeys=1, Marker=marker)
        seen, marker = seen + page, found.get("NextMarker")
    assert seen == names and found["IsTruncated"] == "false"
    with pytest.raises(Exception) as error:
        client.list_buckets(Range="about", CreateTime=1)
    assert error.value.get_error_code() == "InvalidArgument"
    anonymous = requests.get("http://%s/" % server.buckets, headers={"Host": "service.cos.myqcloud.com"})
    assert anonymous.status_code == 403
