"""Bodies of buckets in signed chunks, whose signatures a client makes one by one"""

import hashlib
import hmac
import socket

import pytest

from test_heads import BUCKET, REGION, Sender, answer_of

KB, MB = 1 << 10, 1 << 20
SIGNED, UNSIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


def sha(data):
    return hashlib.sha256(data).hexdigest()


class Upload:
    """The head of an upload, and its chunks."""

    def __init__(self, sender, key, length, kind=SIGNED):
        self.sender = sender
        headers = {"x-amz-decoded-content-length": str(length)}
        if kind == UNSIGNED:
            headers["x-amz-trailer"] = "x-amz-checksum-crc32"
        self.method, self.path, self.headers = sender.v4("PUT", "/%s/%s" % (BUCKET, key), kind, headers=headers)
        self.previous = self.headers["authorization"].split("Signature=")[1]
        self.time = self.headers["x-amz-date"]
        self.scope = "%s/%s/s3/aws4_request" % (self.time[:8], REGION)

    def chunk(self, data):
        text = "\n".join(["AWS4-HMAC-SHA256-PAYLOAD", self.time, self.scope, self.previous, sha(b""), sha(data)])
        key = ("AWS4" + self.sender.key).encode()
        for part in self.scope.split("/"):
            key = hmac.new(key, part.encode(), "sha256").digest()
        self.previous = hmac.new(key, text.encode(), "sha256").hexdigest()
        return b"%x;chunk-signature=%s\r\n%s\r\n" % (len(data), self.previous.encode(), data)

    def open(self, length):
        """A connection on which the head was sent."""
        host, port = self.sender.host.split(":")
        connection = socket.create_connection((host, int(port)), timeout=60)
        lines = ["%s: %s" % one for one in self.headers.items()] + ["content-length: %d" % length, "connection: close"]
        connection.sendall(("%s %s HTTP/1.1\r\n%s\r\n\r\n" % (self.method, self.path, "\r\n".join(lines))).encode())
        return connection

    def send(self, body):
        with self.open(len(body)) as connection:
            connection.sendall(body)
            return answer_of(connection)


@pytest.fixture(scope="module")
def sender(server):
    sender = Sender(server)
    assert " 200 OK" in sender.answer(sender.cos("PUT", "/" + BUCKET), 0)
    return sender


def there(sender, key):
    return " 200 OK" in sender.answer(sender.v4("GET", "/%s/%s" % (BUCKET, key)), 0).split("\r\n")[0]


RAIN, SNOW = b"rain" * 20 * KB, b"snow" * 30 * KB


def test_signed_chunks_are_accepted(sender):
    upload = Upload(sender, "good", len(RAIN + SNOW))
    said = upload.send(upload.chunk(RAIN) + upload.chunk(SNOW) + upload.chunk(b""))
    assert " 200 OK" in said, said
    assert sha(RAIN + SNOW) == sha(body_of(sender, "good"))


def body_of(sender, key):
    method, path, headers = sender.v4("GET", "/%s/%s" % (BUCKET, key))
    host, port = sender.host.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        lines = ["%s: %s" % one for one in headers.items()] + ["connection: close"]
        connection.sendall(("%s %s HTTP/1.1\r\n%s\r\n\r\n" % (method, path, "\r\n".join(lines))).encode())
        said = b""
        for part in iter(lambda: connection.recv(65536), b""):
            said += part
    return said.partition(b"\r\n\r\n")[2]


def without_the_last(upload):
    return upload.chunk(RAIN) + upload.chunk(SNOW)


def without_the_second(upload):
    first = upload.chunk(RAIN)
    upload.chunk(SNOW)
    return first + upload.chunk(b"")


def exchanged(upload):
    first, second = upload.chunk(RAIN), upload.chunk(SNOW)
    return second + first + upload.chunk(b"")


def other_bytes(upload):
    return (upload.chunk(RAIN) + upload.chunk(SNOW) + upload.chunk(b"")).replace(b"snow", b"hail", 1)


def other_signature(upload):
    body = upload.chunk(RAIN) + upload.chunk(SNOW) + upload.chunk(b"")
    at = body.index(b"chunk-signature=") + 16
    return body[:at] + (b"0" if body[at:at + 1] != b"0" else b"1") + body[at + 1:]


def unsigned(upload):
    return b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(RAIN), RAIN, len(SNOW), SNOW)


def more_behind(upload):
    return upload.chunk(RAIN) + upload.chunk(SNOW) + upload.chunk(b"") + upload.chunk(RAIN)


CHANGES = [without_the_last, without_the_second, exchanged, other_bytes, other_signature, unsigned, more_behind]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_modified_chunks_create_no_object(sender, change):
    key = change.__name__
    upload = Upload(sender, key, len(RAIN + SNOW))
    said = upload.send(change(upload))
    assert "<Code>SignatureDoesNotMatch</Code>" in said or "<Code>IncompleteBody</Code>" in said, said
    assert not there(sender, key)


def resident(server):
    for line in open("/proc/%d/status" % server.process.pid):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * KB


def test_a_large_chunk_is_not_kept_in_memory(server, sender):
    """One that has signed could have the server hold a chunk of any size."""
    size = 512 * MB
    upload = Upload(sender, "large", size, UNSIGNED)
    before = resident(server)
    with upload.open(size + 100) as connection:
        connection.sendall(b"%x\r\n" % size)
        for _ in range(192):
            connection.sendall(b"x" * MB)
        assert resident(server) - before < 96 * MB
    assert not there(sender, "large")
