"""One table of bucket cases, run with the official clients of COS and S3 with only the endpoint changed."""

import base64
import hashlib
import hmac
import itertools
import json
import threading
import time
import uuid

import botocore.exceptions
import pytest
import requests

from bucket_clients import ACCOUNT, REGION, Cos, Refused, S3, cos_client, s3_client

NUMBERS = itertools.count()
MB = 1 << 20


@pytest.fixture(params=[Cos, S3], ids=["cos", "s3"])
def store(server, request):
    """A bucket of its own, seen by one of the clients."""
    store = request.param(server, "case-%d" % next(NUMBERS))
    store.create()
    return store


@pytest.fixture(scope="module")
def other(server):
    """A key of another account."""
    account = json.loads(server.cli("account", "create", "other"))
    return json.loads(server.cli("key", "create", "--account", str(account["AppId"])))


def refused(status, code, call, *arguments, **fields):
    with pytest.raises(Refused) as error:
        call(*arguments, **fields)
    assert (error.value.status, error.value.code) in ((status, code), (status, None)), error.value
    return error.value


# Buckets.


def test_bucket_is_created_listed_and_deleted(store):
    assert store.bucket in store.buckets()
    store.head_bucket()
    store.put("k", b"1")
    refused(409, "BucketNotEmpty", store.delete_bucket)
    store.delete("k")
    store.delete_bucket()
    assert store.bucket not in store.buckets()
    refused(404, "NoSuchBucket", store.head_bucket)
    refused(404, "NoSuchBucket", store.put, "k", b"1")


def test_bucket_is_created_once(store):
    refused(409, "BucketAlreadyOwnedByYou", store.create)


def test_both_clients_see_the_same_bucket(server):
    cos, s3 = Cos(server, "shared"), S3(server, "shared")
    cos.create()
    s3.put("a", b"by s3", meta={"by": "s3"})
    body, facts = cos.get("a")
    assert (body, facts["meta"]) == (b"by s3", {"by": "s3"})
    cos.put("b", b"by cos", meta={"by": "cos"})
    body, facts = s3.get("b")
    assert (body, facts["meta"]) == (b"by cos", {"by": "cos"})
    assert "shared" in s3.buckets() and "shared-" + ACCOUNT in cos.buckets()


# Objects.


@pytest.mark.parametrize("key", ["k", "a/b/c.txt", "with space+plus&and=equals", "雨/rain.png", "~tilde'quote(1)", "dots/../up"])
def test_an_object_goes_in_and_out(store, key):
    if key == "dots/../up" and store.name == "s3":
        key = "dots/..up"
    body = b"rain " * 1000
    etag = store.put(key, body)
    assert etag == '"%s"' % hashlib.md5(body).hexdigest()
    got, facts = store.get(key)
    assert got == body and facts["etag"] == etag and facts["content-length"] == "5000"
    assert store.head(key)["etag"] == etag
    assert store.list()[0] == [key]
    store.delete(key)
    refused(404, "NoSuchKey", store.get, key)
    refused(404, None, store.head, key)
    store.delete(key)


@pytest.mark.parametrize("size", [0, 1, 16 * 1024, 16 * 1024 + 1, 5 * MB + 3])
def test_objects_of_every_size_are_whole(store, size):
    body = bytes(itertools.islice(itertools.cycle(range(251)), size))
    store.put("k", body)
    assert store.get("k")[0] == body


def test_expect_100_continue_is_answered_or_the_connection_closed(server):
    """Botocore keeps a connection on which it got an answer in place of `100 Continue`, and misreads the next."""
    store = S3(server, "waits-%d" % next(NUMBERS))
    store.create()
    url = store.url("PUT", "k")[0]
    waiting = {"Expect": "100-continue"}
    assert "Connection" not in requests.put(url, data=b"rain", headers=waiting).headers
    assert requests.put(url, data=b"", headers=waiting).headers["Connection"] == "close"
    assert requests.put(url + "0", data=b"rain", headers=waiting).headers["Connection"] == "close"


