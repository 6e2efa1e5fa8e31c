//! A function that calls an action of virga's API with the credentials in its environment.

/// The function. Its event names the action, its fields and version, and an endpoint if it is not the usual one.
pub(crate) const CALLS: &str = r#"
import hashlib, hmac, json, os, time, urllib.request

def call(endpoint, action, fields, version):
    host = endpoint.split("//")[1]
    body = json.dumps(fields).encode()
    now = int(time.time())
    date = time.strftime("%Y-%m-%d", time.gmtime(now))
    digest = lambda data: hashlib.sha256(data).hexdigest()
    canonical = "POST\n/\n\ncontent-type:application/json\nhost:%s\n\ncontent-type;host\n%s" % (host, digest(body))
    scope = date + "/scf/tc3_request"
    key = ("TC3" + os.environ["TENCENTCLOUD_SECRETKEY"]).encode()
    for part in (date, "scf", "tc3_request", "TC3-HMAC-SHA256\n%d\n%s\n%s" % (now, scope, digest(canonical.encode()))):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    authorization = "TC3-HMAC-SHA256 Credential=%s/%s, SignedHeaders=content-type;host, Signature=%s" % (
        os.environ["TENCENTCLOUD_SECRETID"], scope, key.hex())
    headers = {"Content-Type": "application/json", "Host": host, "Authorization": authorization, "X-TC-Action": action,
               "X-TC-Version": version, "X-TC-Timestamp": str(now), "X-TC-Token": os.environ["TENCENTCLOUD_SESSIONTOKEN"]}
    request = urllib.request.Request(endpoint, body, headers)
    return json.loads(urllib.request.urlopen(request).read())["Response"]

def main_handler(event, context):
    if event.get("environment"):
        return {name: value for name, value in os.environ.items() if name.startswith("TENCENTCLOUD_SE")}
    endpoint = event.get("endpoint") or os.environ["VIRGA_ENDPOINT"]
    return call(endpoint, event["action"], event["fields"], event.get("version", "2018-04-16"))
"#;
