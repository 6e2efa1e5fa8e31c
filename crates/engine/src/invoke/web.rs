//! Requests to web functions: forwarded to the instance's HTTP server, whose reply is streamed back.
//!
//! A request occupies its instance until the last byte of the reply is sent or the caller disconnects.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::http::Response;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use model::{Failure, FailureKind, Usage};
use tokio::sync::Notify;
use tokio::time::Sleep;
use traffic::Connection;
use worker::{BoxError, Head, InstanceSpec, Outgoing, Payload, StreamedReply};

use super::{Ready, Report};
use crate::driver::{Assigned, INSTANCES_MAX};

impl Ready {
    /// Returns the specification of the instance.
    pub fn spec(&self) -> &Arc<InstanceSpec> {
        &self.report.live.spec
    }

    /// Forwards a request. Returns the head of the reply and the running invocation.
    ///
    /// `over` is notified if the request body exceeds its limit.
    pub async fn pass(
        self,
        head: &Head<'_>,
        body: Outgoing,
        over: &Notify,
    ) -> Result<(Response<StreamedReply>, WebInvocation), Failure> {
        let mut running = WebInvocation::begin(self);
        let mut body = Payload::new(body);
        let mut instances = 1;
        loop {
            let passed = tokio::time::timeout_at(
                running.deadline.into(),
                running.assigned.instance().forward(head, &mut body),
            );
            let passed = tokio::select! {
                // First, because aborting the body breaks the connection, which would look like a fault of the server.
                biased;
                () = over.notified() => {
                    let message = "the request body exceeds its limit";
                    return Err(running.fail(Failure::new(FailureKind::RequestTooLarge, message)));
                }
                passed = passed => passed,
            };
            match passed {
                Ok(Ok(reply)) => {
                    running.status = reply.status().as_u16();
                    return Ok((reply, running));
                }
                Ok(Err(error)) => {
                    let again = !error.started && instances < INSTANCES_MAX;
                    if !again || !running.replace_instance().await {
                        return Err(running.fail(error.failure));
                    }
                    instances += 1;
                }
                Err(_) => return Err(running.time_out()),
            }
        }
    }
}

/// The subject of [`WebInvocation::too_long`]'s message for a whole reply.
pub const REPLY: &str = "the reply is";

/// A running request. Dropping it before its end means that the caller disconnected.
pub struct WebInvocation {
    assigned: Assigned,
    report: Option<Report>,
    begun: Instant,
    deadline: Instant,
    /// HTTP status of the reply.
    status: u16,
}

impl std::fmt::Debug for WebInvocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebInvocation").finish_non_exhaustive()
    }
}

impl WebInvocation {
    fn begin(ready: Ready) -> Self {
        let Ready { assigned, report } = ready;
        assigned.begin(report.depth);
        let begun = Instant::now();
        Self {
            deadline: begun + report.live.spec.timeout,
            assigned,
            report: Some(report),
            begun,
            status: 0,
        }
    }

    /// Returns the deadline.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Moves to another instance, since this one has ended without starting the request. Returns false if there is none.
    async fn replace_instance(&mut self) -> bool {
        let Some(report) = &self.report else {
            return false;
        };
        self.assigned.end();
        self.assigned.mark_unusable();
        if !self.assigned.replace(&report.live).await {
            return false;
        }
        self.assigned.begin(report.depth);
        self.begun = Instant::now();
        self.deadline = self.begun + report.live.spec.timeout;
        true
    }

    /// Ends the invocation successfully.
    pub fn succeed(&mut self) {
        let answer = format!("{{\"statusCode\":{}}}", self.status);
        self.end(&Ok(answer.into()));
    }

    /// Fails the invocation with a timeout. Other requests on the instance continue.
    pub fn time_out(&mut self) -> Failure {
        let timeout = self.deadline.saturating_duration_since(self.begun);
        let message = format!(
            "Invoking task timed out after {} seconds",
            timeout.as_secs()
        );
        self.fail(Failure::new(FailureKind::TimedOut, message))
    }

