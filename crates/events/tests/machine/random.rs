//! Random commands of every kind, over few accounts, functions and events, so that they meet.

use bytes::Bytes;
use dispatch::Time;
use events::machine::{EventCommand, Trim, UsageCount};
use events::usage::{JournalId, UsageEntry, UsageKey, UsageTotals};
use events::{AttemptId, Completion, EventOrigin, Failures, NewEvent};
use model::{
    AccountId, DeadLetter, FunctionKey, FunctionName, Namespace, Qualifier, RecursionDepth,
    RequestId, TraceContext, TriggerKind, Version,
};
use seeded::Random;

const ACCOUNTS: u64 = 3;
const REQUESTS: u64 = 12;
pub(crate) const JOURNALS: u64 = 2;

/// What a command is made of that follows from the state: the next attempt of an event, and where a journal is.
pub(crate) trait Known {
    fn attempt(&self, request: RequestId) -> u32;
    fn counted(&self, journal: JournalId) -> u64;
}

pub(crate) fn request(number: u64) -> RequestId {
    RequestId::from_bytes([number as u8 + 1; 16])
}

pub(crate) fn journal(number: u64) -> JournalId {
    JournalId([number as u8; 16])
}

fn function(random: &mut Random) -> FunctionKey {
    FunctionKey {
        account: AccountId(1 + random.below(ACCOUNTS)),
        namespace: Namespace::default(),
        name: FunctionName::parse(random.one_of(&["one", "two"])).unwrap(),
    }
}

pub(crate) fn usage(random: &mut Random) -> UsageEntry {
    UsageEntry {
        key: UsageKey {
            function: function(random),
            version: random.one_of(&[Version::Latest, Version::Number(3)]),
            hour: random.below(5) as i64,
        },
        totals: UsageTotals {
            invocations: 1,
            billed_ms: random.below(100),
            ..UsageTotals::default()
        },
    }
}

pub(crate) fn event(random: &mut Random, request: RequestId) -> NewEvent {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 a=1";
    NewEvent {
        request,
        function: function(random),
        qualifier: random
            .one_of(&["$LATEST", "7", "$DEFAULT", "live"])
            .parse_qualifier(),
        routing_key: (0..random.below(3))
            .map(|number| (number.to_string(), "value".to_owned()))
            .collect(),
        source: random.one_of(&[
            EventOrigin::Api,
            EventOrigin::Trigger(TriggerKind::Cos),
            EventOrigin::Trigger(TriggerKind::Timer),
            EventOrigin::DeadLetter,
        ]),
        depth: RecursionDepth(random.below(4) as u32),
        trace: random
            .one_in(2)
            .then(|| TraceContext::read(trace))
            .flatten(),
        event: Bytes::from(random.bytes(40)),
    }
}

trait ParseQualifier {
    fn parse_qualifier(self) -> Qualifier;
}

impl ParseQualifier for &str {
    fn parse_qualifier(self) -> Qualifier {
        Qualifier::parse(self).unwrap()
    }
}

fn completion(random: &mut Random) -> Completion {
    let targets = [
        DeadLetter::Http {
            url: "http://host/".into(),
            kind: "queue".into(),
        },
        DeadLetter::Function {
            namespace: Namespace::default(),
            name: FunctionName::parse("dead").unwrap(),
        },
    ];
    match random.below(6) {
        0 => Completion::Succeeded,
        1 => Completion::Retry {
            delay: random.below(1000),
            failures: Failures {
                user: random.below(4) as u32,
                system: random.below(4) as u32,
            },
        },
        2 => Completion::Failed {
            why: "why".into(),
            to: None,
        },
        3 => Completion::Failed {
            why: String::new(),
            to: Some(targets[random.index(2)].clone()),
        },
        4 => Completion::Aborted,
        _ => Completion::Delivered,
    }
}

/// Returns a command. Most fit the state, and some are late, early or of something unknown.
pub(crate) fn command(random: &mut Random, known: &impl Known, now: u64) -> EventCommand {
    let name = request(random.below(REQUESTS));
    match random.below(20) {
        0..6 => EventCommand::Accept(event(random, name)),
        6..13 => {
            let wrong = random.one_in(4);
            let number = known.attempt(name);
            EventCommand::Complete {
                attempt: AttemptId {
                    request: name,
                    number: if wrong {
                        random.below(4) as u32
                    } else {
                        number
                    },
                },
                status: random.one_of(&[200, 430, 433, 499]),
                completion: completion(random),
                usage: (!random.one_in(4)).then(|| usage(random)),
            }
        }
        13 => EventCommand::Replay(name),
        14 => EventCommand::Terminate {
            request: name,
            status: 499,
        },
        15 => EventCommand::Discard(name),
        16 if random.one_in(6) => EventCommand::Close(AccountId(1 + random.below(ACCOUNTS))),
        16 => EventCommand::Purge {
            account: AccountId(1 + random.below(ACCOUNTS)),
            rows: 1 + random.below(4) as u32,
        },
        17 | 18 => {
            let journal = journal(random.below(JOURNALS));
            let wrong = random.one_in(4);
            let from = known.counted(journal) + u64::from(wrong);
            let sums = (0..random.below(3))
                .map(|_| usage(random))
                .collect::<Vec<_>>();
            EventCommand::Count(UsageCount {
                journal,
                from,
                to: from + sums.len() as u64,
                sums,
            })
        }
        _ => EventCommand::Trim(Trim {
            ended_before: Time(now.saturating_sub(random.below(5000))),
            surplus: random.below(3),
            usage_before: random.below(3) as i64,
            rows: 1 + random.below(4) as u32,
        }),
    }
}
