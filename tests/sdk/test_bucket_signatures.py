"""A signed bucket request or URL permits exactly the signed operation: for each kind of signature,
in each place, by S3's API and by COS's."""

import base64
import email.utils
import hashlib
import hmac
import itertools
import json
import time
from urllib.parse import unquote

import boto3
import pytest
import requests
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.client import Config
from botocore.credentials import Credentials

from bucket_clients import REGION, Cos, S3, s3_client

NUMBERS = itertools.count()


@pytest.fixture
def s3(server):
    """A bucket with a secret beside the signed object."""
    return filled(S3(server, "signed-%d" % next(NUMBERS)))


@pytest.fixture
def cos(server):
    return filled(Cos(server, "signed-%d" % next(NUMBERS)))


def filled(store):
    store.create()
    store.put("secret", b"secret")
    store.put("mine", b"mine")
    return store


def refused(answer, status, code, named=""):
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert "<Code>%s</Code>" % code in answer.text and named in answer.text, answer.text


def untouched(store, *keys):
    """Nothing was copied, and nothing opened."""
    keys = keys or ("mine",)
    for key in keys:
        if key in store.list()[0]:
            assert store.get(key)[0] != b"secret"
            assert store.anonymously("GET", key).status_code == 403


# S3's version 4.

S3_HEADERS = [
    {"x-amz-copy-source": "{bucket}/secret"},
    {"x-amz-acl": "public-read"},
    {"x-amz-grant-read": 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'},
    {"x-amz-tagging": "a=1"},
    {"x-amz-storage-class": "GLACIER"},
    {"x-amz-meta-a": "1"},
    {"x-amz-website-redirect-location": "http://a.example/"},
    {"x-amz-date": "20300101T000000Z"},
    {"X-AMZ-Acl": "public-read", "Content-Type": "text/plain"},
]


@pytest.mark.parametrize("headers", S3_HEADERS, ids=lambda headers: next(iter(headers)))
def test_version_4_url_with_unsigned_header_is_refused(s3, headers):
    url = s3.url("PUT", "mine")[0]
    headers = {name: value.format(bucket=s3.bucket) for name, value in headers.items()}
    refused(requests.put(url, data=b"taken", headers=headers), 403, "AccessDenied", next(iter(headers)).lower())
    assert s3.get("mine")[0] == b"mine"
    untouched(s3)


def authorized(store, method, path, body=b"", headers=None, later=None, version=S3SigV4Auth):
    """A request signed by version 4, with headers that were added `later`."""
    request = AWSRequest(method, "http://%s%s" % (store.server.buckets, path), data=body, headers=dict(headers or {}))
    request.context["payload_signing_enabled"] = True
    version(Credentials(store.server.secret_id, store.server.secret_key), "s3", REGION).add_auth(request)
    prepared = request.prepare()
    return requests.request(method, prepared.url, data=body, headers=dict(dict(prepared.headers), **(later or {})))


@pytest.mark.parametrize("headers", [*S3_HEADERS[:-2], {"Content-MD5": base64.b64encode(hashlib.md5(b"mine").digest()).decode()}],
                         ids=lambda headers: next(iter(headers)))
def test_version_4_request_with_unsigned_header_is_refused(s3, headers):
    headers = {name: value.format(bucket=s3.bucket) for name, value in headers.items()}
    answer = authorized(s3, "PUT", "/%s/mine" % s3.bucket, b"mine", later=headers)
    refused(answer, 403, "AccessDenied", next(iter(headers)).lower())
    untouched(s3)
    # The same headers, signed, are obeyed or refused by name.
    assert authorized(s3, "PUT", "/%s/new" % s3.bucket, b"mine", headers=headers).status_code in (200, 400, 501)


def test_second_value_of_a_signed_header_is_refused(s3):
    answer = authorized(s3, "PUT", "/%s/mine" % s3.bucket, b"mine", headers={"x-amz-acl": "private"}, later={"x-amz-acl": "private, public-read"})
    refused(answer, 403, "SignatureDoesNotMatch")
    untouched(s3)


def test_the_host_is_signed_by_version_4(s3):
    class WithoutHost(S3SigV4Auth):
        def headers_to_sign(self, request):
            headers = super().headers_to_sign(request)
            del headers["host"]
            return headers

    refused(authorized(s3, "GET", "/%s/mine" % s3.bucket, version=WithoutHost), 403, "AccessDenied", "host")


@pytest.mark.parametrize("more", ["&acl", "&versionId=null", "&uploads", "&x-amz-acl=public-read", "&response-content-type=text%2Fhtml", "&tagging"])
def test_the_query_is_signed_whole_by_version_4(s3, more):
    for method in ("GET", "PUT"):
        url = s3.url(method, "mine")[0]
        refused(requests.request(method, url + more), 403, "SignatureDoesNotMatch")


def test_signed_headers_take_effect(s3):
    fields = {"Bucket": s3.bucket, "Key": "named", "Metadata": {"a": "1"}, "ACL": "public-read"}
    url = s3.client.generate_presigned_url("put_object", Params=fields)
    assert requests.put(url, data=b"rain", headers={"x-amz-meta-a": "1", "x-amz-acl": "public-read"}).status_code == 200
    assert s3.head("named")["meta"] == {"a": "1"} and s3.anonymously("GET", "named").content == b"rain"
    copy = s3.client.generate_presigned_url("copy_object", Params={"Bucket": s3.bucket, "Key": "copy", "CopySource": s3.bucket + "/secret"})
    assert requests.put(copy, headers={"x-amz-copy-source": s3.bucket + "/secret"}).status_code == 200
    assert s3.get("copy")[0] == b"secret"
    # A body may be announced to be compared, which changes nothing else.
    url = s3.url("PUT", "mine")[0]
    right, wrong = hashlib.sha256(b"rain").hexdigest(), hashlib.sha256(b"snow").hexdigest()
    assert requests.put(url, data=b"rain", headers={"x-amz-content-sha256": wrong}).status_code == 400
    assert requests.put(url, data=b"rain", headers={"x-amz-content-sha256": right}).status_code == 200


def test_headers_that_a_client_signs_in_the_query_are_headers(s3):
    """As AWS's JavaScript SDK makes URLs."""
    query = "x-amz-acl=public-read&x-amz-meta-a=1&x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32&x-id=PutObject"
    request = AWSRequest("PUT", "http://%s/%s/hoisted?%s" % (s3.server.buckets, s3.bucket, query))
    S3SigV4QueryAuth(Credentials(s3.server.secret_id, s3.server.secret_key), "s3", REGION, expires=60).add_auth(request)
    assert requests.put(request.url, data=b"rain").status_code == 200
    assert s3.head("hoisted")["meta"] == {"a": "1"} and s3.anonymously("GET", "hoisted").content == b"rain"
    refused(requests.put(request.url, data=b"rain", headers={"x-amz-acl": "private"}), 403, "AccessDenied", "x-amz-acl")


def test_date_header_alone_is_accepted(s3):
    for at, served in ((time.time(), True), (time.time() - 3600, False)):
        now = time.gmtime(at)
        for date in (None, time.strftime("%Y%m%dT%H%M%SZ", now)):
            assert (dated(s3, now, date).status_code == 200) == served
    assert dated(s3, time.gmtime(), "yesterday").status_code == 403


def dated(store, now, date=None):
    """A request that has no x-amz-date."""
    stamp, day = time.strftime("%Y%m%dT%H%M%SZ", now), time.strftime("%Y%m%d", now)
    headers = {"date": date or time.strftime("%a, %d %b %Y %H:%M:%S GMT", now), "host": store.server.buckets,
               "x-amz-content-sha256": hashlib.sha256(b"").hexdigest()}
    names = ";".join(sorted(headers))
    canonical = "\n".join(["GET", "/%s/mine" % store.bucket, "", *("%s:%s" % one for one in sorted(headers.items())), "", names,
                           headers["x-amz-content-sha256"]])
    scope = "%s/%s/s3/aws4_request" % (day, REGION)
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + store.server.secret_key).encode()
    for part in (day, REGION, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    headers["Authorization"] = "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s" % (
        store.server.secret_id, scope, names, hmac.new(key, text.encode(), "sha256").hexdigest())
    return requests.get("http://%s/%s/mine" % (store.server.buckets, store.bucket), headers=headers)


def test_a_request_has_one_signature(s3, cos):
    url = s3.url("GET", "mine")[0]
    for more in ("&Signature=a", "&q-sign-algorithm=sha1&q-ak=a&q-signature=b"):
        refused(requests.get(url + more), 400, "InvalidArgument", "more than one signature")
    refused(requests.get(url, headers={"Authorization": "AWS a:b"}), 400, "InvalidArgument", "more than one signature")
    url, headers = cos_url(cos, "GET", "mine")
    refused(requests.get(url + "&X-Amz-Signature=a", headers=headers), 400, "InvalidArgument", "more than one signature")


# S3's version 2.


def old(server, **more):
    """boto3 as it is in us-east-1, where it makes URLs and forms by version 2."""
    return boto3.client("s3", endpoint_url="http://" + server.buckets, region_name="us-east-1", aws_access_key_id=server.secret_id,
                        aws_secret_access_key=server.secret_key, config=Config(s3={"addressing_style": "path"}, **more))


def test_urls_of_version_2_are_served(server, s3):
    client = old(server)
    url = client.generate_presigned_url("put_object", Params={"Bucket": s3.bucket, "Key": "a b", "ContentType": "text/x-rain",
                                                              "Metadata": {"a": "1"}, "ACL": "public-read"})
    assert "AWSAccessKeyId=" in url and "X-Amz" not in url
    answer = requests.put(url, data=b"rain", headers={"Content-Type": "text/x-rain"})
    assert answer.status_code == 200, answer.text
    head = s3.head("a b")
    assert head["meta"] == {"a": "1"} and head["content-type"] == "text/x-rain" and s3.anonymously("GET", "a%20b").content == b"rain"
    url = client.generate_presigned_url("get_object", Params={"Bucket": s3.bucket, "Key": "mine", "ResponseContentType": "text/x-a b"})
    answer = requests.get(url)
    assert (answer.status_code, answer.content, answer.headers["Content-Type"]) == (200, b"mine", "text/x-a b")
    url = client.generate_presigned_url("head_object", Params={"Bucket": s3.bucket, "Key": "mine"})
    assert requests.head(url).status_code == 200 and requests.get(url).status_code == 403
    url = client.generate_presigned_url("delete_object", Params={"Bucket": s3.bucket, "Key": "mine"})
    assert requests.delete(url).status_code == 204 and "mine" not in s3.list()[0]


@pytest.mark.parametrize("headers", [*S3_HEADERS[:-1], {"Content-MD5": base64.b64encode(hashlib.md5(b"taken").digest()).decode()},
                                     {"Content-Type": "text/html"}], ids=lambda headers: next(iter(headers)))
def test_version_2_url_with_unsigned_header_is_refused(server, s3, headers):
    url = old(server).generate_presigned_url("put_object", Params={"Bucket": s3.bucket, "Key": "mine"})
    headers = {name: value.format(bucket=s3.bucket) for name, value in headers.items()}
    refused(requests.put(url, data=b"taken", headers=headers), 403, "SignatureDoesNotMatch")
    assert s3.get("mine")[0] == b"mine"


@pytest.mark.parametrize("more, status, code", [
    ("&acl", 403, "SignatureDoesNotMatch"), ("&versionId=null", 403, "SignatureDoesNotMatch"), ("&tagging", 403, "SignatureDoesNotMatch"),
    ("&x-amz-acl=public-read", 403, "SignatureDoesNotMatch"), ("&x-amz-copy-source=a/b", 403, "SignatureDoesNotMatch"),
    ("&attributes", 403, "AccessDenied"), ("&retention", 403, "AccessDenied"), ("&encryption", 403, "AccessDenied"),
    ("&Expires=9999999999", 400, "InvalidArgument"), ("&Signature=a", 400, "InvalidArgument")])
def test_version_2_url_with_unsigned_parameter_is_refused(server, s3, more, status, code):
    for operation, method in (("get_object", "GET"), ("put_object", "PUT")):
        url = old(server).generate_presigned_url(operation, Params={"Bucket": s3.bucket, "Key": "mine"})
        refused(requests.request(method, url + more), status, code)
    assert s3.get("mine")[0] == b"mine"


def test_version_2_url_expires_and_permits_one_request(server, s3):
    client = old(server)
    fields = {"Bucket": s3.bucket, "Key": "mine"}
    refused(requests.get(client.generate_presigned_url("get_object", Params=fields, ExpiresIn=-5)), 403, "AccessDenied", "expired")
    url = client.generate_presigned_url("get_object", Params=fields)
    end = unquote(url.split("Expires=")[1].split("&")[0])
    refused(requests.get(url.replace("Expires=" + end, "Expires=%d" % (int(end) + 1))), 403, "SignatureDoesNotMatch")
    refused(requests.get(url.replace("/mine", "/secret")), 403, "SignatureDoesNotMatch")
    refused(requests.put(url, data=b"1"), 403, "SignatureDoesNotMatch")
    refused(requests.get(url.replace("AWSAccessKeyId=", "AWSAccessKeyId=x")), 403, "InvalidAccessKeyId")
    refused(requests.get(url.replace("Expires=" + end, "")), 400, "InvalidArgument", "Expires")


def test_parameters_that_version_2_cannot_sign_are_refused_by_name(server, s3):
    url = old(server).generate_presigned_url("list_objects", Params={"Bucket": s3.bucket, "Prefix": "m"})
    refused(requests.get(url), 403, "AccessDenied", "prefix")
    client = old(server, signature_version="s3")
    with pytest.raises(Exception) as error:
        client.get_object(Bucket=s3.bucket, Key="mine")
    assert error.value.response["Error"]["Code"] == "InvalidRequest" and "version 4" in str(error.value)
    # Of any age, with any body: not even one that was signed this moment.
    date = email.utils.formatdate(usegmt=True)
    for date in (date, "Thu, 01 Jan 2015 00:00:00 GMT"):
        text = "PUT\n\n\n%s\n/%s/mine" % (date, s3.bucket)
        signature = base64.b64encode(hmac.new(server.secret_key.encode(), text.encode(), "sha1").digest()).decode()
        headers = {"Date": date, "Authorization": "AWS %s:%s" % (server.secret_id, signature)}
        refused(requests.put("http://%s/%s/mine" % (server.buckets, s3.bucket), data=b"taken", headers=headers), 400, "InvalidRequest", "version 4")
    assert s3.get("mine")[0] == b"mine"


def post(form, **changes):
    return requests.post(form["url"], data=dict(form["fields"], **changes), files={"file": ("rain.txt", b"rain")})


@pytest.mark.parametrize("make", [old, s3_client], ids=["version 2", "version 4"])
def test_form_fields_in_policy_take_effect(server, s3, make):
    client = make(server)
    form = client.generate_presigned_post(s3.bucket, "up/${filename}", ExpiresIn=60)
    assert ("signature" in form["fields"]) == (make is old)
    assert post(form).status_code == 204 and s3.get("up/rain.txt")[0] == b"rain"
    for changes in ({"acl": "public-read"}, {"x-amz-meta-a": "1"}, {"x-amz-tagging": "a"}, {"tagging": "a"}, {"Content-Type": "text/html"},
                    {"x-cos-acl": "public-read"}, {"success_action_redirect": "http://a.example/"}, {"key": "mine"}):
        refused(post(form, **changes), 403, "AccessDenied")
    signature = "signature" if make is old else "x-amz-signature"
    refused(post(form, **{signature: "A" * len(form["fields"][signature])}), 403, "SignatureDoesNotMatch")
    refused(post(client.generate_presigned_post(s3.bucket, "k", ExpiresIn=-60)), 403, "AccessDenied", "expired")
    another = S3(server, "another-%d" % next(NUMBERS))
    another.create()
    refused(post(dict(form, url=form["url"].replace(s3.bucket, another.bucket))), 403, "AccessDenied")
    assert another.list()[0] == [] and s3.get("mine")[0] == b"mine"


@pytest.mark.parametrize("lacks", ["bucket", "key"])
def test_form_policy_limits_bucket_and_keys(server, s3, lacks):
    conditions = {"bucket": {"bucket": s3.bucket}, "key": ["starts-with", "$key", ""]}
    del conditions[lacks]
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60))
    policy = base64.b64encode(json.dumps({"expiration": end, "conditions": list(conditions.values())}).encode())
    signature = base64.b64encode(hmac.new(server.secret_key.encode(), policy, "sha1").digest())
    form = {"url": "http://%s/%s" % (server.buckets, s3.bucket),
            "fields": {"key": "k", "AWSAccessKeyId": server.secret_id, "policy": policy, "signature": signature}}
    refused(post(form), 403, "AccessDenied", lacks)


