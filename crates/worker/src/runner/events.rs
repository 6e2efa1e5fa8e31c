//! The runtime API of SCF's custom runtimes: a program fetches events over HTTP and answers them.
//!
//! `POST /runtime/init/ready` reports that the program is ready. `GET /runtime/invocation/next` waits for an event.
//! `POST /runtime/invocation/response` or `/error` answers it; the first answer is final. Paths name no request, so at
//! most one event is outstanding.
//!
//! An event starts when it is sent to the program. If the program ends without having read it, it did not start after
//! all.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode as Http};
use hyper_util::rt::TokioIo;
use model::RequestId;
use sandbox::confined::{self, Pipes};
use sandbox::wire::{self, Kind};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::{Mutex as AsyncMutex, Notify, oneshot};

use super::connection::{ProgramConnection, WatchedStream};
use super::program::{fail, frame, ready, refuse, start};
use crate::assignment::Assignment;
use crate::guest_report::{GuestFailure, GuestStatus};
use crate::request::NamedMetadata;

/// The port that clients use by default.
const PORT: u16 = 9001;

/// Serves the API and runs the program. Ends with the program, or with virga.
pub(super) fn run(assignment: &Assignment, pipes: Pipes, begun: Instant) -> ! {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => fail(&e),
    };
    match runtime.block_on(serve(assignment, pipes, begun)) {
        Ok(()) => std::process::exit(0),
        Err(e) => fail(&e),
    }
}

async fn serve(assignment: &Assignment, pipes: Pipes, begun: Instant) -> io::Result<()> {
    // Without network namespaces, instances share the host's loopback and cannot all use the default port.
    let port = if assignment.memory_bytes.is_none() {
        PORT
    } else {
        0
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let port = listener.local_addr()?.port();
    let place = [
        ("SCF_RUNTIME_API", Ipv4Addr::LOCALHOST.to_string()),
        ("SCF_RUNTIME_API_PORT", port.to_string()),
    ];
    let ended = match start(assignment, &place) {
        Ok(child) => end_of(child),
        Err(why) => refuse(pipes.answers, &why),
    };
    let requests = Receiver::from_file(pipes.requests)?;
    let answers = Sender::from_file(pipes.answers)?;
    let api = Arc::new(Api {
        state: Mutex::default(),
        event_arrived: Notify::new(),
        event_requested: Notify::new(),
        answers: AsyncMutex::new(answers),
        start_mark: pipes.start_mark,
        begun,
        limit: usize::try_from(assignment.response_bytes).unwrap_or(usize::MAX),
        memory: number(&assignment.context["memory_limit_in_mb"]),
        time: number(&assignment.context["time_limit_in_ms"]),
    });
    tokio::spawn(accept(listener, api.clone()));
    tokio::select! {
        received = receive_events(requests, &api) => received,
        ended = ended => match ended {
            Ok(ended) => api.end(ended),
            Err(e) => fail(&e),
        },
    }
}

/// Waits for the end of the program in a thread.
fn end_of(mut program: Child) -> oneshot::Receiver<io::Result<ExitStatus>> {
    let (sender, ended) = oneshot::channel();
    std::thread::spawn(move || sender.send(program.wait()));
    ended
}

fn number(value: &Value) -> HeaderValue {
    HeaderValue::from(value.as_u64().unwrap_or_default())
}

async fn accept(listener: TcpListener, api: Arc<Api>) {
    loop {
        // Accepting fails while the program uses up the file descriptors; it recovers when the program closes some.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let Ok((stream, connection)) = WatchedStream::new(stream) else {
            continue;
        };
        let api = api.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(&api, request, &connection));
            let _ = http1::Builder::new()
                .half_close(true)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            connection.shut_down();
        });
    }
}

struct Api {
    state: Mutex<State>,
    event_arrived: Notify,
    /// Notified when the program waits for an event.
    event_requested: Notify,
    answers: AsyncMutex<Sender>,
    start_mark: File,
    begun: Instant,
    /// Longest answer, bytes.
    limit: usize,
    memory: HeaderValue,
    time: HeaderValue,
}

