//! What the queue promises, asked of the file itself.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use model::{
    AccountId, DeadLetter, FunctionKey, FunctionName, Namespace, Qualifier, RecursionDepth,
    RoutingKey, TraceContext, Version,
};

use super::*;
use crate::machine::ROW_BYTES;
use crate::{EventState, Failures};

const BUDGET: Budget = Budget {
    bytes: 1 << 20,
    history: Duration::from_secs(3600),
    history_events: 10,
    usage: Duration::from_secs(3600 * 24),
};

fn open(directory: &Path) -> SqliteQueue {
    SqliteQueue::open(&directory.join("events.sqlite"), BUDGET).expect("a queue")
}

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn function() -> FunctionKey {
    FunctionKey {
        account: AccountId(1),
        namespace: Namespace::default(),
        name: FunctionName::parse("fun").expect("a name"),
    }
}

fn request(number: u8) -> RequestId {
    RequestId::from_bytes([number; 16])
}

fn event(number: u8, bytes: usize) -> NewEvent {
    NewEvent {
        request: request(number),
        function: function(),
        qualifier: Qualifier::Latest,
        routing_key: RoutingKey::new(),
        source: EventOrigin::Api,
        depth: RecursionDepth(number.into()),
        trace: TraceContext::read(&format!("{TRACEPARENT} a={number}")),
        event: Bytes::from(vec![b'1'; bytes]),
    }
}

fn entry(invocations: u64) -> UsageEntry {
    UsageEntry {
        key: UsageKey {
            function: function(),
            version: Version::Latest,
            hour: 7,
        },
        totals: UsageTotals {
            invocations,
            ..UsageTotals::default()
        },
    }
}

async fn counted(queue: &SqliteQueue) -> u64 {
    let query = UsageQuery {
        account: AccountId(1),
        function: None,
        from: 0,
        to: 10,
    };
    let found = queue.usage(query).await.expect("usage");
    found.iter().map(|(_, totals)| totals.invocations).sum()
}

/// Returns the attempt of an event that waits.
async fn attempt(queue: &SqliteQueue, seq: u64) -> AttemptId {
    let waiting = queue.get(seq).await.expect("read");
    waiting.expect("an event").attempt()
}

async fn complete(
    queue: &SqliteQueue,
    seq: u64,
    failure: Option<FailureKind>,
    completion: Completion,
) {
    let attempt = attempt(queue, seq).await;
    let completed = queue.complete(attempt, failure, completion, None);
    completed.await.expect("completed");
}

async fn next(queue: &SqliteQueue, after: Option<QueuePosition>, limit: usize) -> NextEvents {
    let queue_key = QueueKey::Function(function());
    queue.next(&queue_key, after, limit).await.expect("events")
}

#[tokio::test]
async fn duplicate_request_is_deduplicated_and_order_survives_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let queue = open(directory.path());
    for number in [3, 1, 2, 1] {
        queue.accept(event(number, 3)).await.expect("accepted");
    }
    let mut enqueued_events = queue.enqueued_events().expect("the first time");
    assert!(queue.enqueued_events().is_none());
    let enqueued: Vec<_> = std::iter::from_fn(|| enqueued_events.try_recv().ok()).collect();
    assert_eq!(enqueued.len(), 3, "a duplicate request id is deduplicated");
    let all = next(&queue, None, 10).await;
    assert_eq!(
        all.orders,
        enqueued.iter().map(|one| one.order).collect::<Vec<_>>()
    );
    assert!(all.whole);
    let some = next(&queue, None, 2).await;
    assert_eq!(
        (some.orders.as_slice(), some.whole),
        (&all.orders[..2], false)
    );
    assert_eq!(
        next(&queue, Some(all.orders[1]), 2).await.orders,
        all.orders[2..]
    );
    drop(queue);
    let queue = open(directory.path());
    assert_eq!(queue.last_seq_at_open(), all.orders[2].seq);
    assert_eq!(next(&queue, None, 10).await.orders, all.orders);
    let kept = queue.get(all.orders[1].seq).await.expect("read");
    assert_eq!(kept.expect("an event").request, request(1));
    let nonempty_queues = queue.nonempty_queues().await.expect("queues");
    assert_eq!(nonempty_queues, [QueueKey::Function(function())]);
    let backlog = queue.backlog().await.expect("read");
    assert_eq!((backlog.events, backlog.bytes), (3, 3 * (ROW_BYTES + 3)));
}

