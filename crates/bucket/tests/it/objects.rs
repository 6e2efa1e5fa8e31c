//! Objects: put, get, list, delete.

use crate::world::{APP, OWNER, STRANGER, TestRequest, World};

#[tokio::test]
async fn get_returns_what_was_put() {
    let world = World::new().await;
    world.ask("PUT", "/photos", b"").await.ok();
    for (key, size) in [
        ("empty", 0),
        ("small", 5),
        ("inline", 16 * 1024),
        ("file", 16 * 1024 + 1),
        ("large", 3_000_000),
    ] {
        let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let path = format!("/photos/{key}");
        let put = world
            .with_headers(
                "PUT",
                &path,
                &[("content-type", "image/x"), ("x-amz-meta-a", "b")],
                &bytes,
            )
            .await
            .ok();
        let got = world.ask("GET", &path, b"").await.ok();
        assert_eq!(got.body, bytes, "{key}");
        assert_eq!(got.header("etag"), put.header("etag"));
        assert_eq!(got.header("content-type"), "image/x");
        assert_eq!(got.header("x-amz-meta-a"), "b");
        let head = world.ask("HEAD", &path, b"").await.ok();
        assert_eq!(head.header("content-length"), size.to_string());
    }
    assert_eq!(world.files(), 2);
    let listed = world.ask("GET", "/photos?list-type=2", b"").await.ok();
    assert_eq!(
        listed.all("Key"),
        ["empty", "file", "inline", "large", "small"]
    );
    let notices = world.notices().await;
    assert_eq!(notices.len(), 5);
    assert_eq!(notices[1], "cos:ObjectCreated:Put small 5");
}

#[tokio::test]
async fn bucket_names_are_full_or_short() {
    let world = World::new().await;
    world.ask("PUT", "/photos", b"").await.ok();
    world.ask("PUT", "/photos/a", b"1").await.ok();
    let full = format!("/photos-{APP}/a");
    assert_eq!(world.ask("GET", &full, b"").await.ok().body, "1");
    let listed = world.ask("GET", "/", b"").await.ok();
    assert_eq!(listed.all("Name"), ["photos"]);
    // The short name resolves in the other account, and the full name is refused.
    let ask = |method, path| TestRequest {
        key: STRANGER,
        method,
        path,
        ..TestRequest::default()
    };
    assert_eq!(
        world.send(ask("GET", "/photos/a")).await.code(),
        (404, "NoSuchBucket".to_owned())
    );
    assert_eq!(
        world.send(ask("GET", &full)).await.code(),
        (403, "AccessDenied".to_owned())
    );
    let taken = world.ask("PUT", "/photos", b"").await;
    assert_eq!(taken.code(), (409, "BucketAlreadyOwnedByYou".to_owned()));
}

#[tokio::test]
async fn wrong_signatures_are_refused() {
    let world = World::new().await;
    world.ask("PUT", "/photos", b"").await.ok();
    let unknown = world
        .send(TestRequest {
            key: "AKIDnobody",
            method: "GET",
            path: "/photos",
            ..TestRequest::default()
        })
        .await;
    assert_eq!(unknown.code(), (403, "InvalidAccessKeyId".to_owned()));
    let nobody = world
        .send(TestRequest {
            method: "GET",
            path: "/photos",
            ..TestRequest::default()
        })
        .await;
    assert_eq!(nobody.code(), (403, "AccessDenied".to_owned()));
    let other = TestRequest {
        key: OWNER,
        method: "PUT",
        path: "/photos/a",
        headers: vec![("x-amz-content-sha256", "0".repeat(64))],
        body: b"bytes".to_vec(),
    };
    assert_eq!(
        world.send(other).await.code(),
        (400, "XAmzContentSHA256Mismatch".to_owned())
    );
    assert_eq!(
        world.ask("GET", "/photos/a", b"").await.code(),
        (404, "NoSuchKey".to_owned())
    );
}

#[tokio::test]
async fn acknowledged_writes_survive_restart() {
    let mut world = World::new().await;
    world.ask("PUT", "/photos", b"").await.ok();
    let large = vec![7; 100_000];
    world.ask("PUT", "/photos/a", b"1").await.ok();
    world.ask("PUT", "/photos/b", &large).await.ok();
    world = world.restart(Default::default()).await;
    assert_eq!(world.ask("GET", "/photos/a", b"").await.ok().body, "1");
    assert_eq!(world.ask("GET", "/photos/b", b"").await.ok().body, large);
    world.ask("DELETE", "/photos/b", b"").await.ok();
    assert_eq!(world.notices().await.len(), 3);
    assert_eq!(
        world.ask("DELETE", "/photos", b"").await.code(),
        (409, "BucketNotEmpty".to_owned())
    );
    world.ask("DELETE", "/photos/a", b"").await.ok();
    world.ask("DELETE", "/photos", b"").await.ok();
}

#[tokio::test]
async fn new_notice_wakes_outbox_when_others_are_forgotten_in_same_commit() {
    let world = World::new().await;
    world.ask("PUT", "/photos", b"").await.ok();
    let mut outbox = world.store.outbox();
    let mut reached = 0;
    for round in 0..50 {
        let key = format!("{round}");
        // Writes that arrive during a commit share the next one.
        let (other, put, forgot) = tokio::join!(
            outbox.done(0),
            world.append(&key, 0, b"x"),
            outbox.done(reached)
        );
        other.and(forgot).expect("forgotten");
        assert_eq!(put, 1);
        let notices = tokio::time::timeout(std::time::Duration::from_secs(10), outbox.changed());
        notices.await.expect("a wake-up");
        let notices = outbox.next(reached, 10).await.expect("notices");
        assert_eq!(notices.len(), 1);
        reached = notices[0].0;
    }
}
