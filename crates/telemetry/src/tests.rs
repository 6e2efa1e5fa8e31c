use std::time::Duration;

use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusBuilder;
use model::{FunctionKey, RequestId};

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
    let telemetry = Telemetry::start(store.clone(), Arc::new(Metrics::noop())).expect("started");
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
        while telemetry.record_queue.bytes() > 0 {
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
