"""A minimal API client: signs with TC3 and reuses its connection."""

import hashlib
import hmac
import http.client
import json
import time


class Client:
    def __init__(self, address, secret_id, secret_key):
        self.address, self.secret_id, self.secret_key = address, secret_id, secret_key
        self.connection = http.client.HTTPConnection(address, timeout=60)

    def signed(self, action, request):
        """Returns the headers and body of a signed request."""
        body = json.dumps(request)
        now = int(time.time())
        date = time.strftime("%Y-%m-%d", time.gmtime(now))
        digest = hashlib.sha256(body.encode()).hexdigest()
        canonical = "POST\n/\n\ncontent-type:application/json\nhost:%s\n\ncontent-type;host\n%s" % (self.address, digest)
        scope = "%s/scf/tc3_request" % date
        text = "TC3-HMAC-SHA256\n%d\n%s\n%s" % (now, scope, hashlib.sha256(canonical.encode()).hexdigest())
        key = ("TC3" + self.secret_key).encode()
        for part in (date, "scf", "tc3_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        credential = "TC3-HMAC-SHA256 Credential=%s/%s, SignedHeaders=content-type;host, Signature=%s"
        headers = {
            "Host": self.address,
            "Content-Type": "application/json",
            "Authorization": credential % (self.secret_id, scope, signature),
            "X-TC-Action": action,
            "X-TC-Version": "2018-04-16",
            "X-TC-Timestamp": str(now),
        }
        return headers, body

    def send(self, headers, body):
        self.connection.request("POST", "/", body, headers)
        return self.connection.getresponse().read()

    def call(self, action, request):
        response = json.loads(self.send(*self.signed(action, request)))["Response"]
        if "Error" in response:
            raise RuntimeError("%s: %s" % (action, response["Error"]))
        return response
