//! Private objects stay private by every access path.

use crate::world::{APP, OWNER, Reply, STRANGER, TestRequest, World};

/// Creates a public, versioned bucket.
async fn public() -> World {
    let world = World::new().await;
    let open = [("x-amz-acl", "public-read")];
    world.with_headers("PUT", "/photos", &open, b"").await.ok();
    let keeps = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    world.ask("PUT", "/photos?versioning", keeps).await.ok();
    world
}

/// Puts a version, and returns its id.
async fn put(world: &World, acl: &str, body: &[u8]) -> String {
    let put = world
        .with_headers("PUT", "/photos/a", &[("x-amz-acl", acl)], body)
        .await
        .ok();
    put.header("x-amz-version-id").to_owned()
}

async fn ask(world: &World, key: &str, method: &str, query: &str) -> Reply {
    let path = format!("/photos-{APP}/a?{query}");
    let attributes = vec![("x-amz-object-attributes", "ETag,ObjectSize".to_owned())];
    world
        .send(TestRequest {
            key,
            method,
            path: path.trim_end_matches('?'),
            headers: attributes,
            body: Vec::new(),
        })
        .await
}

/// Copies the object into a stranger's bucket.
async fn take(world: &World, query: &str, condition: Option<(&str, String)>) -> Reply {
    let source = format!("/photos-{APP}/a{query}");
    let mut headers = vec![("x-amz-copy-source", source)];
    headers.extend(condition);
    world
        .send(TestRequest {
            key: STRANGER,
            method: "PUT",
            path: "/theirs/taken",
            headers,
            body: Vec::new(),
        })
        .await
}

#[tokio::test]
async fn object_acl_applies_per_version() {
    let world = public().await;
    world
        .send(TestRequest {
            key: STRANGER,
            method: "PUT",
            path: "/theirs",
            ..TestRequest::default()
        })
        .await
        .ok();
    let secret = put(&world, "private", b"secret").await;
    let open = put(&world, "public-read", b"open").await;
    for nobody in ["", STRANGER] {
        assert_eq!(ask(&world, nobody, "GET", "").await.ok().body, "open");
        for (method, query) in [
            ("GET", format!("versionId={secret}")),
            ("HEAD", format!("versionId={secret}")),
            ("GET", format!("attributes&versionId={secret}")),
        ] {
            let refused = ask(&world, nobody, method, &query).await;
            assert_eq!(refused.status, 403, "{method} {query}: {}", refused.text());
        }
    }
    let stolen = take(&world, &format!("?versionId={secret}"), None).await;
    assert_eq!(stolen.code(), (403, "AccessDenied".to_owned()));
    take(&world, &format!("?versionId={open}"), None).await.ok();

    // Conversely: a public version of an object that is private now.
    put(&world, "private", b"secret again").await;
    assert_eq!(ask(&world, "", "GET", "").await.status, 403);
    let query = format!("versionId={open}");
    assert_eq!(ask(&world, "", "GET", &query).await.ok().body, "open");
    ask(&world, "", "HEAD", &query).await.ok();
    let mine = ask(&world, OWNER, "GET", &format!("versionId={secret}")).await;
    assert_eq!(mine.ok().body, "secret");
}

#[tokio::test]
async fn conditional_copy_of_public_object() {
    let world = public().await;
    world
        .send(TestRequest {
            key: STRANGER,
            method: "PUT",
            path: "/theirs",
            ..TestRequest::default()
        })
        .await
        .ok();
    put(&world, "public-read", b"open").await;
    let etag = ask(&world, "", "HEAD", "").await.header("etag").to_owned();
    let when = |name, etag: &str| Some((name, etag.to_owned()));
    let refused = take(&world, "", when("x-amz-copy-source-if-none-match", &etag)).await;
    assert_eq!(refused.status, 412);
    let refused = take(&world, "", when("x-amz-copy-source-if-match", "\"other\"")).await;
    assert_eq!(refused.status, 412);
    take(&world, "", when("x-amz-copy-source-if-match", &etag))
        .await
        .ok();
}
