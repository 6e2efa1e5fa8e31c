//! A client of the API: signed JSON calls with TC3, and raw HTTP requests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use scf::SecretKey;
use scf::tc3::{self, ToSign};
use serde_json::{Value, json};

/// A client of a server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    agent: ureq::Agent,
    /// `http://host:port`.
    pub endpoint: String,
    /// Secret id for signatures.
    pub id: String,
    /// Secret key for signatures.
    pub key: SecretKey,
}

/// An error of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// Error code.
    pub code: String,
    /// Message.
    pub message: String,
}

/// Version of the operator's API.
pub const OPERATOR_VERSION: &str = "virga-1";
/// Service in the credential scope of the operator's API.
pub const OPERATOR_SERVICE: &str = "virga_operator";
/// Headers that are signed if they are sent.
const SIGNED: &[&str] = &[
    "X-TC-Action",
    "X-TC-Nonce",
    "X-TC-Region",
    "X-TC-Timestamp",
    "X-TC-Token",
    "X-TC-Version",
];

/// An HTTP response.
#[derive(Clone, Debug)]
pub struct HttpResponse {
    /// Status code.
    pub status: u16,
    /// Content type, including parameters.
    pub content_type: String,
    /// Body.
    pub body: Vec<u8>,
}

impl HttpResponse {
    /// Parses the body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// Creates an HTTP client for a server on this host.
pub(crate) fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .proxy(None)
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(120)));
    config.build().into()
}

impl Client {
    /// Creates a client for an endpoint.
    pub fn new(endpoint: &str, id: &str, key: &str) -> Self {
        Self {
            agent: agent(),
            endpoint: endpoint.to_owned(),
            id: id.to_owned(),
            key: SecretKey::new(key),
        }
    }

    /// Calls an action.
    ///
    /// # Errors
    /// The error of the API.
    pub fn call(&self, action: &str, request: &Value) -> Result<Value, ApiError> {
        let answer = self.attempt(action, request);
        answer.unwrap_or_else(|| panic!("{action} {request}: no answer"))
    }

    /// Calls an action of a server that may exit; returns `None` without a complete response.
    pub fn attempt(&self, action: &str, request: &Value) -> Option<Result<Value, ApiError>> {
        let answer = self.try_post(action, request.to_string().as_bytes(), now(), &[])?;
        Some(Self::read(answer))
    }

    fn read(answer: HttpResponse) -> Result<Value, ApiError> {
        assert_eq!(
            (answer.status, answer.content_type.as_str()),
            (200, "application/json")
        );
        let response = answer.json()["Response"].take();
        assert!(response["RequestId"].is_string(), "{response}");
        match response.get("Error") {
            None => Ok(response),
            Some(error) => Err(ApiError {
                code: text(&error["Code"]),
                message: text(&error["Message"]),
            }),
        }
    }

    /// Returns a client with another key.
    pub fn with_key(&self, id: &str, key: &str) -> Self {
        Self {
            id: id.to_owned(),
            key: SecretKey::new(key),
            ..self.clone()
        }
    }

    /// Returns a client with the key in a response.
    pub fn with_new_key(&self, answer: &Value) -> Self {
        self.with_key(&text(&answer["SecretId"]), &text(&answer["SecretKey"]))
    }

    /// Calls an action of the operator's API.
    ///
    /// # Errors
    /// The error of the API.
    pub fn operate(&self, action: &str, request: &Value) -> Result<Value, ApiError> {
        let version = [("X-TC-Version", OPERATOR_VERSION)];
        Self::read(self.post(action, request.to_string().as_bytes(), now(), &version))
    }

    /// Calls an operator action of a server that may exit; returns `None` without a complete response.
    pub fn attempt_operate(
        &self,
        action: &str,
        request: &Value,
    ) -> Option<Result<Value, ApiError>> {
        let version = [("X-TC-Version", OPERATOR_VERSION)];
        let answer = self.try_post(action, request.to_string().as_bytes(), now(), &version)?;
        Some(Self::read(answer))
    }

    /// Calls an action with temporary credentials; returns the error code, empty on success.
    pub fn code_with_token(&self, action: &str, token: &str) -> String {
        let answer = self.post(action, b"{}", now(), &[("X-TC-Token", token)]);
        Self::read(answer).map_or_else(|e| e.code, |_| String::new())
    }

    /// Calls an action that must succeed.
    pub fn ok(&self, action: &str, request: &Value) -> Value {
        self.call(action, request)
            .unwrap_or_else(|e| panic!("{action} {request}: {e:?}"))
    }

    /// Calls an action; returns the error code, empty on success.
    pub fn code(&self, action: &str, request: &Value) -> String {
        self.call(action, request)
            .map_or_else(|e| e.code, |_| String::new())
    }

    /// Sends a signed request. `headers` override the default headers.
    pub fn post(
        &self,
        action: &str,
        body: &[u8],
        timestamp: i64,
        headers: &[(&str, &str)],
    ) -> HttpResponse {
        self.try_post(action, body, timestamp, headers)
            .expect("an answer")
    }

    /// Returns the raw bytes of a signed request.
    pub fn signed(&self, action: &str, body: &[u8]) -> Vec<u8> {
        let mut head = self.signed_head(action, body, body.len());
        head.push_str("\r\n");
        [head.as_bytes(), body].concat()
    }