def test_object_metadata_is_kept(store):
    store.put("k", b"1", meta={"colour": "blue", "two-words": "a b"}, ContentType="text/x-rain", CacheControl="max-age=7",
              ContentDisposition="attachment", ContentEncoding="identity", ContentLanguage="de")
    for facts in (store.get("k")[1], store.head("k")):
        assert facts["meta"] == {"colour": "blue", "two-words": "a b"}
        said = [facts[name] for name in ("content-type", "cache-control", "content-disposition", "content-encoding", "content-language")]
        assert said == ["text/x-rain", "max-age=7", "attachment", "identity", "de"]


def test_response_headers_can_be_overridden(store):
    store.put("k", b"1")
    facts = store.get("k", ResponseContentType="text/x-other", ResponseCacheControl="no-store")[1]
    assert (facts["content-type"], facts["cache-control"]) == ("text/x-other", "no-store")


@pytest.mark.parametrize("given, expected", [("bytes=0-0", b"0"), ("bytes=2-4", b"234"), ("bytes=7-", b"789"), ("bytes=-3", b"789"),
                                             ("bytes=5-100", b"56789")])
def test_a_range_is_read(store, given, expected):
    store.put("k", b"0123456789")
    body, facts = store.get("k", Range=given)
    assert body == expected and facts["content-range"].endswith("/10")


def test_a_range_beyond_the_end_is_refused(store):
    store.put("k", b"0123456789")
    refused(416, "InvalidRange", store.get, "k", Range="bytes=10-")


def test_conditions_of_a_read(store):
    etag = store.put("k", b"1")
    assert store.get("k", IfMatch=etag)[0] == b"1"
    refused(412, "PreconditionFailed", store.get, "k", IfMatch='"other"')
    refused(412, "PreconditionFailed", store.get, "k", IfUnmodifiedSince="Thu, 01 Jan 1998 00:00:00 GMT")
    assert store.get("k", IfNoneMatch='"other"')[0] == b"1"
    if store.name == "s3":
        refused(304, None, store.get, "k", IfNoneMatch=etag)
        refused(304, None, store.head, "k", IfModifiedSince="Thu, 01 Jan 2037 00:00:00 GMT")


def test_many_are_removed_at_once(store):
    keys = sorted("k/%03d & <x>" % number for number in range(120))
    for key in keys:
        store.put(key, b"1")
    assert store.delete_many(keys[:100] + ["never"]) == sorted(keys[:100] + ["never"])
    assert store.list()[0] == keys[100:]


def test_a_copy_is_another_object(store):
    etag = store.put("from here", b"rain", meta={"a": "1"}, ContentType="text/x-rain")
    assert store.copy("from here", "to/there") == etag
    body, facts = store.get("to/there")
    assert (body, facts["meta"], facts["content-type"]) == (b"rain", {"a": "1"}, "text/x-rain")
    store.copy("from here", "to/there", replace={"b": "2"})
    assert store.head("to/there")["meta"] == {"b": "2"}
    refused(404, "NoSuchKey", store.copy, "nowhere", "to/there")


# Lists.


def test_list_by_prefix_delimiter_and_page(store):
    keys = ["a", "b/1", "b/2", "b/c/1", "d/1", "e"]
    for key in keys:
        store.put(key, b"1")
    assert store.list()[0] == keys
    found, prefixes, _ = store.list(Delimiter="/")
    assert (found, prefixes) == (["a", "e"], ["b/", "d/"])
    found, prefixes, _ = store.list(Prefix="b/", Delimiter="/")
    assert (found, prefixes) == (["b/1", "b/2"], ["b/c/"])
    for size in (1, 2, 3, 1000):
        assert store.pages(size) == keys
        assert store.pages(size, Delimiter="/") == ["a", "b/", "d/", "e"]
    assert store.list(Prefix="nothing")[0] == []


def test_list_is_url_encoded_on_request(store):
    store.put("a b/雨", b"1")
    assert store.list(EncodingType="url")[0] in (["a%20b/%E9%9B%A8"], ["a+b/%E9%9B%A8"], ["a b/雨"])


# Multipart uploads.