# COS's.


def cos_url(cos, method, key, host=None, headers=None, params=None):
    """A URL and the headers with which it finds this server."""
    signed = {"Host": host or "%s.cos.%s.myqcloud.com" % (cos.bucket, REGION), **(headers or {})}
    # The client writes the signature into the headers that it is given, too.
    return cos.client.get_presigned_url(Bucket=cos.bucket, Key=key, Method=method, Headers=dict(signed), Params=params or {}), signed


COS_HEADERS = [
    {"x-cos-copy-source": "{bucket}.cos.%s.myqcloud.com/secret" % REGION},
    {"x-amz-copy-source": "/{bucket}/secret"},
    {"x-cos-acl": "public-read"},
    {"x-amz-acl": "public-read"},
    {"x-cos-grant-read": 'id="qcs::cam::anyone:anyone"'},
    {"x-cos-storage-class": "ARCHIVE"},
    {"x-cos-tagging": "a=1"},
    {"x-cos-meta-a": "1"},
    {"x-cos-forbid-overwrite": "true"},
]


@pytest.mark.parametrize("headers", COS_HEADERS, ids=lambda headers: next(iter(headers)))
def test_cos_url_with_unsigned_header_is_refused(cos, headers):
    url, signed = cos_url(cos, "PUT", "mine")
    headers = {name: value.format(bucket=cos.bucket) for name, value in headers.items()}
    refused(requests.put(url, data=b"taken", headers=dict(signed, **headers)), 403, "AccessDenied", next(iter(headers)))
    assert cos.get("mine")[0] == b"mine"
    untouched(cos)