    /// Fails the invocation because its reply, or a part of it, exceeds a limit.
    pub fn too_long(&mut self, what: &str, limit: u64) -> Failure {
        let message = format!("{what} over {limit} bytes, which is the limit");
        self.fail(Failure::new(FailureKind::ResponseTooLarge, message))
    }

    /// Fails the invocation because its reply is invalid.
    pub fn refuse(&mut self, why: &str) -> Failure {
        self.fail(Failure::new(FailureKind::HandlerError, why))
    }

    fn fail(&mut self, failure: Failure) -> Failure {
        // These mean that the instance's server is gone, so the instance must not be reused.
        if matches!(
            failure.kind,
            FailureKind::Exited | FailureKind::OutOfMemory | FailureKind::PlatformFault
        ) {
            self.assigned.mark_unusable();
        }
        self.end(&Err(failure.clone()));
        failure
    }

    /// Ends the invocation, once.
    fn end(&mut self, result: &Result<Bytes, Failure>) {
        let Some(report) = self.report.take() else {
            return;
        };
        let instance = self.assigned.instance();
        let usage = Usage {
            duration_us: self.begun.elapsed().as_micros() as u64,
            memory_peak: instance.memory_peak(),
        };
        let log = instance.take_printed();
        let stale = instance.is_stale();
        let billed = self.assigned.end();
        if stale {
            self.assigned.mark_unusable();
        }
        let mut record = report.record(result, usage);
        record.billed_us = billed.as_micros() as u64;
        record.log = log.into();
        if let Some((cold, init_log)) = self.assigned.first() {
            record.note = report.live.note.clone();
            record.cold = Some(cold);
            record.init_log = init_log.into();
        }
        report.finish(record);
    }
}

impl Drop for WebInvocation {
    fn drop(&mut self) {
        if self.report.is_some() {
            let failure = Failure::new(FailureKind::Cancelled, "the caller has gone away");
            self.fail(failure);
        }
    }
}

/// The body of a reply. It enforces the deadline and the size limit and ends the invocation.
pub struct ReplyBody {
    held: Arc<SharedReply>,
    deadline: Pin<Box<Sleep>>,
    /// Maximum bytes (0 = unlimited), and the bytes passed so far.
    limit: u64,
    passed: u64,
}

impl std::fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplyBody").finish_non_exhaustive()
    }
}

/// A reply in transit.
struct Reply {
    body: StreamedReply,
    /// `None` once the invocation has ended.
    running: Option<WebInvocation>,
    /// The caller's connection.
    to: Option<Arc<Connection>>,
}

type SharedReply = Mutex<Option<Reply>>;

impl ReplyBody {
    /// Streams a reply.
    pub fn new(
        body: StreamedReply,
        running: WebInvocation,
        limit: u64,
        to: Option<Arc<Connection>>,
        reply_deadlines: &Arc<ReplyDeadlines>,
    ) -> Self {
        let deadline = running.deadline;
        let unfinished = !body.is_end_stream();
        let running = Some(running);
        let held = Arc::new(Mutex::new(Some(Reply { body, running, to })));
        if unfinished {
            // The body is not polled while the caller does not read, so its own timer is not enough.
            reply_deadlines.watch(deadline, &held);
        }
        Self {
            held,
            deadline: Box::pin(tokio::time::sleep_until(deadline.into())),
            limit,
            passed: 0,
        }
    }
}

fn held(held: &SharedReply) -> MutexGuard<'_, Option<Reply>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

fn succeed(running: &mut Option<WebInvocation>) {
    if let Some(mut running) = running.take() {
        running.succeed();
    }
}