def test_multipart_upload_lifecycle(store):
    parts = [b"1" * (5 * MB), b"2" * (5 * MB), b"3" * 7]
    upload = store.begin("big", ContentType="text/x-big")
    assert store.uploads() == ["big"]
    etags = [(number, store.part("big", upload, number, body)) for number, body in enumerate(parts, 1)]
    assert [etag for _, etag in etags] == ['"%s"' % hashlib.md5(body).hexdigest() for body in parts]
    assert store.parts("big", upload) == [(1, 5 * MB), (2, 5 * MB), (3, 7)]
    refused(404, "NoSuchKey", store.get, "big")
    done = store.complete("big", upload, etags)
    whole = hashlib.md5(b"".join(hashlib.md5(body).digest() for body in parts)).hexdigest()
    assert done["ETag"] == '"%s-3"' % whole and done["Key"] == "big" and done["Location"].endswith("/big")
    body, facts = store.get("big")
    assert body == b"".join(parts) and facts["content-type"] == "text/x-big"
    assert store.get("big", Range="bytes=%d-%d" % (5 * MB - 1, 5 * MB))[0] == b"12"
    assert store.uploads() == []


def test_multipart_upload_is_aborted_or_refused(store):
    upload = store.begin("k")
    store.part("k", upload, 1, b"1")
    etag = store.part("k", upload, 2, b"2")
    refused(400, "EntityTooSmall", store.complete, "k", upload, [(1, '"%s"' % hashlib.md5(b"1").hexdigest()), (2, etag)])
    refused(400, "InvalidPart", store.complete, "k", upload, [(1, '"%s"' % hashlib.md5(b"other").hexdigest())])
    refused(400, "InvalidPartOrder", store.complete, "k", upload, [(2, etag), (1, etag)])
    store.abort("k", upload)
    refused(404, "NoSuchUpload", store.part, "k", upload, 1, b"1")
    refused(404, "NoSuchUpload", store.complete, "k", upload, [(1, etag)])
    refused(404, "NoSuchKey", store.get, "k")


def test_a_part_is_copied_from_an_object(store):
    store.put("from", b"0" * (5 * MB) + b"rain")
    upload = store.begin("to")
    first = store.part_copy("to", upload, 1, "from", 0, 5 * MB - 1)
    second = store.part_copy("to", upload, 2, "from", 5 * MB, 5 * MB + 3)
    store.complete("to", upload, [(1, first), (2, second)])
    assert store.get("to")[0] == b"0" * (5 * MB) + b"rain"


# URLs that are signed.


def test_signed_url_needs_no_credentials(store):
    url, headers = store.url("PUT", "a b.txt")
    url = url.replace(headers["Host"], store.server.buckets) if headers else url
    assert requests.put(url, data=b"rain", headers=headers).status_code == 200
    url, headers = store.url("GET", "a b.txt")
    url = url.replace(headers["Host"], store.server.buckets) if headers else url
    answer = requests.get(url, headers=headers)
    assert (answer.status_code, answer.content) == (200, b"rain")
    assert requests.put(url, data=b"snow", headers=headers).status_code == 403
    assert requests.get(url.replace("a%20b", "another"), headers=headers).status_code == 403


def test_signed_url_expires(store):
    store.put("k", b"1")
    url, headers = store.url("GET", "k", expires=1)
    url = url.replace(headers["Host"], store.server.buckets) if headers else url
    deadline = time.time() + 120
    while requests.get(url, headers=headers).status_code == 200:
        assert time.time() < deadline
        time.sleep(0.1)
    answer = requests.get(url, headers=headers)
    assert answer.status_code == 403 and "<Code>AccessDenied</Code>" in answer.text and "Request has expired" in answer.text


# Tags, versions, access lists, pages of other origins.


def test_tags_of_objects_and_buckets(store):
    store.put("k", b"1")
    assert store.tags("k") == {}
    store.set_tags("k", {"a": "1", "b": "two words"})
    assert store.tags("k") == {"a": "1", "b": "two words"}
    store.put("l", b"1", Tagging="x=y&z=1")
    assert store.tags("l") == {"x": "y", "z": "1"}
    refused(404, "NoSuchTagSet", store.bucket_tags)
    store.set_bucket_tags({"team": "rain"})
    assert store.bucket_tags() == {"team": "rain"}