@pytest.mark.parametrize("headers", COS_HEADERS, ids=lambda headers: next(iter(headers)))
def test_cos_request_with_unsigned_header_is_refused(cos, headers):
    host = "%s.cos.%s.myqcloud.com" % (cos.bucket, REGION)
    authorization = cos.client.get_auth(Method="PUT", Bucket=cos.bucket, Key="mine", Headers={"Host": host})
    headers = {name: value.format(bucket=cos.bucket) for name, value in headers.items()}
    answer = requests.put("http://%s/mine" % cos.server.buckets, data=b"taken",
                          headers=dict(headers, Host=host, Authorization=authorization))
    refused(answer, 403, "AccessDenied", next(iter(headers)))
    untouched(cos)


@pytest.mark.parametrize("more", ["&acl", "&ACL", "&uploads", "&delete", "&tagging", "&versionId=null", "&versioning", "&append&position=0",
                                  "&response-content-type=text%2Fhtml", "&%61cl", "&partNumber=1&uploadId=a", "&prefix=a", "&restore"])
def test_cos_url_with_unsigned_parameter_is_refused(cos, more):
    for method in ("GET", "PUT", "POST", "DELETE"):
        url, signed = cos_url(cos, method, "mine")
        refused(requests.request(method, url + more, headers=signed), 403, "AccessDenied", "parameter")
    assert cos.get("mine")[0] == b"mine"


