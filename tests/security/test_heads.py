"""Requests to buckets that are refused by their head: no byte of their body arrives, and none is requested"""

import base64
import datetime
import hashlib
import hmac
import socket
import time
from urllib.parse import quote

import pytest

REGION = "ap-guangzhou"
BUCKET = "heads-1250000000"
PRESENT, MISSING = "/%s/there" % BUCKET, "/missing-1250000000/there"


class Sender:
    """Signs heads of requests, and sends them without a body."""

    def __init__(self, server):
        self.server, self.host = server, server.buckets
        self.id, self.key = server.secret_id, server.secret_key

    def with_key(self, secret_id, secret_key):
        other = Sender(self.server)
        other.id, other.key = secret_id, secret_key
        return other

    def v4(self, method, path, sha="UNSIGNED-PAYLOAD", service="s3", age=0, headers=None):
        """Version 4 in the header."""
        now = datetime.datetime.utcfromtimestamp(time.time() - age)
        stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        headers = dict(headers or {}, **{"host": self.host, "x-amz-date": stamp, "x-amz-content-sha256": sha})
        names = ";".join(sorted(headers))
        path, _, query = path.partition("?")
        query = "&".join(sorted(part if "=" in part else part + "=" for part in query.split("&") if part))
        canonical = "\n".join([method, path, query, *("%s:%s" % one for one in sorted(headers.items())), "", names, sha])
        scope = "%s/%s/%s/aws4_request" % (day, REGION, service)
        text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = ("AWS4" + self.key).encode()
        for part in (day, REGION, service, "aws4_request"):
            key = hmac.new(key, part.encode(), "sha256").digest()
        signature = hmac.new(key, text.encode(), "sha256").hexdigest()
        headers["authorization"] = "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s" % (self.id, scope, names, signature)
        return method, path + ("?" + query if query else ""), headers

    def v2(self, method, path, age=-60):
        """Version 2 in the query."""
        end = str(int(time.time() - age))
        text = "%s\n\n\n%s\n%s" % (method, end, path)
        signature = base64.b64encode(hmac.new(self.key.encode(), text.encode(), "sha1").digest()).decode()
        return method, "%s?AWSAccessKeyId=%s&Expires=%s&Signature=%s" % (path, self.id, end, quote(signature, safe="")), {"host": self.host}

    def cos(self, method, path, age=0):
        """COS's in the header."""
        span = "%d;%d" % (time.time() - 60 - age, time.time() + 600 - age)
        path, _, query = path.partition("?")
        pairs = sorted((part.partition("=")[0], part.partition("=")[2]) for part in query.split("&") if part)
        params = "&".join("%s=%s" % pair for pair in pairs)
        request = "%s\n%s\n%s\nhost=%s\n" % (method.lower(), path, params, quote(self.host, safe=""))
        key = hmac.new(self.key.encode(), span.encode(), "sha1").hexdigest()
        text = "sha1\n%s\n%s\n" % (span, hashlib.sha1(request.encode()).hexdigest())
        signature = hmac.new(key.encode(), text.encode(), "sha1").hexdigest()
        words = "q-sign-algorithm=sha1&q-ak=%s&q-sign-time=%s&q-key-time=%s&q-header-list=host&q-url-param-list=%s&q-signature=%s"
        words %= (self.id, span, span, ";".join(name for name, _ in pairs), signature)
        return method, path + ("?" + query if query else ""), {"host": self.host, "authorization": words}

    def nobody(self, method, path, **headers):
        """Without a signature."""
        return method, path, dict({"host": self.host}, **headers)

    def answer(self, request, length, *more):
        """The answer to a head that declares this many bytes, of which none are sent."""
        method, path, headers = request
        lines = ["%s: %s" % one for one in headers.items()] + ["content-length: %d" % length, *more]
        host, port = self.host.split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(("%s %s HTTP/1.1\r\n%s\r\n\r\n" % (method, path, "\r\n".join(lines))).encode())
            return answer_of(connection)


def answer_of(connection):
    said = b""
    while b"\r\n\r\n" not in said or len(said.partition(b"\r\n\r\n")[2]) < announced(said):
        more = connection.recv(65536)
        assert more, said
        said += more
    return said.decode()


def announced(said):
    for line in said.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


@pytest.fixture(scope="module")
def sender(server):
    sender = Sender(server)
    method, path, headers = sender.cos("PUT", "/" + BUCKET)
    assert " 200 OK" in sender.answer((method, path, headers), 0)
    return sender