def test_versions_are_kept(store):
    store.keep_versions()
    store.put("k", b"1")
    first = store.head("k")["version"]
    store.put("k", b"2")
    second = store.head("k")["version"]
    assert first != second and store.get("k")[0] == b"2"
    assert store.get("k", VersionId=first)[0] == b"1"
    marker = store.delete("k")
    assert (marker.get("x-cos-delete-marker") or marker.get("x-amz-delete-marker")) == "true"
    refused(404, "NoSuchKey", store.get, "k")
    versions, markers = store.versions()
    assert sorted(versions) == sorted([("k", first, False), ("k", second, False)])
    assert markers == [("k", marker["version"])]
    store.delete("k", VersionId=marker["version"])
    assert store.get("k")[0] == b"2"
    store.delete("k", VersionId=second)
    assert store.get("k")[0] == b"1"
    refused(404, "NoSuchVersion", store.get, "k", VersionId=second)


def test_anonymous_read_of_public_objects(store):
    store.put("k", b"rain")
    assert store.anonymously("GET", "k").status_code == 403
    owner, permissions = store.acl()
    assert owner == "qcs::cam::uin/100000000001:uin/100000000001" and permissions == ["FULL_CONTROL"]
    store.set_acl("public-read", "k")
    assert sorted(store.acl("k")[1]) == ["FULL_CONTROL", "READ"]
    answer = store.anonymously("GET", "k")
    assert (answer.status_code, answer.content) == (200, b"rain")
    assert store.anonymously("PUT", "k", data=b"snow").status_code == 403
    assert store.anonymously("DELETE", "k").status_code == 403
    store.set_acl("private", "k")
    assert store.anonymously("GET", "k").status_code == 403
    store.set_acl("public-read-write")
    assert store.anonymously("PUT", "other", data=b"snow").status_code == 200
    assert store.get("other")[0] == b"snow"


def test_cors(store):
    asking = {"Origin": "https://rain.example.com", "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-cos-acl"}
    assert store.anonymously("OPTIONS", "k", headers=asking).status_code == 403
    store.set_cors("https://*.example.com")
    assert store.cors() in ([["https://*.example.com"]], ["https://*.example.com"])
    answer = store.anonymously("OPTIONS", "k", headers=asking)
    assert answer.status_code == 200 and answer.headers["Access-Control-Allow-Origin"] == "https://rain.example.com"
    assert answer.headers["Access-Control-Max-Age"] == "60" and "PUT" in answer.headers["Access-Control-Allow-Methods"]
    answer = store.anonymously("GET", "k", headers={"Origin": "https://rain.example.com"})
    assert answer.headers["Access-Control-Expose-Headers"] == "ETag"
    assert "Access-Control-Allow-Origin" not in store.anonymously("GET", "k", headers={"Origin": "https://else.where"}).headers
    store.delete_cors()
    assert store.anonymously("OPTIONS", "k", headers=asking).status_code == 403
    refused(404, "NoSuchCORSConfiguration", store.cors)


# Access.


def test_a_wrong_key_is_refused(server, store):
    client = type(store)(server, store.bucket.replace("-" + ACCOUNT, ""))
    make = cos_client if store.name == "cos" else s3_client
    client.client = make(server, secret_key="wrong")
    refused(403, "SignatureDoesNotMatch", client.list)
    client.client = make(server, secret_id="AKIDnobody")
    refused(403, "InvalidAccessKeyId", client.list)
    client.client = make(server, token="one that no permanent key has")
    refused(403, "InvalidAccessKeyId", client.list)


def test_a_disabled_key_is_refused(server, store):
    key = json.loads(server.cli("key", "create"))
    client = type(store)(server, store.bucket.replace("-" + ACCOUNT, ""))
    make = cos_client if store.name == "cos" else s3_client
    client.client = make(server, key["SecretId"], key["SecretKey"])
    client.put("k", b"1")
    server.cli("key", "disable", key["SecretId"])
    refused(403, "InvalidAccessKeyId", client.get, "k")


def test_an_account_does_not_see_another_s(server, store, other):
    store.put("k", b"rain")
    make = cos_client if store.name == "cos" else s3_client
    foreign = type(store)(server, "x")
    foreign.client, foreign.bucket = make(server, other["SecretId"], other["SecretKey"]), store.bucket
    if store.name == "s3":
        # A short name is the caller's own.
        refused(404, "NoSuchBucket", foreign.get, "k")
        foreign.bucket = "%s-%s" % (store.bucket, ACCOUNT)
    for call in (foreign.list, foreign.head_bucket, foreign.delete_bucket, foreign.uploads, foreign.versions):
        assert refused(403, "AccessDenied", call)
    refused(403, "AccessDenied", foreign.get, "k")
    refused(403, "AccessDenied", foreign.put, "k", b"snow")
    refused(403, "AccessDenied", foreign.delete, "k")
    assert foreign.buckets() == []
    assert store.get("k")[0] == b"rain"
    if store.name == "cos":
        refused(403, "AccessDenied", foreign.create)