def test_a_signed_parameter_of_cos_has_one_value(cos):
    cos.keep_versions()
    cos.put("mine", b"new")
    url, signed = cos_url(cos, "GET", "mine", params={"versionId": "null"})
    assert requests.get(url, headers=signed).content == b"mine"
    for place, more in ((1, "&versionid=x"), (0, "VERSIONID=null&versionId=x&")):
        changed = url + more if place else url.replace("?", "?" + more)
        refused(requests.get(changed, headers=signed), 400, "InvalidArgument", "twice")


def test_the_host_is_signed_at_cos(server, cos):
    """Without a signed host, a signature for a key in one bucket would be valid for that key in every bucket."""
    another = filled(Cos(server, "signed-%d" % next(NUMBERS)))
    url = cos.client.get_presigned_url(Bucket=cos.bucket, Key="secret", Method="GET", SignHost=False)
    for bucket in (another.bucket, cos.bucket):
        refused(requests.get(url, headers={"Host": "%s.cos.%s.myqcloud.com" % (bucket, REGION)}), 403, "AccessDenied", "host")
    url, signed = cos_url(cos, "GET", "secret")
    assert requests.get(url, headers=signed).status_code == 200
    refused(requests.get(url, headers={"Host": "%s.cos.%s.myqcloud.com" % (another.bucket, REGION)}), 403, "SignatureDoesNotMatch")


