//! The order of an authentication's checks, seen by a signature that records them.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use access::{
    Access, AccessRules, AuthError, KnownActions, Nonce, Nonces, Operator, RateLimits, Signature,
    Signatures, operator_account,
};
use catalog::kv::MemoryKv;
use catalog::{Catalog, MasterKey, MasterKeys};
use model::{AccountId, Key, Secret, SecretId};

const ACCOUNT: AccountId = AccountId(1_250_000_000);
const WINDOW: i64 = 300;

/// A signature whose checks pass, but the one that is named.
#[derive(Default)]
struct Recorded {
    key: &'static str,
    token: Option<&'static str>,
    nonce: Option<&'static str>,
    fails: Option<&'static str>,
    checks: RefCell<Vec<&'static str>>,
}

impl Recorded {
    fn check(&self, name: &'static str) -> Result<(), &'static str> {
        self.checks.borrow_mut().push(name);
        if self.fails == Some(name) {
            return Err(name);
        }
        Ok(())
    }
}

impl Signature for Recorded {
    type Refused = &'static str;

    fn key_id(&self) -> &str {
        self.key
    }

    fn token(&self) -> Option<&str> {
        self.token
    }

    fn check_scheme(&self) -> Result<(), &'static str> {
        self.check("scheme")
    }

    fn check_scope(&self) -> Result<Option<Nonce>, &'static str> {
        self.check("scope")?;
        let now = clock::now_ms() / 1000;
        Ok(self.nonce.map(|text| Nonce {
            text: text.to_owned(),
            signed_at: now,
        }))
    }

    fn check_age(&self, _: i64, window: i64) -> Result<(), &'static str> {
        assert_eq!(window, WINDOW);
        self.check("age")
    }

    fn verify(&self, secret: &Secret, _: i64, window: i64) -> Result<(), &'static str> {
        assert_eq!((secret.reveal(), window), ("secret", WINDOW));
        self.check("signature")
    }

    fn check_action_signed(&self) -> Result<(), &'static str> {
        self.check("action")
    }
}

/// Access with the operator's key and three keys of its account.
async fn open(failures: u32) -> (Access, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let catalog = Catalog::open(Arc::new(MemoryKv::default()));
    let catalog = catalog.await.expect("a catalog");
    for (id, disabled, sign_action) in [
        ("plain", false, false),
        ("disabled", true, false),
        ("strict", false, true),
    ] {
        let key = Key {
            account: ACCOUNT,
            id: SecretId::parse(id).expect("an id"),
            secret: Secret::new("secret"),
            description: String::new(),
            policy: None,
            sign_action,
            disabled,
            added: 0,
        };
        catalog.create_key(&key).await.expect("created");
    }
    let operator = Operator {
        account: operator_account(ACCOUNT, 100_000_000_001).expect("an account"),
        key_id: "operator".to_owned(),
        secret: Secret::new("secret"),
    };
    let rules = AccessRules {
        region: "ap-guangzhou".to_owned(),
        actions: KnownActions::default(),
        rates: RateLimits::default(),
        failures,
        signatures: Signatures {
            window: WINDOW,
            sign_action: false,
            root_from_anywhere: false,
        },
    };
    let master = MasterKeys {
        first: MasterKey::new([1; 32]),
        older: Vec::new(),
    };
    let nonces = Nonces::open(&directory.path().join("nonces"), 0).expect("a file");
    let access = Access::new(catalog, operator, rules, &master, nonces);
    (access, directory)
}

/// Key, token, the check that fails, the checks that ran, and the error; `None` = authenticated.
type Row = (
    &'static str,
    Option<&'static str>,
    Option<&'static str>,
    &'static [&'static str],
    Option<AuthError<&'static str>>,
);

