use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusBuilder;
use model::{AccountId, FunctionKey, RequestId};

use super::queued_sink::QUEUE_BYTES;
use super::text::tests::record;
use super::*;

/// Returns a record of an account. Its log is shared, so that many are cheap.
pub(super) fn of(account: u64, number: u32, log: &Bytes) -> Record {
    let mut id = [0; 16];
    id[..6].copy_from_slice(&clock::now_ms().to_be_bytes()[2..]);
    id[6..14].copy_from_slice(&account.to_be_bytes());
    id[14..].copy_from_slice(&(number as u16).to_be_bytes());
    let record = record();
    Record {
        request: RequestId::from_bytes(id),
        function: FunctionKey {
            account: AccountId(account),
            ..record.function.clone()
        },
        log: log.clone(),
        ..record
    }
}

#[test]
fn stalled_writer_drops_records_of_the_account_with_most_waiting_and_counts_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = LogStoreSettings {
        retention: Duration::from_secs(3600),
        max_bytes: 1 << 30,
    };
    let store = LogStore::open(&directory.path().join("logs.sqlite"), settings).expect("a store");
    let metrics = Arc::new(Metrics::noop());
    let log = InvocationLog::start(store.clone(), metrics.clone()).expect("started");
    let telemetry = Telemetry::new([metrics as Arc<dyn Sink>, Arc::new(log.clone())]);
    // From here on the writer waits for records and not for the store.
    telemetry.flush();
    let stalled = store.hold();
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let dropped = || -> u64 {
        let metrics = handle.render();
        let mut lines = metrics.lines();
        let count = lines.find_map(|line| line.strip_prefix("virga_log_records_dropped_total "));
        count.map_or(0, |count| count.parse().expect("a number"))
    };
    let long = Bytes::from(vec![b'x'; 256 << 10]);
    let fit = QUEUE_BYTES / of(1, 0, &long).weight();
    ::metrics::with_local_recorder(&recorder, || {
        // Once the writer has taken this record, it waits for the store.
        telemetry.report(of(3, 0, &long));
        while log.queued_bytes() > 0 {
            std::thread::yield_now();
        }
        let mut number = 0;
        while dropped() < 50 {
            telemetry.report(of(1, number, &long));
            number += 1;
        }
        assert_eq!(number as usize, fit + 50);
        let before = dropped();
        // Another account reports its half of the capacity while the flood continues.
        for number in 0..fit as u32 / 2 {
            telemetry.report(of(2, number, &long));
            telemetry.report(of(1, 40_000 + number, &long));
        }
        assert_eq!(
            dropped(),
            before + (fit as u64 / 2) * 2,
            "only records of the flooding account are dropped"
        );
    });
    drop(stalled);
    telemetry.flush();
    let found = |account| store.account_counts(AccountId(account)).expect("counted");
    let half = fit as u64 / 2;
    assert_eq!((found(1), found(2)), (fit as u64 - half, half));
}

/// A destination that notes what it is given, and then waits for leave to go on.
#[derive(Debug)]
struct Held {
    given: SyncSender<usize>,
    leave: Mutex<Receiver<()>>,
}

impl RecordWriter for Held {
    type Error = std::convert::Infallible;

    const NAME: &'static str = "held";

    fn write(&self, batch: &[Arc<Record>]) -> Result<(), Self::Error> {
        let _ = self.given.send(batch.len());
        let leave = self.leave.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = leave.recv();
        Ok(())
    }

    fn lost(&self, _: usize) {}
}

#[test]
fn sink_that_hangs_delays_neither_reports_nor_other_sinks() {
    let sink = || {
        let (given, gets) = sync_channel(1000);
        let (go, leave) = sync_channel(1000);
        let leave = Mutex::new(leave);
        let sink = QueuedSink::start(Held { given, leave }).expect("started");
        (Arc::new(sink), gets, go)
    };
    let (hanging, hanging_gets, let_go) = sink();
    let (quick, quick_gets, quick_go) = sink();
    for _ in 0..1000 {
        quick_go.send(()).expect("sent");
    }
    let telemetry = Telemetry::new([hanging as Arc<dyn Sink>, quick]);
    telemetry.report(of(1, 0, &Bytes::new()));
    assert_eq!(hanging_gets.recv(), Ok(1), "it hangs from here on");
    for number in 1..100 {
        telemetry.report(of(1, number, &Bytes::new()));
    }
    let mut delivered = 0;
    while delivered < 100 {
        delivered += quick_gets.recv().expect("a batch");
    }
    assert_eq!(hanging_gets.try_recv().ok(), None, "it still hangs");
    for _ in 0..1000 {
        let_go.send(()).expect("sent");
    }
    telemetry.flush();
    assert_eq!(hanging_gets.try_iter().sum::<usize>(), 99);
}

#[test]
fn gauges_are_read_for_each_export() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let gauges = Gauges::new(Arc::new(Metrics::noop()));
    let waiting = Arc::new(Mutex::new(0));
    let read = waiting.clone();
    gauges.register(move |metrics| {
        let count = *read.lock().expect("a number");
        async move { metrics.waiting(count) }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime");
    ::metrics::with_local_recorder(&recorder, || {
        for count in [3, 5, 0] {
            *waiting.lock().expect("a number") = count;
            runtime.block_on(gauges.gather());
            let page = handle.render();
            let line = format!("virga_requests_waiting {count}");
            assert!(page.lines().any(|given| given == line), "{page}");
        }
    });
}