def test_signed_cos_headers_take_effect(cos):
    url, signed = cos_url(cos, "PUT", "named", headers={"x-cos-acl": "public-read", "x-cos-meta-a": "1"})
    assert requests.put(url, data=b"rain", headers=dict(signed, **{"Content-Type": "text/x-rain"})).status_code == 200
    assert cos.head("named")["meta"] == {"a": "1"} and cos.anonymously("GET", "named").content == b"rain"
    url, signed = cos_url(cos, "GET", "mine", params={"response-content-type": "text/x-rain"})
    assert requests.get(url, headers=signed).headers["Content-Type"] == "text/x-rain"
    assert requests.get(url, headers=dict(signed, Range="bytes=0-1")).content == b"mi"


def cos_form(server, *conditions, **fields):
    start = int(time.time())
    span = "%d;%d" % (start - 60, start + 600)
    end = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(start + 600))
    document = {"expiration": end, "conditions": [*conditions, {"q-sign-algorithm": "sha1"}, {"q-ak": server.secret_id}, {"q-sign-time": span}]}
    text = json.dumps(document).encode()
    key = hmac.new(server.secret_key.encode(), span.encode(), "sha1").hexdigest()
    signature = hmac.new(key.encode(), hashlib.sha1(text).hexdigest().encode(), "sha1").hexdigest()
    return dict(fields, **{"policy": base64.b64encode(text).decode(), "q-sign-algorithm": "sha1", "q-ak": server.secret_id, "q-key-time": span,
                           "q-sign-time": span, "q-signature": signature})


def send(cos, fields):
    host = "%s.cos.%s.myqcloud.com" % (cos.bucket, REGION)
    return requests.post("http://%s/" % cos.server.buckets, headers={"Host": host}, data=fields, files={"file": ("rain.txt", b"rain")})


def test_cos_form_fields_in_policy_take_effect(server, cos):
    named = ({"bucket": cos.bucket}, {"key": "k"})
    assert send(cos, cos_form(server, *named, key="k", **{"success_action_status": "200", "Content-Type": "text/plain"})).status_code == 200
    for name in ("acl", "x-cos-acl", "x-amz-acl", "x-cos-storage-class", "x-cos-meta-a", "x-cos-tagging"):
        refused(send(cos, cos_form(server, *named, key="k", **{name: "public-read"})), 403, "AccessDenied", name)
    refused(send(cos, cos_form(server, {"key": "k"}, key="k")), 403, "AccessDenied", "bucket")
    refused(send(cos, cos_form(server, {"bucket": cos.bucket}, key="k")), 403, "AccessDenied", "key")
    assert send(cos, cos_form(server, *named, {"acl": "public-read"}, key="k", acl="public-read")).status_code == 204
    assert cos.anonymously("GET", "k").content == b"rain"