#[tokio::test]
async fn completion_and_its_usage_are_recorded_exactly_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let queue = open(directory.path());
    queue.accept(event(1, 3)).await.expect("accepted");
    let order = next(&queue, None, 1).await.orders[0];
    let again = Completion::Retry {
        delay: 1_000_000,
        failures: Failures { user: 1, system: 0 },
    };
    let failure = Some(FailureKind::HandlerError);
    let usage = Some(entry(1));
    let first = attempt(&queue, order.seq).await;
    let mut dues = Vec::new();
    for _ in 0..2 {
        let completed = queue.complete(first, failure, again.clone(), usage.clone());
        dues.push(completed.await.expect("completed"));
    }
    assert!(dues[0] >= Some(order.due.after(1_000_000)));
    assert_eq!(dues[1], dues[0], "the second one changes nothing");
    let second = attempt(&queue, order.seq).await;
    // Another process completes the first attempt late.
    let late = queue.complete(first, None, Completion::Succeeded, usage.clone());
    late.await.expect("completed");
    assert_eq!(attempt(&queue, order.seq).await, second);
    for _ in 0..3 {
        let finished = Completion::Succeeded;
        let completed = queue.complete(second, None, finished, usage.clone());
        assert_eq!(completed.await.expect("completed"), None);
    }
    queue.meter(entry(10));
    queue.flush().await.expect("flushed");
    assert_eq!(counted(&queue).await, 12, "two runs, and ten calls");
    assert_eq!(queue.get(order.seq).await.expect("read").map(|_| ()), None);
    let row = queue.event(request(1)).await.expect("read");
    let row = row.expect("it is remembered");
    assert_eq!((row.state, row.status), (EventState::Finished, Some(200)));
    let backlog = queue.backlog().await.expect("read");
    assert_eq!((backlog.events, backlog.bytes), (0, 0));
    drop(queue);
    assert_eq!(counted(&open(directory.path())).await, 12);
}

#[tokio::test]
async fn dead_letter_waits_in_its_targets_queue_and_can_be_replayed() {
    let directory = tempfile::tempdir().expect("a directory");
    let queue = open(directory.path());
    let mut enqueued_events = queue.enqueued_events().expect("the first time");
    queue.accept(event(1, 3)).await.expect("accepted");
    let first = enqueued_events.recv().await.expect("notified").order;
    let target = DeadLetter::Http {
        url: "http://host/".into(),
        kind: "queue".into(),
    };
    let failed = Completion::Failed {
        why: "so".into(),
        to: Some(target.clone()),
    };
    let failure = Some(FailureKind::HandlerError);
    let run = attempt(&queue, first.seq).await;
    complete(&queue, first.seq, failure, failed).await;
    let dead_letter = enqueued_events.recv().await.expect("notified");
    assert_eq!(
        dead_letter.queue_key,
        QueueKey::DeadLetters(AccountId(1), target)
    );
    assert!(
        dead_letter.order.seq > first.seq,
        "a queue is notified of event numbers in order"
    );
    let kept = queue.get(dead_letter.order.seq).await.expect("read");
    let kept = kept.expect("a dead letter");
    assert_eq!(
        (kept.status, kept.message.as_deref()),
        (Some(430), Some("so"))
    );
    assert!(queue.replay(request(1)).await.expect("replayed"));
    assert!(!queue.replay(request(1)).await.expect("asked"), "it waits");
    let back = enqueued_events.recv().await.expect("notified");
    assert_eq!(back.queue_key, QueueKey::Function(function()));
    assert!(back.order.seq > dead_letter.order.seq);
    // The first attempt before the replay is not the first one after it.
    let late = queue.complete(run, None, Completion::Succeeded, None);
    assert_eq!(late.await.expect("completed"), Some(back.order.due));
    let backlog = queue.backlog().await.expect("read");
    assert_eq!((backlog.events, backlog.bytes), (1, ROW_BYTES + 3));
}

