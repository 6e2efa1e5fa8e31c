use std::time::Duration;

use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusBuilder;
use model::{FunctionKey, RequestId};

use super::text::tests::record;
use super::*;

/// A record of an account. Its log is shared, so that many are cheap to make.
fn of(account: u64, number: u32, log: &Bytes) -> Record {
    let mut id = [0; 16];
    id[..6].copy_from_slice(&crate::clock::now_ms().to_be_bytes()[2..]);
    id[6..14].copy_from_slice(&account.to_be_bytes());
    // Two bytes are enough for the numbers here.
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
    let settings = Settings {
        retention: Duration::from_secs(3600),
        max_bytes: 32 << 20,
    };
    let store = Store::open(&directory.path().join("logs.sqlite"), settings).expect("a store");
    let stalled = store.hold();
    let telemetry = Telemetry::start(store.clone(), Arc::new(Metrics::noop())).expect("started");
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let dropped = || -> u64 {
        let metrics = handle.render();
        let mut lines = metrics.lines();
        let count = lines.find_map(|line| line.strip_prefix("virga_log_records_dropped_total "));
        count.map_or(0, |count| count.parse().expect("a number"))
    };
    let long = Bytes::from(vec![b'x'; 256 << 10]);
    ::metrics::with_local_recorder(&recorder, || {
        let mut number = 0;
        while dropped() < 50 {
            telemetry.report(of(1, number, &long));
            number += 1;
        }
        assert!(number as usize * long.len() < QUEUE_BYTES, "{number}");
        let before = dropped();
        for number in 0..20 {
            telemetry.report(of(2, number, &long));
            telemetry.report(of(1, 40_000 + number, &long));
        }
        assert_eq!(dropped(), before + 20, "those of the loud account");
    });
    drop(stalled);
    telemetry.flush();
    let found = |account| store.belongings(AccountId(account)).expect("counted");
    assert!(found(1) > 0, "{}", found(1));
    assert_eq!(
        found(2),
        20,
        "no record of the other is lost, in the queue or in the store"
    );
}
