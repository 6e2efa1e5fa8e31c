//! Quotas of pending notices per account.

use bucket::Settings;
use rusqlite::Connection;

use crate::world::{OWNER, Reply, STRANGER, TestRequest, World};

const SETTINGS: fn() -> Settings = || Settings {
    notices: 40,
    guaranteed_notices: 4,
    ..Settings::default()
};

async fn put(world: &World, key: &str, object: &str) -> Reply {
    world
        .send(TestRequest {
            key,
            method: "PUT",
            path: &format!("/photos{object}"),
            ..TestRequest::default()
        })
        .await
}

/// Puts objects until the account is throttled. Returns how many were stored.
async fn fill(world: &World, key: &str) -> u64 {
    for number in 0..100 {
        let reply = put(world, key, &format!("/{number}")).await;
        if !reply.status.is_success() {
            assert_eq!(reply.code(), (503, "SlowDown".to_owned()));
            return number;
        }
    }
    panic!("it is never refused");
}

#[tokio::test]
async fn account_at_its_outbox_quota_does_not_block_others() {
    let world = World::with(SETTINGS()).await;
    for key in [OWNER, STRANGER] {
        put(&world, key, "").await.ok();
    }
    assert_eq!(fill(&world, OWNER).await, 20, "half of the capacity");
    assert_eq!(fill(&world, STRANGER).await, 10, "half of the rest");
    // Writes and deletions of the throttled account are refused; reads are not.
    let refused = world.ask("DELETE", "/photos/0", b"").await;
    assert_eq!(refused.code(), (503, "SlowDown".to_owned()));
    world.ask("GET", "/photos/0", b"").await.ok();
    // The counts survive a restart.
    let world = world.restart(SETTINGS()).await;
    assert_eq!(fill(&world, OWNER).await, 0);
    assert_eq!(fill(&world, STRANGER).await, 0);
    // The first account's notices are consumed in part.
    let outbox = world.store.outbox();
    outbox.done(15).await.expect("forgotten");
    assert_eq!(outbox.len(), 15);
    assert!(fill(&world, OWNER).await > 0);
}

#[tokio::test]
async fn guaranteed_notices_are_accepted_when_outbox_is_full() {
    let world = World::with(Settings {
        notices: 0,
        ..SETTINGS()
    })
    .await;
    for key in [OWNER, STRANGER] {
        put(&world, key, "").await.ok();
        assert_eq!(fill(&world, key).await, 4);
    }
}

#[tokio::test]
async fn notices_of_previous_schema_are_migrated_and_counted() {
    let world = World::with(SETTINGS()).await;
    put(&world, OWNER, "").await.ok();
    put(&world, OWNER, "/a").await.ok();
    world.store.close().await;
    let index = Connection::open(world.directory.path().join("index.sqlite")).expect("a file");
    index
        .execute_batch("ALTER TABLE outbox DROP COLUMN account")
        .expect("as it was");
    drop(index);
    let world = world.restart(SETTINGS()).await;
    assert_eq!(world.notices().await, ["cos:ObjectCreated:Put a 0"]);
    assert_eq!(world.store.outbox().len(), 1);
    put(&world, OWNER, "/b").await.ok();
    world.store.outbox().done(2).await.expect("forgotten");
    assert!(world.store.outbox().is_empty());
}
