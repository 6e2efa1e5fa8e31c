//! Appendable objects.

use bucket::store::Get;
use futures_util::StreamExt;

use crate::world::{World, eventually, object, photos};

/// Size of which two do not fit into one row of the index.
const LONG: usize = 9 << 10;

async fn world() -> World {
    let world = World::new().await;
    world.ask("PUT", "/photos", b"").await.ok();
    world
}

/// Creates a log of many rows and returns its content.
async fn long_log(world: &World, pieces: usize) -> Vec<u8> {
    let mut whole = Vec::new();
    for piece in 0..pieces {
        let bytes = vec![piece as u8; LONG];
        world.append("log", whole.len() as u64, &bytes).await;
        whole.extend(bytes);
    }
    whole
}

#[tokio::test]
async fn short_appends_are_merged_into_few_rows() {
    let mut world = world().await;
    let mut whole = String::new();
    for number in 0..400 {
        let line = format!("line {number} of a log whose lines are short, as those of logs are\n");
        let next = world
            .append("log", whole.len() as u64, line.as_bytes())
            .await;
        whole.push_str(&line);
        assert_eq!(next, whole.len() as u64);
    }
    assert!(whole.len() > 16 << 10, "more than one row");
    assert!(world.rows() <= 3, "{} rows", world.rows());
    // A copy has its own rows.
    let copied = [("x-amz-copy-source", "/photos/log")];
    world
        .with_headers("PUT", "/photos/copy", &copied, b"")
        .await
        .ok();
    world.append("log", whole.len() as u64, b"more").await;
    assert_eq!(
        world.ask("GET", "/photos/copy", b"").await.ok().text(),
        whole
    );
    whole.push_str("more");
    world = world.restart(Default::default()).await;
    assert_eq!(
        world.ask("GET", "/photos/log", b"").await.ok().text(),
        whole
    );
    let (from, to) = (16_000, 17_000);
    let range = format!("bytes={from}-{to}");
    let got = world
        .with_headers("GET", "/photos/log", &[("range", &range)], b"")
        .await
        .ok();
    assert_eq!(got.text(), whole[from..=to]);
}

#[tokio::test]
async fn appends_to_a_long_object_merge_into_the_last_row() {
    let world = world().await;
    let mut whole = long_log(&world, 20).await;
    let rows = world.rows();
    for line in [&b"one\n"[..], b"two\n", b"three\n"] {
        world.append("log", whole.len() as u64, line).await;
        whole.extend(line);
    }
    assert_eq!(world.rows(), rows);
    let got = world.ask("GET", "/photos/log", b"").await.ok();
    assert!(got.body == whole);
}

#[tokio::test]
async fn reader_of_long_object_survives_append_and_delete() {
    let world = world().await;
    let whole = long_log(&world, 200).await;
    let got = world
        .store
        .get(&photos(), &object("log"), Get::default())
        .await
        .expect("got");
    let mut content = got.content.into_stream();
    let mut read = content.next().await.expect("bytes").expect("read").to_vec();
    // The last row is replaced, and then no object references any.
    world.append("log", whole.len() as u64, b"more").await;
    world.ask("DELETE", "/photos/log", b"").await.ok();
    assert_eq!(
        world.ask("GET", "/photos/log", b"").await.code(),
        (404, "NoSuchKey".to_owned())
    );
    while let Some(bytes) = content.next().await {
        read.extend(bytes.expect("read"));
    }
    assert!(read == whole);
    drop(content);
    eventually("its rows are gone", || world.rows() == 0).await;
}

#[tokio::test]
async fn pinned_rows_are_removed_after_restart() {
    let world = world().await;
    long_log(&world, 200).await;
    let got = world
        .store
        .get(&photos(), &object("log"), Get::default())
        .await
        .expect("got");
    world.ask("DELETE", "/photos/log", b"").await.ok();
    let world = world.restart(Default::default()).await;
    eventually("its rows are gone", || world.rows() == 0).await;
    drop(got);
}