#[tokio::test]
async fn each_failure_ends_the_checks_in_their_order() {
    let (access, _directory) = open(0).await;
    static ALL: [&str; 3] = ["scheme", "scope", "signature"];
    let signature = |name| Some(AuthError::Signature(name));
    let rows: [Row; 11] = [
        ("plain", None, None, &ALL, None),
        ("operator", None, None, &ALL, None),
        (
            "plain",
            None,
            Some("scheme"),
            &ALL[..1],
            signature("scheme"),
        ),
        (
            "unknown",
            None,
            Some("scope"),
            &ALL[..2],
            signature("scope"),
        ),
        (
            "unknown",
            None,
            Some("signature"),
            &ALL[..2],
            Some(AuthError::UnknownKey),
        ),
        (
            "plain",
            Some("token"),
            Some("signature"),
            &ALL[..2],
            Some(AuthError::TokenUnexpected),
        ),
        (
            "plain",
            None,
            Some("signature"),
            &ALL,
            signature("signature"),
        ),
        // Without the secret, a disabled key looks like any other.
        (
            "disabled",
            None,
            Some("signature"),
            &ALL,
            signature("signature"),
        ),
        ("disabled", None, None, &ALL, Some(AuthError::DisabledKey)),
        (
            "AKIDTx",
            None,
            Some("signature"),
            &ALL[..2],
            Some(AuthError::TokenMissing),
        ),
        (
            "strict",
            None,
            Some("action"),
            &["scheme", "scope", "signature", "action"],
            signature("action"),
        ),
    ];
    for (key, token, fails, checks, expected) in rows {
        let request = Recorded {
            key,
            token,
            fails,
            ..Recorded::default()
        };
        let refused = access.authenticate(&request, None).err();
        assert_eq!(refused, expected, "{key} {fails:?}");
        assert_eq!(*request.checks.borrow(), checks, "{key} {fails:?}");
    }
}

#[tokio::test]
async fn head_is_checked_without_the_signature() {
    let (access, _directory) = open(0).await;
    for (key, fails, checks, expected) in [
        ("plain", None, &["scheme", "scope", "age"][..], None),
        (
            "plain",
            Some("age"),
            &["scheme", "scope", "age"],
            Some(AuthError::Signature("age")),
        ),
        (
            "unknown",
            Some("scope"),
            &["scheme"],
            Some(AuthError::UnknownKey),
        ),
    ] {
        let request = Recorded {
            key,
            fails,
            ..Recorded::default()
        };
        assert_eq!(
            access.check_head(&request).err(),
            expected,
            "{key} {fails:?}"
        );
        assert_eq!(*request.checks.borrow(), checks, "{key} {fails:?}");
    }
}

#[tokio::test]
async fn nonce_is_consumed_by_a_valid_signature_alone() {
    let (access, _directory) = open(0).await;
    let attempt = |fails| {
        let request = Recorded {
            key: "plain",
            nonce: Some("nonce"),
            fails,
            ..Recorded::default()
        };
        access.authenticate(&request, None).err()
    };
    assert_eq!(
        attempt(Some("signature")),
        Some(AuthError::Signature("signature"))
    );
    assert_eq!(attempt(None), None);
    assert_eq!(attempt(None), Some(AuthError::NonceUsed));
}

#[tokio::test]
async fn blocked_address_reaches_no_check_but_for_known_keys() {
    let (access, _directory) = open(1).await;
    let from: IpAddr = "192.0.2.1".parse().expect("an address");
    let attempt = |key, fails| {
        let request = Recorded {
            key,
            fails,
            ..Recorded::default()
        };
        let refused = access.authenticate(&request, Some(from)).err();
        let checks = request.checks.borrow().len();
        (refused, checks)
    };
    assert_eq!(attempt("plain", None), (None, 3));
    let mut failed = (0..10_000).map(|_| attempt("unknown", None));
    let blocked = failed.find(|failed| *failed != (Some(AuthError::UnknownKey), 2));
    assert_eq!(blocked, Some((Some(AuthError::Blocked), 0)));
    assert!(AuthError::<&str>::Blocked.is_throttled());
    assert_eq!(attempt("plain", None), (None, 3));
}