def test_policy_decides_permissions_of_a_key(server, store, tmp_path):
    bucket = store.bucket if store.name == "cos" else "%s-%s" % (store.bucket, ACCOUNT)
    where = "qcs::cos:%s:uid/%s:%s/" % (REGION, ACCOUNT, bucket)
    policy = {"version": "2.0", "statement": [
        {"effect": "allow", "action": ["name/cos:GetObject", "name/cos:PutObject"], "resource": [where + "open/*"]},
        {"effect": "deny", "action": ["name/cos:PutObject"], "resource": [where + "open/not/*"]},
    ]}
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(policy))
    key = json.loads(server.cli("key", "create", "--policy", str(file)))
    make = cos_client if store.name == "cos" else s3_client
    bound = type(store)(server, store.bucket.replace("-" + ACCOUNT, ""))
    bound.client = make(server, key["SecretId"], key["SecretKey"])
    bound.put("open/k", b"1")
    assert bound.get("open/k")[0] == b"1"
    for call, arguments in ((bound.put, ("k", b"1")), (bound.put, ("open/not/k", b"1")), (bound.delete, ("open/k",)), (bound.list, ()),
                            (bound.buckets, ()), (bound.copy, ("open/k", "k"))):
        refused(403, "AccessDenied", call, *arguments)


# Features of COS alone.


@pytest.fixture
def cos(server):
    store = Cos(server, "only-%d" % next(NUMBERS))
    store.create()
    return store


def test_bytes_are_appended(cos):
    first = cos.on("append_object", Key="log", Position=0, Data=b"one ", ContentType="text/x-log")
    assert first["x-cos-next-append-position"] == "4"
    second = cos.on("append_object", Key="log", Position=4, Data=b"two")
    assert second["x-cos-next-append-position"] == "7"
    body, facts = cos.get("log")
    assert (body, facts["x-cos-object-type"], facts["content-type"]) == (b"one two", "appendable", "text/x-log")
    refused(409, "PositionNotEqualToLength", cos.on, "append_object", Key="log", Position=3, Data=b"x")
    cos.put("log", b"whole")
    assert cos.head("log")["x-cos-object-type"] == "normal"
    refused(409, "ObjectNotAppendable", cos.on, "append_object", Key="log", Position=5, Data=b"x")


def crc64(data):
    """COS's checksum, bit by bit."""
    value = 0xFFFFFFFFFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0xC96C5795D7870F42 if value & 1 else 0)
    return str(value ^ 0xFFFFFFFFFFFFFFFF)


def test_every_object_has_cos_s_checksum(cos):
    put = cos.on("put_object", Key="k", Body=b"123456789")
    assert put["x-cos-hash-crc64ecma"] == cos.head("k")["x-cos-hash-crc64ecma"] == "11051210869376104954" == crc64(b"123456789")
    cos.on("append_object", Key="log", Position=0, Data=b"1234")
    cos.on("append_object", Key="log", Position=4, Data=b"56789")
    assert cos.head("log")["x-cos-hash-crc64ecma"] == crc64(b"123456789")
    upload = cos.begin("big")
    parts = [b"1" * MB, b"2" * 9]
    cos.complete("big", upload, [(number, cos.part("big", upload, number, body)) for number, body in enumerate(parts, 1)])
    assert cos.head("big")["x-cos-hash-crc64ecma"] == crc64(b"".join(parts))


def test_an_object_is_not_overwritten_where_that_is_forbidden(cos):
    forbids = {"Metadata": {"x-cos-forbid-overwrite": "true"}}
    cos.on("put_object", Key="k", Body=b"1", **forbids)
    refused(409, "FileAlreadyExists", cos.on, "put_object", Key="k", Body=b"2", **forbids)
    assert cos.get("k")[0] == b"1"