def forged(sender):
    return sender.with_key(sender.id, "x" * 32)


def stranger(sender):
    return sender.with_key("AKIDnobody0123456789", "x" * 32)


HASH = hashlib.sha256(b"rain").hexdigest()
CHUNKS = {"x-amz-decoded-content-length": "1000"}
TRAILS = dict(CHUNKS, **{"x-amz-trailer": "x-amz-checksum-crc32"})
OLD = 3600 * 24 * 30
GB = 1 << 30

# The request, the length of the body that never arrives, and the expected error code.
HEADS = {
    "version 4: a key that is not known": (lambda s: stranger(s).v4("PUT", PRESENT), 1000, "InvalidAccessKeyId"),
    "version 2: a key that is not known": (lambda s: stranger(s).v2("PUT", PRESENT), 1000, "InvalidAccessKeyId"),
    "COS: a key that is not known": (lambda s: stranger(s).cos("PUT", PRESENT), 1000, "InvalidAccessKeyId"),
    "version 4: an old date": (lambda s: s.v4("PUT", PRESENT, age=OLD), 1000, "RequestTimeTooSkewed"),
    "version 2: an old date": (lambda s: s.v2("PUT", PRESENT, age=OLD), 1000, "AccessDenied"),
    "COS: an old date": (lambda s: s.cos("PUT", PRESENT, age=OLD), 1000, "AccessDenied"),
    "version 4: a bad signature over a hash": (lambda s: forged(s).v4("PUT", PRESENT, HASH), 4, "SignatureDoesNotMatch"),
    "version 4: a bad signature over no body": (lambda s: forged(s).v4("PUT", PRESENT), GB, "SignatureDoesNotMatch"),
    "version 4: a bad signature over chunks": (
        lambda s: forged(s).v4("PUT", PRESENT, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", headers=CHUNKS), 2000, "SignatureDoesNotMatch"),
    "version 4: a bad signature over chunks and trailers": (
        lambda s: forged(s).v4("PUT", PRESENT, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", headers=TRAILS), 2000, "SignatureDoesNotMatch"),
    "version 4: a bad signature over unsigned chunks": (
        lambda s: forged(s).v4("PUT", PRESENT, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", headers=TRAILS), 2000, "SignatureDoesNotMatch"),
    "version 4: a bad signature of a document": (lambda s: forged(s).v4("POST", "/%s?delete" % BUCKET, HASH), 1000, "SignatureDoesNotMatch"),
    "version 2: a bad signature": (lambda s: forged(s).v2("PUT", PRESENT), GB, "SignatureDoesNotMatch"),
    "COS: a bad signature": (lambda s: forged(s).cos("PUT", PRESENT), GB, "SignatureDoesNotMatch"),
    "COS: a bad signature of a document": (lambda s: forged(s).cos("POST", PRESENT + "?restore"), 1000, "SignatureDoesNotMatch"),
    "version 4: for another service": (lambda s: forged(s).v4("PUT", PRESENT, service="sts"), 1000, "AuthorizationHeaderMalformed"),
    "version 4: for another service, its hash left out": (
        lambda s: without(s.v4("PUT", PRESENT, service="sts"), "x-amz-content-sha256"), 1000, "AuthorizationHeaderMalformed"),
    "version 2 in the header": (lambda s: s.nobody("PUT", PRESENT, authorization="AWS a:b"), 1000, "InvalidRequest"),
    "two signatures": (lambda s: s.nobody("PUT", PRESENT + "?X-Amz-Signature=a&Signature=b"), 1000, "InvalidArgument"),
    "an object that is too long": (lambda s: s.v4("PUT", PRESENT), 6 * GB, "EntityTooLarge"),
    "a part that is too long": (lambda s: s.v4("PUT", PRESENT + "?partNumber=1&uploadId=a"), 6 * GB, "EntityTooLarge"),
    "COS: an object that is too long": (lambda s: s.cos("PUT", PRESENT), 6 * GB, "EntityTooLarge"),
    "COS: an append that is too long": (lambda s: s.cos("POST", PRESENT + "?append&position=0"), 6 * GB, "EntityTooLarge"),
    "a document that is too long": (lambda s: s.v4("POST", "/%s?delete" % BUCKET), 5 << 20, "MaxMessageLengthExceeded"),
    "tags that are too long": (lambda s: s.v4("PUT", PRESENT + "?tagging"), 5 << 20, "MaxMessageLengthExceeded"),
    "a form that is too long": (
        lambda s: s.nobody("POST", "/" + BUCKET, **{"content-type": "multipart/form-data; boundary=b"}), 6 * GB, "EntityTooLarge"),
    "a form without a boundary": (
        lambda s: s.nobody("POST", "/" + BUCKET, **{"content-type": "multipart/form-data"}), 1000, "MalformedPOSTRequest"),
    "a bucket that there is not": (lambda s: s.v4("PUT", MISSING), 1000, "NoSuchBucket"),
    "COS: a bucket that there is not": (lambda s: s.cos("PUT", MISSING), 1000, "NoSuchBucket"),
    "nobody's object in a private bucket": (lambda s: s.nobody("PUT", PRESENT), 1000, "AccessDenied"),
    "nobody's document for objects of a private bucket": (lambda s: s.nobody("POST", "/%s?delete" % BUCKET), 1000, "AccessDenied"),
    "nobody's document for an object": (lambda s: s.nobody("POST", PRESENT + "?restore"), 1000, "AccessDenied"),
    "COS: nobody's document for an object": (
        lambda s: s.nobody("POST", PRESENT + "?restore", **{"x-cos-meta-a": "1"}), 1000, "AccessDenied"),
    "nobody's append": (lambda s: s.nobody("POST", PRESENT + "?append&position=0", **{"x-cos-acl": "private"}), 1000, "AccessDenied"),
}


def without(request, name):
    method, path, headers = request
    return method, path, {have: value for have, value in headers.items() if have != name}


@pytest.mark.parametrize("case", HEADS, ids=str)
def test_invalid_request_is_refused_by_its_head(sender, case):
    make, length, code = HEADS[case]
    for more in ([], ["expect: 100-continue"]):
        said = sender.answer(make(sender), length, *more)
        code_of_cos = {"MaxMessageLengthExceeded": "EntityTooLarge"}.get(code, code)
        assert "<Code>%s</Code>" % code in said or "<Code>%s</Code>" % code_of_cos in said, said
        assert " 100 " not in said.split("\r\n")[0], said


def test_valid_head_gets_100_continue(sender):
    for request in (sender.v4("PUT", PRESENT), sender.cos("PUT", PRESENT)):
        method, path, headers = request
        lines = ["%s: %s" % one for one in headers.items()] + ["content-length: 4", "expect: 100-continue", "connection: close"]
        host, port = sender.host.split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(("%s %s HTTP/1.1\r\n%s\r\n\r\n" % (method, path, "\r\n".join(lines))).encode())
            assert connection.recv(25).startswith(b"HTTP/1.1 100 ")
            connection.sendall(b"rain")
            assert " 200 OK" in answer_of(connection)


FRONTS = {
    "a preamble": b"x" * 65536,
    "the head of a field": b"--b\r\nContent-Disposition: form-data; name=\"a\"\r\nX-Long: " + b"x" * 65536,
    "many fields": b"".join(b"--b\r\nContent-Disposition: form-data; name=\"f%d\"\r\n\r\n%s\r\n" % (n, b"x" * 60000) for n in range(5)),
}


@pytest.mark.parametrize("case", FRONTS, ids=str)
def test_form_with_unterminated_fields_is_refused(sender, case):
    """A form of nobody's is not read on where its fields do not end."""
    host, port = sender.host.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = "POST /%s HTTP/1.1\r\nhost: %s\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: %d\r\n\r\n"
        connection.sendall((head % (BUCKET, sender.host, GB)).encode())
        # As much as may be, and no more: the answer comes before the rest.
        connection.sendall((FRONTS[case] + b"x" * 200000)[:300000])
        said = answer_of(connection)
    assert "<Code>InvalidArgument</Code>" in said and "in front of its file" in said, said


def test_repeated_auth_failures_block_source_ip_except_its_good_keys(server, sender):
    """A caller that shares an address with a failing one is served."""
    assert " 200 OK" in sender.answer(sender.v4("GET", "/"), 0)
    for _ in range(2000):
        if "<Code>SlowDown</Code>" in sender.answer(stranger(sender).v4("PUT", PRESENT), 1000):
            break
    else:
        pytest.fail("the address is never blocked")
    assert "<Code>SlowDown</Code>" in sender.answer(sender.nobody("PUT", PRESENT), 1000)
    for request in (sender.v4("GET", "/"), sender.cos("GET", "/")):
        assert " 200 OK" in sender.answer(request, 0)
