//! The catalog's guarantees: durability, compare-and-swap, quotas and change notification.
#![expect(clippy::expect_used, reason = "a test may end")]

use std::sync::Arc;

use catalog::kv::{Kv, MemoryKv, SqliteKv};
use catalog::{Catalog, Error};
use model::{
    AccountId, Function, FunctionConfig, FunctionId, FunctionKey, FunctionKind, FunctionName,
    FunctionState, Handler, Limits, MemoryMb, Namespace, NamespaceRecord, Runtime, Seconds,
};

const ACCOUNT: AccountId = AccountId(1);

fn function(namespace: &str, name: &str) -> Function {
    let limits = Limits::default();
    Function {
        id: FunctionId::from_random(7),
        key: FunctionKey {
            account: ACCOUNT,
            namespace: Namespace::parse(namespace).expect("a namespace"),
            name: FunctionName::parse(name).expect("a name"),
        },
        kind: FunctionKind::Event,
        runtime: Runtime::parse("Python3.11").expect("a runtime"),
        config: FunctionConfig {
            description: String::new(),
            handler: Handler::default(),
            memory: MemoryMb::default(),
            timeout: Seconds::timeout(3, &limits).expect("a timeout"),
            public_net: true,
            role: None,
            layers: Vec::new(),
            init_timeout: Seconds::init_timeout(65, &limits).expect("a timeout"),
            environment: Default::default(),
            web: Default::default(),
            dead_letter: None,
            echo: Default::default(),
        },
        code: None,
        pending: None,
        state: FunctionState::Creating,
        reasons: vec![],
        revision: 0,
        added: 0,
        modified: 0,
        tags: Default::default(),
        versions: Default::default(),
        reserved_mb: None,
        events: None,
        async_run: false,
        last_version: 0,
        aliases: Default::default(),
        triggers: Default::default(),
    }
}

fn namespace(name: &str) -> NamespaceRecord {
    let name = Namespace::parse(name).expect("a namespace");
    NamespaceRecord {
        name,
        description: String::new(),
        added: 0,
        modified: 0,
    }
}

async fn in_memory() -> Catalog {
    Catalog::open(Arc::new(MemoryKv::default()))
        .await
        .expect("a catalog")
}

#[tokio::test]
async fn acknowledged_writes_survive_restart_and_crash() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("catalog.db");
    let limits = Limits::default();
    let catalog = Catalog::open(Arc::new(SqliteKv::open(&path).expect("a store")))
        .await
        .expect("a catalog");
    for name in ["one", "two", "gone"] {
        catalog
            .create_function(&function("default", name), &limits)
            .await
            .expect("a new function");
    }
    let gone = catalog
        .function(&function("default", "gone").key)
        .expect("it was created");
    catalog.delete_function(&gone).await.expect("a removal");

    // A copy of the live files is in the state that a killed process leaves.
    let killed = tempfile::tempdir().expect("a directory");
    for file in ["catalog.db", "catalog.db-wal"] {
        std::fs::copy(directory.path().join(file), killed.path().join(file)).expect("a copy");
    }
    for path in [path, killed.path().join("catalog.db")] {
        let again = Catalog::open(Arc::new(SqliteKv::open(&path).expect("a store")))
            .await
            .expect("a catalog");
        let functions = again.functions(ACCOUNT, &Namespace::default());
        let names: Vec<_> = functions
            .iter()
            .map(|f| f.value.key.name.as_str())
            .collect();
        assert_eq!(names, ["one", "two"], "{}", path.display());
    }
}

#[tokio::test]
async fn stale_revision_is_rejected_with_conflict() {
    let catalog = in_memory().await;
    catalog
        .create_function(&function("default", "fn"), &Limits::default())
        .await
        .expect("a new function");
    let read = catalog
        .function(&function("default", "fn").key)
        .expect("it was created");
    let change = |description: &str| {
        let mut changed = read.value.clone();
        changed.config.description = description.into();
        changed
    };
    catalog
        .update_function(&read, &change("first"))
        .await
        .expect("the first change");
    let second = catalog.update_function(&read, &change("second")).await;
    assert!(matches!(second, Err(Error::Conflict)), "{second:?}");
    assert!(matches!(
        catalog.delete_function(&read).await,
        Err(Error::Conflict)
    ));
    let now = catalog
        .function(&read.value.key)
        .expect("it is still there");
    assert_eq!(
        now.value.config.description, "first",
        "a writer reads its own writes"
    );
}

#[tokio::test]
async fn concurrent_creates_never_exceed_the_quota() {
    let catalog = in_memory().await;
    let limits = Limits {
        functions_per_namespace: 5,
        namespaces: 3,
        ..Limits::default()
    };
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..40 {
        let (catalog, limits) = (catalog.clone(), limits.clone());
        tasks.spawn(async move {
            catalog
                .create_function(&function("default", &format!("fn{i}")), &limits)
                .await
        });
    }
    let results = tasks.join_all().await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 5);
    assert!(
        results
            .iter()
            .all(|r| matches!(r, Ok(()) | Err(Error::Quota(5))))
    );

    for name in ["aa", "bb"] {
        catalog
            .create_namespace(ACCOUNT, &namespace(name), &limits)
            .await
            .expect("a namespace");
    }
    let third = catalog
        .create_namespace(ACCOUNT, &namespace("cc"), &limits)
        .await;
    assert!(
        matches!(third, Err(Error::Quota(3))),
        "default counts: {third:?}"
    );
}