def test_error_names_the_request(cos):
    with pytest.raises(Exception) as error:
        cos.client.get_object(Bucket=cos.bucket, Key="nowhere")
    refused = error.value
    assert (refused.get_error_code(), refused.get_status_code()) == ("NoSuchKey", 404)
    assert refused.get_resource_location() == "%s.cos.%s.myqcloud.com/nowhere" % (cos.bucket, REGION)
    assert refused.get_request_id() != "Unknown" and refused.get_trace_id() != "Unknown" and refused.get_error_msg()


def test_large_files_are_transferred_in_parts(cos, tmp_path):
    """The SDK's own ways for large files, which use multipart uploads and ranges."""
    up, down = tmp_path / "up", tmp_path / "down"
    up.write_bytes(bytes(range(256)) * (5 * MB // 256) + b"end")
    cos.client.upload_file(Bucket=cos.bucket, Key="big", LocalFilePath=str(up), PartSize=1, MAXThread=3, EnableMD5=True)
    cos.client.download_file(Bucket=cos.bucket, Key="big", DestFilePath=str(down), PartSize=1, MAXThread=3, EnableCRC=True)
    assert down.read_bytes() == up.read_bytes()
    assert cos.client.object_exists(cos.bucket, "big") and not cos.client.object_exists(cos.bucket, "other")
    assert cos.client.bucket_exists(cos.bucket) and not cos.client.bucket_exists("none-" + ACCOUNT)


def test_an_archived_object_is_restored(cos):
    cos.on("put_object", Key="k", Body=b"1", StorageClass="ARCHIVE")
    refused(403, "InvalidObjectState", cos.get, "k")
    cos.on("restore_object", Key="k", RestoreRequest={"Days": 1, "CASJobParameters": {"Tier": "Expedited"}})
    deadline = time.time() + 120
    while "ongoing-request=\"true\"" in cos.head("k").get("x-cos-restore", "ongoing-request=\"true\""):
        assert time.time() < deadline
        time.sleep(0.1)
    assert cos.get("k")[0] == b"1"


def test_unsupported_features_are_refused_by_name(cos):
    refused(501, "NotImplemented", cos.on, "get_bucket_lifecycle")
    refused(501, "NotImplemented", cos.on, "get_bucket_referer")


# Forms.


def sign(key, *texts):
    for text in texts:
        key = hmac.new(key, text.encode(), "sha256").digest()
    return key


def cos_form(server, policy, **fields):
    start = int(time.time())
    span = "%d;%d" % (start - 60, start + 600)
    policy["conditions"] += [{"q-sign-algorithm": "sha1"}, {"q-ak": server.secret_id}, {"q-sign-time": span}]
    text = json.dumps(policy).encode()
    key = hmac.new(server.secret_key.encode(), span.encode(), "sha1").hexdigest()
    signature = hmac.new(key.encode(), hashlib.sha1(text).hexdigest().encode(), "sha1").hexdigest()
    own = {"policy": base64.b64encode(text).decode(), "q-sign-algorithm": "sha1", "q-ak": server.secret_id, "q-key-time": span,
           "q-sign-time": span, "q-signature": signature}
    return dict(fields, **own)


def post(store, fields, body=b"rain", name="rain.txt"):
    host = "%s.cos.%s.myqcloud.com" % (store.bucket, REGION)
    files = [(key, (None, value)) for key, value in fields.items()] + [("file", (name, body))]
    return requests.post("http://%s/" % store.server.buckets, headers={"Host": host}, files=files, allow_redirects=False)


def policy(*conditions, seconds=600):
    return {"expiration": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() + seconds)), "conditions": list(conditions)}


def test_a_form_uploads_by_cos_s_signature(server, cos):
    named = [{"bucket": cos.bucket}, ["starts-with", "$key", "up/"]]
    answer = post(cos, cos_form(server, policy(*named, {"x-cos-meta-a": "1"}), key="up/${filename}", **{
        "Content-Type": "text/x-rain", "x-cos-meta-a": "1", "success_action_status": "201"}))
    assert answer.status_code == 201, answer.text
    etag = hashlib.md5(b"rain").hexdigest()
    assert "<Key>up/rain.txt</Key>" in answer.text and etag in answer.text and "<Bucket>%s</Bucket>" % cos.bucket in answer.text
    body, facts = cos.get("up/rain.txt")
    assert (body, facts["content-type"], facts["meta"]) == (b"rain", "text/x-rain", {"a": "1"})
    named = [{"bucket": cos.bucket}, {"key": "k"}]
    assert post(cos, cos_form(server, policy(*named), key="k")).status_code == 204
    answer = post(cos, cos_form(server, policy(*named), key="k", success_action_redirect="http://a.example/done"))
    assert answer.status_code == 303 and answer.headers["Location"].startswith("http://a.example/done?bucket=")