#[tokio::test]
async fn batch_is_one_commit_with_an_answer_per_event() {
    let directory = tempfile::tempdir().expect("a directory");
    let queue = open(directory.path());
    let mut enqueued_events = queue.enqueued_events().expect("the first time");
    let whole = usize::try_from(BUDGET.bytes).expect("a size");
    let events = vec![event(1, 3), event(2, whole), event(3, 3), event(1, 3)];
    let mut answers = queue.accept_batch(events).into_iter();
    for full in [false, true, false, false] {
        let answer = answers.next().expect("an answer for each").await;
        match answer {
            Ok(()) => assert!(!full),
            Err(error) => assert!(full && matches!(error, QueueError::Full { .. }), "{error}"),
        }
    }
    let enqueued: Vec<_> = std::iter::from_fn(|| enqueued_events.try_recv().ok()).collect();
    assert_eq!(enqueued.len(), 2, "a duplicate request id is deduplicated");
    // All events of a commit have its time.
    assert_eq!(enqueued[0].order.due, enqueued[1].order.due);
    assert_eq!(next(&queue, None, 10).await.orders.len(), 2);
    assert!(queue.accept_batch(Vec::new()).is_empty());
}

#[tokio::test]
async fn full_queue_rejects_events_and_history_is_bounded() {
    let directory = tempfile::tempdir().expect("a directory");
    let queue = open(directory.path());
    let large = 100_000;
    let mut accepted = 0;
    while queue.accept(event(accepted, large)).await.is_ok() {
        accepted += 1;
        assert!(accepted < 100, "it is never full");
    }
    // An account may hold as much as it leaves free.
    assert_eq!(
        u64::from(accepted),
        BUDGET.bytes / 2 / (large as u64 + ROW_BYTES)
    );
    let refused = queue.accept(event(200, large)).await;
    assert!(matches!(refused, Err(QueueError::Quota { .. })));
    let whole = usize::try_from(BUDGET.bytes).expect("a size");
    let refused = queue.accept(event(200, whole)).await;
    assert!(matches!(refused, Err(QueueError::Full { .. })));
    for order in next(&queue, None, 100).await.orders {
        let finished = Completion::Succeeded;
        complete(&queue, order.seq, None, finished).await;
    }
    queue
        .accept(event(200, large))
        .await
        .expect("there is free capacity");
}

/// Returns an event of an account.
fn of(account: u64, number: u8, bytes: usize) -> NewEvent {
    let mut event = event(number, bytes);
    event.function.account = AccountId(account);
    event
}