#[derive(Default)]
struct State {
    ready: bool,
    /// The event that awaits its answer.
    current: Option<PendingEvent>,
    /// Requests of the program that wait for an event.
    waiting: usize,
}

impl State {
    /// Returns whether the program waits for an event and has answered the last.
    fn is_waiting(&self) -> bool {
        self.waiting > 0 && self.current.is_none()
    }
}

#[derive(Clone)]
struct PendingEvent {
    request: RequestId,
    sequence: [u8; wire::MARK],
    attempt: u32,
    traceparent: Option<HeaderValue>,
    tracestate: Option<HeaderValue>,
    body: Bytes,
    /// Whether the program has fetched it. An answer that comes before belongs to an earlier event and is late.
    fetched: bool,
    /// The connection over which the program fetched it, if that was once.
    over: Option<Arc<ProgramConnection>>,
}

impl Api {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, frame: &[u8]) {
        // If virga is gone, the pipe's end ends this process.
        let _ = self.answers.lock().await.write_all(frame).await;
    }

    /// Returns the outstanding event, or waits for the next.
    async fn next(&self, connection: &Arc<ProgramConnection>) -> PendingEvent {
        let _waiting = WaitingRequest::begin(self);
        loop {
            let event_arrived = self.event_arrived.notified();
            if let Some(event) = &mut self.state().current {
                let first = !std::mem::replace(&mut event.fetched, true);
                event.over = first.then(|| connection.clone());
                if first {
                    self.mark_started(event);
                }
                return event.clone();
            }
            event_arrived.await;
        }
    }

    /// Reports to virga that the program gets the event.
    fn mark_started(&self, event: &PendingEvent) {
        if let Err(e) = self.start_mark.write_all_at(&event.sequence, 0) {
            // Virga would run the event again on another instance.
            fail(&e);
        }
    }

    /// Ends this process as the program has ended.
    fn end(&self, program: io::Result<ExitStatus>) -> ! {
        let state = self.state();
        let over = state.current.as_ref().and_then(|event| event.over.as_ref());
        if over.is_some_and(|connection| connection.was_reset()) {
            // No request has this number.
            let _ = self.start_mark.write_all_at(&[0; wire::MARK], 0);
        }
        match program {
            Ok(status) => confined::end_as(status),
            Err(e) => fail(&e),
        }
    }

    /// Answers the outstanding event. Without one it was answered already, and the first answer is final.
    async fn finish(&self, status: GuestStatus, text: &[u8]) {
        let event = self.state().current.take_if(|event| event.fetched);
        self.event_requested.notify_one();
        if let Some(event) = event {
            let parts = [event.request.as_bytes().as_slice(), text];
            self.send(&frame(Kind::Answer, status, &parts)).await;
        }
    }
}

/// Counts a request for the next event while it waits.
struct WaitingRequest<'a>(&'a Api);

impl<'a> WaitingRequest<'a> {
    fn begin(api: &'a Api) -> Self {
        api.state().waiting += 1;
        api.event_requested.notify_one();
        Self(api)
    }
}

impl Drop for WaitingRequest<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