@pytest.mark.parametrize("change, status, code", [
    (dict(key="other/k"), 403, "AccessDenied"),
    (dict(seconds=-5), 403, "AccessDenied"),
    (dict(body=b"x" * 100), 400, "EntityTooLarge"),
    (dict(signature="0" * 40), 403, "SignatureDoesNotMatch"),
    (dict(nobody=True), 403, "AccessDenied"),
])
def test_form_policy_is_enforced(server, cos, change, status, code):
    wanted = policy({"bucket": cos.bucket}, ["starts-with", "$key", "up/"], ["content-length-range", 1, 10], seconds=change.get("seconds", 600))
    fields = cos_form(server, wanted, key=change.get("key", "up/k"))
    if "signature" in change:
        fields["q-signature"] = change["signature"]
    if "nobody" in change:
        fields = {"key": "up/k"}
    answer = post(cos, fields, change.get("body", b"rain"))
    assert (answer.status_code, "<Code>%s</Code>" % code in answer.text) == (status, True), answer.text
    refused(404, "NoSuchKey", cos.get, "up/k")


def test_a_form_uploads_by_s3_s_signature(server):
    store = S3(server, "forms")
    store.create()
    form = store.client.generate_presigned_post("forms", "up/${filename}", Fields={"success_action_status": "200", "acl": "public-read"},
                                                Conditions=[{"success_action_status": "200"}, {"acl": "public-read"}], ExpiresIn=60)
    answer = requests.post(form["url"], data=form["fields"], files={"file": ("rain.txt", b"rain")})
    assert answer.status_code == 200, answer.text
    assert store.anonymously("GET", "up/rain.txt").content == b"rain"
    unnamed = dict(form["fields"], **{"x-amz-meta-a": "1"})
    assert requests.post(form["url"], data=unnamed, files={"file": ("rain.txt", b"rain")}).status_code == 403


# Names of hosts.


@pytest.mark.parametrize("host, path", [
    ("{bucket}.cos.localhost", "/k"),
    ("{bucket}.cos.ap-guangzhou.localhost", "/k"),
    ("{bucket}.localhost", "/k"),
    ("{bucket}.cos.ap-guangzhou.tencentcos.cn", "/k"),
    ("cos.ap-guangzhou.myqcloud.com", "/{bucket}/k"),
    ("localhost", "/{bucket}/k"),
    ("anything.example.com", "/{bucket}/k"),
])
def test_a_bucket_is_found_by_host_or_by_path(cos, host, path):
    cos.put("k", b"rain")
    cos.set_acl("public-read", "k")
    headers = {"Host": host.format(bucket=cos.bucket)}
    answer = requests.get("http://" + cos.server.buckets + path.format(bucket=cos.bucket), headers=headers)
    assert (answer.status_code, answer.content) == (200, b"rain")


def test_s3_s_virtual_hosts(server):
    """Through virga as a proxy, since no resolver knows the bucket's host."""
    client = s3_client(server, s3={"addressing_style": "virtual"}, proxies={"http": "http://" + server.buckets})
    client._endpoint.host = "http://s3.localhost"
    client = __import__("boto3").client("s3", endpoint_url="http://s3.localhost", region_name=REGION, aws_access_key_id=server.secret_id,
                                        aws_secret_access_key=server.secret_key, config=client.meta.config)
    client.create_bucket(Bucket="virtual", CreateBucketConfiguration={"LocationConstraint": REGION})
    client.put_object(Bucket="virtual", Key="a b", Body=b"rain")
    assert client.get_object(Bucket="virtual", Key="a b")["Body"].read() == b"rain"
    assert [one["Key"] for one in client.list_objects_v2(Bucket="virtual")["Contents"]] == ["a b"]


# Checksums, and the server itself.