/// Fills the quota of an account with events numbered from `first`. Returns their number.
async fn fill(queue: &SqliteQueue, account: u64, first: u8, bytes: usize) -> u8 {
    for number in 0..100 {
        match queue.accept(of(account, first + number, bytes)).await {
            Ok(()) => {}
            Err(QueueError::Quota { .. }) => return number,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the quota is never used up");
}

async fn is_over_quota(queue: &SqliteQueue, account: u64, number: u8, bytes: usize) -> bool {
    let accepted = queue.accept(of(account, number, bytes)).await;
    matches!(accepted, Err(QueueError::Quota { .. }))
}

#[tokio::test]
async fn account_at_its_quota_leaves_capacity_for_others_after_a_restart_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let queue = open(directory.path());
    let large = 50_000;
    let held = fill(&queue, 1, 0, large).await;
    assert_eq!(
        u64::from(held),
        BUDGET.bytes / 2 / (large as u64 + ROW_BYTES)
    );
    // Each account gets half of the free capacity.
    let others = [
        fill(&queue, 2, 100, large).await,
        fill(&queue, 3, 120, large).await,
    ];
    assert!(others[0] >= held / 2 && others[1] >= held / 4, "{others:?}");
    drop(queue);
    let queue = open(directory.path());
    for (account, number) in [(1, 200), (2, 201), (3, 202)] {
        assert!(is_over_quota(&queue, account, number, large).await);
    }
    queue.accept(of(4, 203, large)).await.expect("accepted");
    let bytes = queue.backlog().await.expect("read").bytes;
    let events = u64::from(held + others[0] + others[1] + 1);
    assert_eq!(bytes, events * (large as u64 + ROW_BYTES));
}

#[tokio::test]
async fn completed_events_release_quota_and_dead_events_hold_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let queue = open(directory.path());
    let large = 50_000;
    fill(&queue, 1, 0, large).await;
    let orders = next(&queue, None, 100).await.orders;
    let failure = Some(FailureKind::HandlerError);
    let target = || DeadLetter::Http {
        url: "http://host/".into(),
        kind: "queue".into(),
    };
    let (why, failures) = (String::new(), Failures::default());
    let delay = 0;
    let stays = [
        Completion::Retry { delay, failures },
        Completion::Failed {
            why: why.clone(),
            to: None,
        },
        Completion::Failed {
            why,
            to: Some(target()),
        },
    ];
    for (order, stays) in orders.iter().zip(stays) {
        complete(&queue, order.seq, failure, stays).await;
        assert!(is_over_quota(&queue, 1, 200, large).await);
    }
    assert!(queue.replay(request(1)).await.expect("replayed"));
    assert!(is_over_quota(&queue, 1, 200, large).await);
    for (number, (order, ends)) in orders[3..]
        .iter()
        .zip([
            Completion::Succeeded,
            Completion::Aborted,
            Completion::Delivered,
        ])
        .enumerate()
    {
        complete(&queue, order.seq, failure, ends).await;
        let number = 200 + number as u8;
        queue.accept(of(1, number, large)).await.expect("accepted");
        assert!(is_over_quota(&queue, 1, 250, large).await);
    }
    let cancels = [request(0), request(1), request(2)];
    for (number, cancelled) in cancels.into_iter().enumerate() {
        let waits = queue
            .terminate(cancelled, FailureKind::Cancelled)
            .await
            .expect("asked");
        assert_eq!(
            waits,
            number < 2,
            "one waits again, one was replayed, and one is undelivered"
        );
        let failed = queue.discard(cancelled).await.expect("asked");
        assert_eq!(failed, number == 2);
        let number = 220 + number as u8;
        queue.accept(of(1, number, large)).await.expect("accepted");
        assert!(is_over_quota(&queue, 1, 250, large).await);
    }
    // A dead letter that becomes an event was accepted before, so it may exceed the quota.
    let mut dead_letter = of(1, 210, large);
    dead_letter.source = EventOrigin::DeadLetter;
    queue.accept(dead_letter).await.expect("accepted");
    queue.close(AccountId(1)).await.expect("closed");
    while queue.purge_some(AccountId(1)).await.expect("purged") > 0 {}
    let backlog = queue.backlog().await.expect("read");
    assert_eq!((backlog.events, backlog.bytes), (0, 0));
    drop(queue);
    let queue = open(directory.path());
    queue.accept(of(1, 1, 3)).await.expect("reported as stored");
    let counts = queue.account_counts(AccountId(1)).await.expect("read");
    assert_eq!(counts, AccountCounts::default(), "an account stays closed");
}

#[tokio::test]
async fn usage_that_a_kill_kept_from_the_ledger_is_counted_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let queue = open(directory.path());
    queue.meter(entry(10));
    queue.flush().await.expect("flushed");
    drop(queue);
    // The entries of a process that was killed before they were counted.
    let id = UsageJournal::id_of(directory.path()).expect("an id");
    let (mut journal, uncounted) = UsageJournal::open(directory.path(), id, 1).expect("a journal");
    assert_eq!(uncounted, []);
    for _ in 0..3 {
        journal.append(&entry(1), 1).expect("appended");
    }
    drop(journal);
    for _ in 0..3 {
        let queue = open(directory.path());
        queue.flush().await.expect("flushed");
        assert_eq!(counted(&queue).await, 13);
    }
}

#[tokio::test]
async fn history_beyond_its_budget_is_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let budget = Budget {
        bytes: 1 << 30,
        ..BUDGET
    };
    let queue = SqliteQueue::open(&directory.path().join("events.sqlite"), budget);
    let queue = queue.expect("a queue");
    // More than a removal takes.
    let many: u32 = 5000;
    let events = (0..many).map(|number| {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        NewEvent {
            request: RequestId::from_bytes(bytes),
            ..event(0, 3)
        }
    });
    for accepted in queue.accept_batch(events.collect()) {
        accepted.await.expect("accepted");
    }
    let orders = next(&queue, None, many as usize).await.orders;
    let mut completions = Vec::new();
    for order in orders {
        let attempt = attempt(&queue, order.seq).await;
        completions.push(queue.complete(attempt, None, Completion::Succeeded, None));
    }
    for completion in completions {
        completion.await.expect("completed");
    }
    let ended = async || {
        let counts = queue.account_counts(AccountId(1)).await.expect("read");
        counts.ended
    };
    // Checks follow commits. The budget is ten events, and a check waits until it can remove many.
    for number in 0.. {
        assert!(number < 10_000, "{} are left", ended().await);
        if ended().await <= 2010 {
            break;
        }
        queue.flush().await.expect("flushed");
    }
}

