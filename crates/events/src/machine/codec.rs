//! The stored form of commands: a version, a tag, then the fields. Numbers are little-endian, texts have a length before them.

use bytes::{Buf, Bytes};
use dispatch::Time;
use model::{
    AccountId, FunctionKey, FunctionName, Namespace, Qualifier, RecursionDepth, RequestId,
    TraceContext, Version,
};

use super::command::{EventCommand, Trim, UsageCount};
use crate::usage::{JournalId, UsageEntry, UsageKey, UsageTotals};
use crate::{AttemptId, Completion, EventOrigin, Failures, NewEvent};

/// The version of this form.
const FORMAT: u8 = 1;

pub(super) fn encode(command: &EventCommand, bytes: &mut Vec<u8>) {
    let mut out = Out(bytes);
    out.byte(FORMAT);
    match command {
        EventCommand::Accept(event) => {
            out.byte(1);
            out.new_event(event);
        }
        EventCommand::Complete {
            attempt,
            status,
            completion,
            usage,
        } => {
            out.byte(2);
            out.request(attempt.request);
            out.u32(attempt.number);
            out.u16(*status);
            out.completion(completion);
            out.option(usage.as_ref(), Out::usage);
        }
        EventCommand::Replay(request) => {
            out.byte(3);
            out.request(*request);
        }
        EventCommand::Terminate { request, status } => {
            out.byte(4);
            out.request(*request);
            out.u16(*status);
        }
        EventCommand::Discard(request) => {
            out.byte(5);
            out.request(*request);
        }
        EventCommand::Close(account) => {
            out.byte(6);
            out.u64(account.0);
        }
        EventCommand::Purge { account, rows } => {
            out.byte(7);
            out.u64(account.0);
            out.u32(*rows);
        }
        EventCommand::Count(count) => {
            out.byte(8);
            out.raw(&count.journal.0);
            out.u64(count.from);
            out.u64(count.to);
            out.u32(count.sums.len() as u32);
            for entry in &count.sums {
                out.usage(entry);
            }
        }
        EventCommand::Trim(trim) => {
            out.byte(9);
            out.u64(trim.ended_before.0);
            out.u64(trim.surplus);
            out.u64(trim.usage_before as u64);
            out.u32(trim.rows);
        }
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<EventCommand, String> {
    let mut input = In(bytes);
    let command = input.command()?;
    match input.0 {
        [] => Ok(command),
        rest => Err(format!("{} bytes follow its last field", rest.len())),
    }
}

struct Out<'a>(&'a mut Vec<u8>);

impl Out<'_> {
    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn u16(&mut self, number: u16) {
        self.raw(&number.to_le_bytes());
    }

    fn u32(&mut self, number: u32) {
        self.raw(&number.to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.raw(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.u32(bytes.len() as u32);
        self.raw(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.byte(value.is_some().into());
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn request(&mut self, request: RequestId) {
        self.raw(request.as_bytes());
    }

    fn function(&mut self, function: &FunctionKey) {
        self.u64(function.account.0);
        self.text(&function.namespace.to_string());
        self.text(&function.name.to_string());
    }

    fn new_event(&mut self, event: &NewEvent) {
        self.request(event.request);
        self.function(&event.function);
        self.text(&event.qualifier.to_string());
        self.u32(event.routing_key.len() as u32);
        for (name, value) in &event.routing_key {
            self.text(name);
            self.text(value);
        }
        self.text(event.source.as_str());
        self.u32(event.depth.0);
        self.option(event.trace.as_ref(), |out, trace| {
            out.text(&trace.to_string());
        });
        self.bytes(&event.event);
    }

    fn completion(&mut self, completion: &Completion) {
        match completion {
            Completion::Succeeded => self.byte(1),
            Completion::Retry { delay, failures } => {
                self.byte(2);
                self.u64(*delay);
                self.u32(failures.user);
                self.u32(failures.system);
            }
            Completion::Failed { why, to } => {
                self.byte(3);
                self.text(why);
                self.option(to.as_ref(), |out, target| {
                    // A target is made of texts and always has a JSON form.
                    out.text(&serde_json::to_string(target).unwrap_or_default());
                });
            }
            Completion::Aborted => self.byte(4),
            Completion::Delivered => self.byte(5),
        }
    }

    fn usage(&mut self, entry: &UsageEntry) {
        let UsageEntry { key, totals } = entry;
        self.function(&key.function);
        self.text(&key.version.to_string());
        self.u64(key.hour as u64);
        for number in [
            totals.invocations,
            totals.errors,
            totals.throttles,
            totals.billed_ms,
            totals.mb_ms,
            totals.out_bytes,
        ] {
            self.u64(number);
        }
    }
}

struct In<'a>(&'a [u8]);

/// The reason why bytes are not a command.
type Read<T> = Result<T, String>;

impl<'a> In<'a> {
    fn command(&mut self) -> Read<EventCommand> {
        let format = self.byte()?;
        if format != FORMAT {
            return Err(format!(
                "it has format {format}, and this version reads {FORMAT}; update this node"
            ));
        }
        Ok(match self.byte()? {
            1 => EventCommand::Accept(self.new_event()?),
            2 => EventCommand::Complete {
                attempt: AttemptId {
                    request: self.request()?,
                    number: self.u32()?,
                },
                status: self.u16()?,
                completion: self.completion()?,
                usage: self.option(Self::usage)?,
            },
            3 => EventCommand::Replay(self.request()?),
            4 => EventCommand::Terminate {
                request: self.request()?,
                status: self.u16()?,
            },
            5 => EventCommand::Discard(self.request()?),
            6 => EventCommand::Close(AccountId(self.u64()?)),
            7 => EventCommand::Purge {
                account: AccountId(self.u64()?),
                rows: self.u32()?,
            },
            8 => EventCommand::Count(UsageCount {
                journal: JournalId(self.array()?),
                from: self.u64()?,
                to: self.u64()?,
                sums: self.list(Self::usage)?,
            }),
            9 => EventCommand::Trim(Trim {
                ended_before: Time(self.u64()?),
                surplus: self.u64()?,
                usage_before: self.u64()? as i64,
                rows: self.u32()?,
            }),
            other => return Err(format!("it has the unknown kind {other}; update this node")),
        })
    }

    fn array<const LENGTH: usize>(&mut self) -> Read<[u8; LENGTH]> {
        let (array, rest) = self.0.split_first_chunk().ok_or_else(cut)?;
        self.0 = rest;
        Ok(*array)
    }

    fn byte(&mut self) -> Read<u8> {
        self.0.try_get_u8().map_err(|_| cut())
    }

    fn u16(&mut self) -> Read<u16> {
        self.0.try_get_u16_le().map_err(|_| cut())
    }

    fn u32(&mut self) -> Read<u32> {
        self.0.try_get_u32_le().map_err(|_| cut())
    }

    fn u64(&mut self) -> Read<u64> {
        self.0.try_get_u64_le().map_err(|_| cut())
    }

    fn bytes(&mut self) -> Read<&'a [u8]> {
        let length = self.u32()? as usize;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or_else(cut)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn text(&mut self) -> Read<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|error| error.to_string())
    }

    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<Option<T>> {
        match self.byte()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            other => Err(format!("{other} is not a presence")),
        }
    }

    fn list<T>(&mut self, read: impl Fn(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        // Reading fails before a false length can take memory.
        (0..self.u32()?).map(|_| read(self)).collect()
    }

    fn request(&mut self) -> Read<RequestId> {
        self.array().map(RequestId::from_bytes)
    }

    fn function(&mut self) -> Read<FunctionKey> {
        Ok(FunctionKey {
            account: AccountId(self.u64()?),
            namespace: Namespace::parse(self.text()?).map_err(why)?,
            name: FunctionName::parse(self.text()?).map_err(why)?,
        })
    }

    fn new_event(&mut self) -> Read<NewEvent> {
        Ok(NewEvent {
            request: self.request()?,
            function: self.function()?,
            qualifier: Qualifier::parse(self.text()?).map_err(why)?,
            routing_key: self
                .list(|input| Ok((input.text()?.to_owned(), input.text()?.to_owned())))?
                .into_iter()
                .collect(),
            source: EventOrigin::parse(self.text()?),
            depth: RecursionDepth(self.u32()?),
            trace: self.option(Self::text)?.and_then(TraceContext::read),
            event: Bytes::copy_from_slice(self.bytes()?),
        })
    }

    fn completion(&mut self) -> Read<Completion> {
        Ok(match self.byte()? {
            1 => Completion::Succeeded,
            2 => Completion::Retry {
                delay: self.u64()?,
                failures: Failures {
                    user: self.u32()?,
                    system: self.u32()?,
                },
            },
            3 => Completion::Failed {
                why: self.text()?.to_owned(),
                to: self.option(|input| serde_json::from_str(input.text()?).map_err(why))?,
            },
            4 => Completion::Aborted,
            5 => Completion::Delivered,
            other => return Err(format!("{other} is not a completion")),
        })
    }

    fn usage(&mut self) -> Read<UsageEntry> {
        Ok(UsageEntry {
            key: UsageKey {
                function: self.function()?,
                version: Version::parse(self.text()?).map_err(why)?,
                hour: self.u64()? as i64,
            },
            totals: UsageTotals {
                invocations: self.u64()?,
                errors: self.u64()?,
                throttles: self.u64()?,
                billed_ms: self.u64()?,
                mb_ms: self.u64()?,
                out_bytes: self.u64()?,
            },
        })
    }
}

fn cut() -> String {
    "it is cut short".to_owned()
}

fn why(error: impl std::fmt::Display) -> String {
    error.to_string()
}
