//! Requests to web functions: passed on to an instance's server, whose reply is streamed back.
//!
//! A request holds its place on the instance until the last byte of its reply has gone, or its caller has.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::http::{Request, Response};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use model::{RequestId, StatusCode, Usage};
use tokio::sync::Notify;
use tokio::time::Sleep;
use worker::{BoxError, Failure, InstanceSpec, Outgoing, Streamed};

use super::{Finished, Ready, Report};
use crate::driver::Assigned;

impl Ready {
    /// What runs the request.
    pub(crate) fn spec(&self) -> &InstanceSpec {
        &self.report.live.spec
    }

    /// Passes a request on, and gives the head of its reply with the request as it runs on. Its body says if it turns out to
    /// be too long.
    pub(crate) async fn pass(
        self,
        request: Request<Outgoing>,
        over: &Notify,
    ) -> Result<(Response<Streamed>, Running), Finished> {
        let mut running = Running::begin(self);
        let passed = tokio::time::timeout_at(
            running.deadline.into(),
            running.assigned.instance().pass(request),
        );
        let passed = tokio::select! {
            // Such a request breaks its connection; it is no fault of the server's.
            biased;
            () = over.notified() => {
                let message = "the request's body is longer than it may be";
                return Err(running.fail(&Failure::new(StatusCode::RequestTooLarge, message)));
            }
            passed = passed => passed,
        };
        match passed {
            Ok(Ok(reply)) => {
                running.status = reply.status().as_u16();
                Ok((reply, running))
            }
            Ok(Err(failure)) => Err(running.fail(&failure)),
            Err(_) => Err(running.time_out()),
        }
    }
}

/// A reply as [`Running::too_long`] names it.
pub(crate) const REPLY: &str = "the reply is";

/// A request that runs. Dropped before its end it was given up by its caller.
pub(crate) struct Running {
    assigned: Assigned,
    report: Option<Report>,
    request: RequestId,
    begun: Instant,
    deadline: Instant,
    /// HTTP's, of the reply.
    status: u16,
}

impl Running {
    fn begin(ready: Ready) -> Self {
        let Ready { assigned, report } = ready;
        assigned.begin(report.depth);
        let begun = Instant::now();
        Self {
            deadline: begun + report.live.spec.timeout,
            request: report.request,
            assigned,
            report: Some(report),
            begun,
            status: 0,
        }
    }

    /// When it must have ended.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// It has ended as it should.
    pub(crate) fn succeed(&mut self) {
        let answer = format!("{{\"statusCode\":{}}}", self.status);
        self.end(StatusCode::Ok, answer.into());
    }

    /// It ran over its time. The instance goes on with others.
    pub(crate) fn time_out(&mut self) -> Finished {
        let timeout = self.deadline.saturating_duration_since(self.begun);
        let message = format!(
            "Invoking task timed out after {} seconds",
            timeout.as_secs()
        );
        self.fail(&Failure::new(StatusCode::TimeLimitReached, message))
    }

    /// Its reply, or a part of that, is longer than it may be.
    pub(crate) fn too_long(&mut self, what: &str, limit: u64) -> Finished {
        let message = format!("{what} over {limit} bytes, which is the limit");
        self.fail(&Failure::new(StatusCode::ResponseTooLarge, message))
    }

    fn fail(&mut self, failure: &Failure) -> Finished {
        // With its server an instance ends, and with it all that it serves.
        if matches!(
            failure.status,
            StatusCode::UserProcessExit
                | StatusCode::MemoryLimitReached
                | StatusCode::InternalError
        ) {
            self.assigned.spoil();
        }
        let document = Bytes::from(failure.document(self.request));
        self.end(failure.status, document.clone())
            .unwrap_or(Finished {
                status: failure.status,
                answer: document,
                log: None,
                usage: Usage::default(),
                entry: None,
            })
    }

    fn end(&mut self, status: StatusCode, answer: Bytes) -> Option<Finished> {
        let report = self.report.take()?;
        let instance = self.assigned.instance();
        let usage = Usage {
            duration_us: self.begun.elapsed().as_micros() as u64,
            memory_peak: instance.memory_peak(),
        };
        let log = instance.take_printed();
        let stale = instance.is_stale();
        let billed = self.assigned.end();
        if stale {
            self.assigned.spoil();
        }
        let mut record = report.record(status, answer, usage);
        record.billed_us = billed.as_micros() as u64;
        record.log = log.into();
        if let Some((cold, init_log)) = self.assigned.first() {
            record.note = report.live.note.clone();
            record.cold = Some(cold);
            record.init_log = init_log.into();
        }
        Some(report.finish(record))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.report.is_some() {
            let failure = Failure::new(StatusCode::RequestCanceled, "the caller has gone away");
            self.fail(&failure);
        }
    }
}

/// The body of a reply, while the request runs.
pub(crate) struct Passing {
    body: Streamed,
    running: Option<Running>,
    deadline: Pin<Box<Sleep>>,
    /// What it may be, 0 for anything, and what it was so far.
    limit: u64,
    passed: u64,
}

impl Passing {
    pub(crate) fn new(body: Streamed, running: Running, limit: u64) -> Self {
        let deadline = Box::pin(tokio::time::sleep_until(running.deadline.into()));
        Self {
            body,
            running: Some(running),
            deadline,
            limit,
            passed: 0,
        }
    }

    fn succeed(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.succeed();
        }
    }

    /// The server broke off. Why is known a moment later.
    fn break_off(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        tokio::spawn(async move {
            let why = running.assigned.instance().why_broken().await;
            let usual = || {
                let message = "the function's server broke its reply off";
                Failure::new(StatusCode::UserCodeException, message)
            };
            running.fail(&why.unwrap_or_else(usual));
        });
    }
}

impl Body for Passing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(None) => {
                self.succeed();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(e))) => {
                self.break_off();
                Poll::Ready(Some(Err(e.into())))
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.passed += frame.data_ref().map_or(0, Bytes::len) as u64;
                if self.limit == 0 || self.passed <= self.limit {
                    return Poll::Ready(Some(Ok(frame)));
                }
                if let Some(mut running) = self.running.take() {
                    running.too_long(REPLY, self.limit);
                }
                Poll::Ready(Some(Err("the reply is longer than it may be".into())))
            }
            Poll::Pending => {
                if self.deadline.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                if let Some(mut running) = self.running.take() {
                    running.time_out();
                }
                Poll::Ready(Some(Err("the function ran over its timeout".into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        // Whoever has all of a body does not ask for its end.
        if self.body.is_end_stream() {
            self.succeed();
        }
    }
}

/// Longest time for which both sides of a connection may be silent, where nothing else is said. Source: SCF's default.
pub(crate) const SILENCE: Duration = Duration::from_secs(15);