/// Fails an invocation whose server closed the connection early. The cause is known only a moment later.
fn break_off(running: &mut Option<WebInvocation>) {
    let Some(mut running) = running.take() else {
        return;
    };
    tokio::spawn(async move {
        let why = running.assigned.instance().connection_failure().await;
        let usual = || {
            let message = "the function's server closed the connection before the end of its reply";
            Failure::new(FailureKind::HandlerError, message)
        };
        running.fail(why.unwrap_or_else(usual));
    });
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let mut held = held(&this.held);
        let Some(Reply { body, running, .. }) = &mut *held else {
            return Poll::Ready(Some(Err(TIMED_OUT.into())));
        };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(None) => {
                succeed(running);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(e))) => {
                break_off(running);
                Poll::Ready(Some(Err(e.into())))
            }
            Poll::Ready(Some(Ok(frame))) => {
                this.passed += frame.data_ref().map_or(0, Bytes::len) as u64;
                if this.limit == 0 || this.passed <= this.limit {
                    return Poll::Ready(Some(Ok(frame)));
                }
                if let Some(mut running) = running.take() {
                    running.too_long(REPLY, this.limit);
                }
                Poll::Ready(Some(Err("the reply exceeds its limit".into())))
            }
            Poll::Pending => {
                if this.deadline.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                if let Some(mut running) = running.take() {
                    running.time_out();
                }
                *held = None;
                Poll::Ready(Some(Err(TIMED_OUT.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        held(&self.held)
            .as_ref()
            .is_some_and(|reply| reply.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        held(&self.held)
            .as_ref()
            .map_or_else(SizeHint::default, |reply| reply.body.size_hint())
    }
}

const TIMED_OUT: &str = "the function ran over its timeout";

impl Drop for ReplyBody {
    fn drop(&mut self) {
        // A consumer that has read the whole body does not poll for its end.
        if let Some(Reply { body, running, .. }) = &mut *held(&self.held)
            && body.is_end_stream()
        {
            succeed(running);
        }
    }
}

/// Ends overdue replies that are not polled, so that a caller who does not read holds neither an instance nor buffered data.
#[derive(Default)]
pub struct ReplyDeadlines {
    watched: Mutex<Watched>,
}

impl std::fmt::Debug for ReplyDeadlines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplyDeadlines").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Watched {
    next: u64,
    /// By deadline; the number makes equal deadlines distinct.
    replies: BTreeMap<(Instant, u64), Weak<SharedReply>>,
    /// Whether the task is running.
    task_running: bool,
}

/// Interval of the deadline check, and the number of checks without replies after which the task ends.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
const IDLE_CHECKS: u32 = 60;

impl ReplyDeadlines {
    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Must be called within a tokio runtime.
    fn watch(self: &Arc<Self>, deadline: Instant, held: &Arc<SharedReply>) {
        let mut watched = self.watched();
        let number = watched.next;
        watched.next += 1;
        watched
            .replies
            .insert((deadline, number), Arc::downgrade(held));
        if !std::mem::replace(&mut watched.task_running, true) {
            tokio::spawn(self.clone().run());
        }
    }

    async fn run(self: Arc<Self>) {
        let mut empty = 0;
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            self.end_overdue();
            let mut watched = self.watched();
            empty = if watched.replies.is_empty() {
                empty + 1
            } else {
                0
            };
            if empty == IDLE_CHECKS {
                watched.task_running = false;
                return;
            }
        }
    }

    fn end_overdue(&self) {
        let now = Instant::now();
        let late = {
            let mut watched = self.watched();
            // Most replies ended long before their deadline.
            watched.replies.retain(|_, held| held.strong_count() > 0);
            let later = watched.replies.split_off(&(now, u64::MAX));
            std::mem::replace(&mut watched.replies, later)
        };
        for reply in late.into_values().filter_map(|reply| reply.upgrade()) {
            let taken = held(&reply).take();
            if let Some(Reply { body, running, to }) = taken {
                // Closes the connection to the function's server, which so notices the cancellation.
                drop(body);
                if let Some(mut running) = running {
                    running.time_out();
                }
                if let Some(to) = to {
                    to.close_late();
                }
            }
        }
    }
}

/// Default idle timeout of a connection, when neither side sends. Source: SCF's default.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