#[tokio::test]
async fn events_of_one_commit_share_one_quota_check() {
    let directory = tempfile::tempdir().expect("a directory");
    let queue = open(directory.path());
    let large = 50_000;
    let events = (0..30).map(|number| of(1, number, large));
    let others = (0..3).map(|number| of(2, 100 + number, large));
    let answers = queue.accept_batch(events.chain(others).collect());
    let mut accepted = Vec::new();
    for answer in answers {
        accepted.push(answer.await.is_ok());
    }
    let quota = BUDGET.bytes / 2 / (large as u64 + ROW_BYTES);
    let first = accepted[..30].iter().filter(|accepted| **accepted).count();
    assert_eq!(first as u64, quota);
    assert_eq!(accepted[30..], [true; 3]);
}

/// A file of version 1. Never edit: it represents files on users' disks.
const VERSION_1: &str = "
    CREATE TABLE lane (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE);
    CREATE TABLE event (
        seq INTEGER PRIMARY KEY, request BLOB NOT NULL UNIQUE, function INTEGER NOT NULL, lane INTEGER NOT NULL,
        due INTEGER NOT NULL, state INTEGER NOT NULL, source TEXT NOT NULL, qualifier TEXT NOT NULL, routing TEXT,
        accepted INTEGER NOT NULL, ended INTEGER, user_failures INTEGER NOT NULL, system_failures INTEGER NOT NULL,
        status INTEGER, message TEXT, body BLOB
    );
    INSERT INTO lane VALUES (1, 'function/1/default/fun');
    INSERT INTO lane VALUES (2, 'letters/1/{\"Function\":{\"namespace\":\"default\",\"name\":\"dead\"}}');
    CREATE INDEX queued ON event (lane, due, seq) WHERE state <= 1;
    INSERT INTO event VALUES (1, x'01010101010101010101010101010101', 1, 1, 5, 0, 'API', '$LATEST', NULL, 5, NULL, 0, 0, NULL, NULL, x'7b7d');
    INSERT INTO event VALUES (2, x'02020202020202020202020202020202', 1, 2, 6, 1, 'API', '$LATEST', NULL, 5, 6, 0, 0, 500, 'why', x'7b7d');
    PRAGMA user_version = 1;
";

#[tokio::test]
async fn version_1_file_is_migrated_and_newer_file_is_rejected() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("events.sqlite");
    let old = Connection::open(&path).expect("a file");
    old.execute_batch(VERSION_1).expect("version 1");
    let queue = open(directory.path());
    let left = queue.get(1).await.expect("read").expect("an event");
    assert_eq!((left.request, left.depth), (request(1), RecursionDepth(0)));
    assert_eq!(left.trace, None);
    let target = DeadLetter::Function {
        namespace: Namespace::default(),
        name: FunctionName::parse("dead").expect("a name"),
    };
    let dead_letters = QueueKey::DeadLetters(AccountId(1), target);
    let queues = queue.nonempty_queues().await.expect("read");
    assert!(queues.contains(&dead_letters), "{queues:?}");
    let undelivered = queue.next(&dead_letters, None, 10).await.expect("read");
    assert_eq!(undelivered.orders.len(), 1);
    let undelivered = queue.get(2).await.expect("read").expect("an event");
    assert_eq!(undelivered.message.as_deref(), Some("why"));
    queue.accept(event(9, 1)).await.expect("accepted");
    let come = queue.get(3).await.expect("read").expect("an event");
    assert_eq!(come.depth, RecursionDepth(9));
    assert_eq!(come.trace, event(9, 1).trace);
    assert!(come.trace.is_some());
    drop(queue);
    let newer = format!("PRAGMA user_version = {}", crate::machine::VERSION + 1);
    old.execute_batch(&newer).expect("set");
    let refused = SqliteQueue::open(&path, BUDGET).expect_err("refused");
    assert!(refused.to_string().contains("newer virga"), "{refused}");
}