/// Reads events from virga, each only when the program requests one. An event that was not requested before the program
/// ends stays in the pipe, and virga sends it to another instance.
async fn receive_events(mut requests: Receiver, api: &Api) -> io::Result<()> {
    let broken = || io::Error::other("not an event");
    loop {
        while !api.state().is_waiting() {
            api.event_requested.notified().await;
        }
        let mut header = [0; wire::HEADER];
        if requests.read_exact(&mut header).await.is_err() {
            return Ok(());
        }
        let (Some(Kind::Invoke), length) = wire::parse_header(&header) else {
            return Err(broken());
        };
        let mut payload = vec![0; length];
        requests.read_exact(&mut payload).await?;
        let payload = Bytes::from(payload);
        let invoke = wire::Invoke::parse(&payload).ok_or_else(broken)?;
        let named: NamedMetadata<'_> = serde_json::from_slice(invoke.metadata).unwrap_or_default();
        let header = |value: Option<Cow<'_, str>>| HeaderValue::from_str(&value?).ok();
        api.state().current = Some(PendingEvent {
            request: RequestId::from_bytes(invoke.request),
            sequence: invoke.sequence,
            attempt: invoke.attempt,
            traceparent: header(named.traceparent),
            tracestate: header(named.tracestate),
            body: payload.slice_ref(invoke.event),
            fetched: false,
            over: None,
        });
        api.event_arrived.notify_waiters();
    }
}

type Answer = Response<Full<Bytes>>;

async fn answer(
    api: &Api,
    request: Request<Incoming>,
    connection: &Arc<ProgramConnection>,
) -> Result<Answer, Infallible> {
    let path = request.uri().path().trim_end_matches('/');
    Ok(match (request.method(), path) {
        (&Method::POST, "/runtime/init/ready") => {
            let first = !std::mem::replace(&mut api.state().ready, true);
            if first {
                api.send(&ready(api.begun)).await;
            }
            reply(Http::OK, "")
        }
        (&Method::GET, "/runtime/invocation/next") => event(api, api.next(connection).await),
        (&Method::POST, "/runtime/invocation/response") => {
            let limited = Limited::new(request.into_body(), api.limit);
            match limited.collect().await {
                Ok(body) => api.finish(GuestStatus::Ok, &body.to_bytes()).await,
                Err(e) if e.is::<LengthLimitError>() => {
                    let message = format!("response exceeds the limit of {} bytes", api.limit);
                    let report = GuestFailure::new(message).encode();
                    api.finish(GuestStatus::TooLarge, &report).await;
                }
                Err(_) => return Ok(reply(Http::BAD_REQUEST, "the request body is incomplete\n")),
            }
            reply(Http::OK, "")
        }
        (&Method::POST, "/runtime/invocation/error") => {
            let limited = Limited::new(request.into_body(), api.limit);
            let body = limited.collect().await;
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            let report = reported(&body).encode();
            api.finish(GuestStatus::Exception, &report).await;
            reply(Http::OK, "")
        }
        (
            _,
            "/runtime/init/ready" | "/runtime/invocation/response" | "/runtime/invocation/error",
        ) => reply(Http::METHOD_NOT_ALLOWED, "use POST for this path\n"),
        (_, "/runtime/invocation/next") => {
            reply(Http::METHOD_NOT_ALLOWED, "use GET for this path\n")
        }
        _ => reply(
            Http::NOT_FOUND,
            "unknown path; GET /runtime/invocation/next returns the next event\n",
        ),
    })
}

/// Parses a program's error, a document of the custom runtime's API or any text.
fn reported(body: &[u8]) -> GuestFailure {
    let text = String::from_utf8_lossy(body);
    let document: Value = serde_json::from_str(&text).unwrap_or_default();
    match document["errorMessage"].as_str() {
        Some(message) => GuestFailure {
            message: message.to_owned(),
            stack: document["stackTrace"].as_str().map(str::to_owned),
        },
        None => GuestFailure::new(text),
    }
}

fn event(api: &Api, event: PendingEvent) -> Answer {
    let mut answer = Response::new(Full::new(event.body));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(request) = HeaderValue::try_from(event.request.to_string()) {
        headers.insert("request_id", request);
    }
    headers.insert("memory_limit_in_mb", api.memory.clone());
    headers.insert("time_limit_in_ms", api.time.clone());
    headers.insert("retry_num", HeaderValue::from(event.attempt));
    let trace = [
        ("traceparent", event.traceparent),
        ("tracestate", event.tracestate),
    ];
    for (name, value) in trace {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
    answer
}

fn reply(status: Http, text: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *answer.status_mut() = status;
    answer
}