#[tokio::test]
async fn only_empty_namespace_can_be_deleted_and_default_needs_no_record() {
    let catalog = in_memory().await;
    let limits = Limits::default();
    let lost = catalog
        .create_function(&function("dev", "fn"), &limits)
        .await;
    assert!(matches!(lost, Err(Error::NoNamespace(_))));
    catalog
        .create_namespace(ACCOUNT, &namespace("dev"), &limits)
        .await
        .expect("a namespace");
    let twice = catalog
        .create_namespace(ACCOUNT, &namespace("dev"), &limits)
        .await;
    assert!(matches!(twice, Err(Error::Exists)));
    catalog
        .create_function(&function("dev", "fn"), &limits)
        .await
        .expect("a new function");
    let dev = Namespace::parse("dev").expect("a namespace");
    assert!(matches!(
        catalog.delete_namespace(ACCOUNT, &dev).await,
        Err(Error::NotEmpty(_))
    ));
    let stored = catalog
        .function(&function("dev", "fn").key)
        .expect("it was created");
    catalog.delete_function(&stored).await.expect("a removal");
    catalog
        .delete_namespace(ACCOUNT, &dev)
        .await
        .expect("it is empty");
    assert!(!catalog.has_namespace(ACCOUNT, &dev));
    assert!(catalog.has_namespace(ACCOUNT, &Namespace::default()));
    catalog
        .update_namespace(ACCOUNT, &namespace("default"))
        .await
        .expect("default can be described");
    assert!(matches!(
        catalog.update_namespace(ACCOUNT, &namespace("dev")).await,
        Err(Error::NoNamespace(_))
    ));
}

#[tokio::test]
async fn subscriber_receives_every_change_in_order() {
    let catalog = in_memory().await;
    let mut changes = catalog.subscribe();
    catalog
        .create_function(&function("default", "fn"), &Limits::default())
        .await
        .expect("a new function");
    let stored = catalog
        .function(&function("default", "fn").key)
        .expect("it was created");
    catalog.delete_function(&stored).await.expect("a removal");
    let created = changes.recv().await.expect("a change");
    assert_eq!(
        created.now.map(|f| f.value.key.name.to_string()),
        Some("fn".to_owned())
    );
    assert!(changes.recv().await.expect("a change").now.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_writes_never_exceed_the_size_quota() {
    const QUOTA: u64 = 20_000;
    let kv = Arc::new(MemoryKv::default());
    let catalog = Catalog::open_bounded(kv.clone(), QUOTA)
        .await
        .expect("a catalog");
    let limits = Limits {
        functions_per_namespace: 1000,
        ..Limits::default()
    };
    let mut writes = tokio::task::JoinSet::new();
    for n in 0..100 {
        let (catalog, limits) = (catalog.clone(), limits.clone());
        writes.spawn(async move {
            let mut new = function("default", &format!("fn-{n}"));
            new.config.description = "d".repeat(500);
            catalog.create_function(&new, &limits).await
        });
    }
    let (mut made, mut refused) = (0, 0);
    while let Some(done) = writes.join_next().await {
        match done.expect("it ended") {
            Ok(()) => made += 1,
            Err(Error::Bytes { quota: QUOTA, .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(made > 5 && refused > 5, "{made} made, {refused} refused");
    let used = catalog.bytes_of(ACCOUNT);
    assert!(used <= QUOTA, "{used}");
    let stored = kv.list("function/").await.expect("read");
    let sum: usize = stored.iter().map(|entry| entry.value.len()).sum();
    assert_eq!(used, sum as u64, "the counted size is the stored size");
    // Quota reserved by writes in progress was released.
    let each = used / made;
    assert!(
        QUOTA - used < each + 50,
        "{used} of {QUOTA} in records of {each}"
    );
    // Over quota, a write that shrinks a record is accepted, and accepted work completes.
    let old = catalog.functions(ACCOUNT, &Namespace::default());
    let mut changed = old[0].value.clone();
    changed.config.description = "d".repeat(5000);
    let larger = catalog.update_function(&old[0], &changed).await;
    assert!(matches!(larger, Err(Error::Bytes { .. })), "{larger:?}");
    catalog
        .complete_code_update(&old[0], &changed)
        .await
        .expect("the quota does not apply");
    changed.config.description.clear();
    let read = catalog.function(&changed.key).expect("it is there");
    let smaller = catalog.update_function(&read, &changed).await;
    smaller.expect("it shrinks the record");
    // Sizes are recounted when the store is opened, and a store over quota opens.
    let again = Catalog::open_bounded(kv, 100).await.expect("a catalog");
    assert_eq!(again.bytes_of(ACCOUNT), catalog.bytes_of(ACCOUNT));
    for function in again.functions(ACCOUNT, &Namespace::default()) {
        again.delete_function(&function).await.expect("removed");
    }
    assert_eq!(again.bytes_of(ACCOUNT), 0);
}