def test_bytes_that_were_changed_on_their_way_are_refused(store):
    wrong = base64.b64encode(hashlib.md5(b"snow").digest()).decode()
    refused(400, "BadDigest", store.put, "k", b"rain", ContentMD5=wrong)
    refused(404, "NoSuchKey", store.get, "k")


@pytest.mark.parametrize("kind", ["CRC32", "CRC32C", "SHA1", "SHA256", "CRC64NVME"])
def test_checksums_are_kept_and_verified(server, kind):
    store = S3(server, "sums-" + kind.lower())
    store.create()
    store.put("k", b"rain", ChecksumAlgorithm=kind)
    facts = store.client.head_object(Bucket=store.bucket, Key="k", ChecksumMode="ENABLED")
    assert facts["Checksum" + kind]
    refused(400, "BadDigest", store.put, "l", b"rain", **{"Checksum" + kind: facts["Checksum" + kind].swapcase()})


def test_healthz_answers_everybody(server):
    answer = requests.get("http://%s/healthz" % server.buckets)
    assert (answer.status_code, answer.text) == (200, "ok\n")
    metrics = requests.get("http://%s/metrics" % server.address).text
    assert 'virga_bucket_requests_total{api="cos",method="PUT",status="2xx"}' in metrics


def test_acknowledged_writes_survive_a_kill(tmp_path):
    """Objects of all sizes are put and removed while the server is killed: each answered write holds, and nothing is there by half."""
    from virga import Server
    server = Server(tmp_path / "data", "buckets-" + uuid.uuid4().hex[:6], ("--network", "none"))
    sizes = (1, 4 << 10, 100 << 10, 1 << 20)

    def content(number):
        return hashlib.sha256(b"%d" % number).digest() * (sizes[number % 4] // 32 + 1)

    def write(name, begun, done):
        store = S3(server, "killed")
        for number in itertools.count(name, 3):
            begun.add(number)
            try:
                store.put("k%d" % number, content(number))
                if number % 5 == 0:
                    store.delete("k%d" % number)
            except (botocore.exceptions.BotoCoreError, Refused):
                return
            done.add(number)

    try:
        S3(server, "killed").create()
        begun, done = set(), set()
        for round in range(4):
            before = len(done)
            writers = [threading.Thread(target=write, args=(1000 * round + name, begun, done)) for name in range(3)]
            for writer in writers:
                writer.start()
            while len(done) < before + 20 + 7 * round:
                assert any(writer.is_alive() for writer in writers), "nothing is written"
            server.kill()
            for writer in writers:
                writer.join()
            server.start()
        store = S3(server, "killed")
        there = set(store.pages(100))
        for number in begun:
            key = "k%d" % number
            if number in done:
                assert (key in there) == (number % 5 != 0), key
            if key in there:
                assert store.get(key)[0] == content(number), key
        assert len(done) > 100 and there <= {"k%d" % number for number in begun}
    finally:
        server.stop()


def test_many_wrong_signatures_block_source_ip(tmp_path):
    from virga import Server
    server = Server(tmp_path / "data", "buckets-" + uuid.uuid4().hex[:6], ("--network", "none", "--auth-failures", "1"))
    try:
        wrong = Cos(server, "x")
        wrong.client = cos_client(server, secret_key="wrong")
        codes = set()
        for _ in range(40):
            with pytest.raises(Refused) as error:
                wrong.list()
            codes.add(error.value.code)
        assert codes == {"SignatureDoesNotMatch", "SlowDown"}
    finally:
        server.stop()


def test_a_new_bucket_has_the_tags_of_its_document(server):
    client = s3_client(server)
    tags = [{"Key": "team", "Value": "rain & snow"}, {"Key": "cost", "Value": "1"}]
    client.create_bucket(Bucket="tagged-at-birth", CreateBucketConfiguration={"LocationConstraint": REGION, "Tags": tags})
    found = client.get_bucket_tagging(Bucket="tagged-at-birth")["TagSet"]
    assert sorted((one["Key"], one["Value"]) for one in found) == sorted((one["Key"], one["Value"]) for one in tags)
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        client.create_bucket(Bucket="tagged-badly", CreateBucketConfiguration={"Tags": [{"Key": "a", "Value": "1"}] * 2})
    assert refused.value.response["Error"]["Code"] == "InvalidTag"