    /// Returns the raw head of a signed request with a given Content-Length, without the empty line at its end.
    pub fn signed_head(&self, action: &str, body: &[u8], length: usize) -> String {
        let (host, timestamp) = (self.host(), now());
        let authorization = tc3::authorization(&ToSign {
            secret_id: &self.id,
            secret_key: &self.key,
            service: "scf",
            host: &host,
            content_type: "application/json",
            headers: &[],
            payload: body,
            timestamp,
        });
        format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nAuthorization: {authorization}\r\n\
             X-TC-Action: {action}\r\nX-TC-Version: {}\r\nX-TC-Timestamp: {timestamp}\r\nContent-Length: {length}\r\n",
            scf::VERSION
        )
    }

    fn try_post(
        &self,
        action: &str,
        body: &[u8],
        timestamp: i64,
        headers: &[(&str, &str)],
    ) -> Option<HttpResponse> {
        let host = self.host();
        let text = timestamp.to_string();
        let known = scf::action::find(action);
        let of = known.map_or(scf::SCF, |known| known.service);
        let mut sent = vec![
            ("X-TC-Action", action),
            ("X-TC-Timestamp", text.as_str()),
            ("X-TC-Version", of.version),
        ];
        sent.retain(|(name, _)| headers.iter().all(|(other, _)| other != name));
        sent.extend(headers);
        let operators = sent.contains(&("X-TC-Version", OPERATOR_VERSION));
        let nonce = nonce();
        if operators && sent.iter().all(|(name, _)| *name != "X-TC-Nonce") {
            sent.push(("X-TC-Nonce", &nonce));
        }
        sent.retain(|(_, value)| !value.is_empty());
        // Sign every header that determines the effect of the request.
        let lower: Vec<_> = sent
            .iter()
            .filter(|(name, _)| SIGNED.contains(name))
            .map(|(name, value)| (name.to_ascii_lowercase(), *value))
            .collect();
        let mut signed: Vec<_> = lower
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .collect();
        signed.sort_unstable();
        let authorization = tc3::authorization(&ToSign {
            secret_id: &self.id,
            secret_key: &self.key,
            service: if operators { OPERATOR_SERVICE } else { of.name },
            host: &host,
            content_type: "application/json",
            headers: &signed,
            payload: body,
            timestamp,
        });
        let usual = [
            ("Content-Type", "application/json"),
            ("Authorization", authorization.as_str()),
        ];
        let kept = usual
            .iter()
            .filter(|(name, _)| headers.iter().all(|(other, _)| other != name));
        let all: Vec<_> = kept.chain(&sent).copied().collect();
        self.try_send("POST", "/", &all, body)
    }

    /// Sends an unsigned request.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> HttpResponse {
        self.try_send(method, path, headers, body)
            .expect("an answer")
    }

    fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<HttpResponse> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.endpoint));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).expect("a request");
        let mut answer = self.agent.run(request).ok()?;
        let content_type = answer.headers().get("content-type");
        let content_type = content_type
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let status = answer.status().as_u16();
        let body = answer
            .body_mut()
            .with_config()
            .limit(1 << 30)
            .read_to_vec()
            .ok()?;
        Some(HttpResponse {
            status,
            content_type,
            body,
        })
    }

    /// Sends a GET request.
    pub fn get(&self, path: &str) -> HttpResponse {
        self.send("GET", path, &[], b"")
    }

    /// Returns `host:port`.
    pub fn host(&self) -> String {
        self.endpoint.trim_start_matches("http://").to_owned()
    }

    /// Creates a function with a single source file. `more` adds or overrides request fields.
    pub fn create(&self, name: &str, source: &str, more: Value) {
        let mut request = json!({
            "FunctionName": name,
            "Runtime": "Python3.6",
            "Code": {"ZipFile": crate::package(&[("index.py", source)])},
        });
        if let (Value::Object(request), Value::Object(more)) = (&mut request, more) {
            request.extend(more);
        }
        self.ok("CreateFunction", &request);
    }

    /// Invokes a function; returns its result with the tail of its log.
    pub fn invoke(&self, name: &str, event: &Value) -> Value {
        let request =
            json!({"FunctionName": name, "ClientContext": event.to_string(), "LogType": "Tail"});
        self.ok("Invoke", &request)["Result"].take()
    }

    /// Invokes a function that must succeed; returns its return value.
    pub fn answer(&self, name: &str, event: &Value) -> Value {
        let result = self.invoke(name, event);
        assert_eq!(result["InvokeResult"], 0, "{name}: {result}");
        serde_json::from_str(&text(&result["RetMsg"])).expect("JSON")
    }

    /// Waits until no creation or update of a function is in progress; returns the function.
    pub fn wait_until_ready(&self, name: &str) -> Value {
        let mut function = Value::Null;
        crate::eventually("no update of the function is in progress", || {
            function = self.ok("GetFunction", &json!({"FunctionName": name}));
            !matches!(function["Status"].as_str(), Some("Creating" | "Updating"))
        });
        function
    }

    /// Returns the value of a metric, if it is present.
    pub fn metric(&self, line: &str) -> Option<f64> {
        value(&self.metrics(), line)
    }

    /// Returns the number of asynchronous events and dead letters that are queued or running, if the server reports it.
    pub fn queued(&self) -> Option<f64> {
        // Read both from one page, because an event that starts between two reads would be missed.
        let page = self.metrics();
        Some(value(&page, "virga_events_waiting ")? + value(&page, "virga_events_running ")?)
    }

    fn metrics(&self) -> String {
        String::from_utf8(self.get("/metrics").body).expect("text")
    }
}

/// The value of a line of a page of metrics.
fn value(page: &str, line: &str) -> Option<f64> {
    page.lines()
        .find_map(|text| text.strip_prefix(line)?.trim().parse().ok())
}

/// Returns the Unix time for signatures (s).
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}

/// Returns a unique nonce.
fn nonce() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let (time, process) = (
        since.map_or(0, |since| since.as_nanos()),
        std::process::id(),
    );
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{time:020}-{process}-{number}")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
