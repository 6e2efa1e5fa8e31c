//! Blobs: sweeping of unreferenced ones, and shared storage.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bucket::{Backend, Settings, Store};
use bytes::Bytes;
use futures_util::stream;
use object_store::local::LocalFileSystem;

use crate::world::{ObserveAll, World, eventually, files};

/// Name of an unreferenced blob.
const GARBAGE: &str = "00000000000000000000000000000000";

fn write(path: &Path) {
    fs::create_dir_all(path.parent().expect("a directory")).expect("made");
    fs::write(path, b"bytes").expect("written");
}

/// A world whose storage is shared with others.
async fn beside(place: &Path, directory: tempfile::TempDir) -> World {
    let external = LocalFileSystem::new_with_prefix(place).expect("a place");
    let backend = Backend::Remote(Arc::new(external));
    let settings = Settings::default();
    let store = Store::open_on(directory.path(), backend, settings, Arc::new(ObserveAll));
    World::over(store.expect("a store"), directory).await
}

#[tokio::test]
async fn stores_share_external_storage_by_prefix() {
    let place = tempfile::tempdir().expect("a place");
    let others = place.path().join("ff").join("f".repeat(32));
    write(&others);
    let large = vec![7; 100_000];
    let mut worlds = Vec::new();
    for _ in 0..2 {
        let world = beside(place.path(), tempfile::tempdir().expect("a directory")).await;
        world.ask("PUT", "/photos", b"").await.ok();
        world.ask("PUT", "/photos/a", &large).await.ok();
        worlds.push(world);
    }
    assert_eq!(files(place.path()), 3);
    let prefixes = fs::read_dir(place.path()).expect("a place").flatten();
    let prefixes = prefixes.map(|entry| entry.path());
    let prefixes: Vec<_> = prefixes.filter(|path| !path.ends_with("ff")).collect();
    assert_eq!(prefixes.len(), 2, "each has its own: {prefixes:?}");
    for prefix in &prefixes {
        write(&prefix.join("00").join(GARBAGE));
    }
    for world in worlds {
        world.store.close().await;
        let world = beside(place.path(), world.directory).await;
        assert!(world.ask("GET", "/photos/a", b"").await.ok().body == large);
    }
    let garbage = || {
        prefixes
            .iter()
            .any(|of| of.join("00").join(GARBAGE).exists())
    };
    eventually("garbage is removed", || !garbage()).await;
    assert_eq!(files(place.path()), 3);
    assert!(others.exists());
}

#[tokio::test]
async fn sweep_removes_only_unreferenced_blobs() {
    let world = World::new().await;
    world.ask("PUT", "/photos", b"").await.ok();
    world.ask("PUT", "/photos/a", &[7; 100_000]).await.ok();
    let blobs = world.directory.path().join("blobs");
    let garbage = [
        blobs.join("00").join(GARBAGE),
        blobs.join("00").join(format!("{GARBAGE}#1")),
    ];
    let others = [
        blobs.join("notes.txt"),
        blobs.join("é"),
        blobs.join("00").join("notes#1"),
        blobs.join("11").join(GARBAGE),
        blobs.join(GARBAGE),
    ];
    garbage.iter().chain(&others).for_each(|path| write(path));
    let world = world.restart(Settings::default()).await;
    let left = || garbage.iter().any(|path| path.exists());
    eventually("garbage is removed", || !left()).await;
    for other in others {
        assert!(other.exists(), "{} is not virga's", other.display());
    }
    world.ask("GET", "/photos/a", b"").await.ok();
}

#[tokio::test]
async fn aborted_upload_leaves_no_file() {
    let world = World::new().await;
    let used = world.store.used_bytes();
    let pieces = (0..40).map(|_| Ok(Bytes::from(vec![7; 100_000])));
    let broken = pieces.chain([Err(std::io::Error::other("the line is cut"))]);
    let refused = world.store.stage(stream::iter(broken), &[]).await;
    assert!(refused.expect_err("refused").to_string().contains("cut"));
    // A complete but uncommitted upload is removed, too.
    let pieces = (0..40).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![7; 100_000])));
    let staged = world.store.stage(stream::iter(pieces), &[]).await;
    drop(staged.expect("taken in"));
    eventually("nothing is left", || {
        world.files() == 0 && world.store.used_bytes() == used
    })
    .await;
}
