use super::Decision::{Allowed, ExplicitDeny, ImplicitDeny};
use super::*;

fn policy(statements: &[(&str, &str, &str)]) -> Policy {
    let statements: Vec<_> = statements
        .iter()
        .map(|(effect, action, resource)| {
            serde_json::json!({"effect": effect, "action": action, "resource": [resource]})
        })
        .collect();
    let text = serde_json::json!({"version": "2.0", "statement": statements}).to_string();
    Policy::parse(&text).expect("a policy")
}

fn decide(statements: &[(&str, &str, &str)], action: &str, path: &str) -> Decision {
    let resource = Resource {
        service: "scf",
        region: "ap-guangzhou",
        uin: "100000000001",
        app_id: 1_250_000_000,
        path,
    };
    policy(statements).decide("scf", &[action], &resource)
}

#[test]
fn statement_matches_by_action_and_resource() {
    const F: &str = "namespace/default/function/hello";
    let rows = [
        ("*", "*", "Invoke", F, Allowed),
        ("scf:*", "*", "Invoke", F, Allowed),
        ("scf:Invoke", "*", "Invoke", F, Allowed),
        ("name/scf:Invoke", "*", "Invoke", F, Allowed),
        (
            "scf:List*",
            "*",
            "ListFunctions",
            "namespace/default",
            Allowed,
        ),
        ("scf:List*", "*", "Invoke", F, ImplicitDeny),
        ("scf:invoke", "*", "Invoke", F, ImplicitDeny),
        ("cos:*", "*", "Invoke", F, ImplicitDeny),
        (
            "*",
            "qcs::scf:ap-guangzhou:uin/100000000001:namespace/default/function/hello",
            "Invoke",
            F,
            Allowed,
        ),
        (
            "*",
            "qcs::scf::uin/100000000001:namespace/default/function/*",
            "Invoke",
            F,
            Allowed,
        ),
        ("*", "qcs::scf:::namespace/default/*", "Invoke", F, Allowed),
        (
            "*",
            "qcs::scf:ap-*:uin/**:namespace/*/function/h*o",
            "Invoke",
            F,
            Allowed,
        ),
        ("*", "qcs::scf:::*", "ListLayers", "*", Allowed),
        ("*", "qcs::scf:ap-beijing::*", "Invoke", F, ImplicitDeny),
        ("*", "qcs::scf::uin/2:*", "Invoke", F, ImplicitDeny),
        ("*", "qcs::cos:::*", "Invoke", F, ImplicitDeny),
        (
            "*",
            "qcs::scf:::namespace/default/function/hell",
            "Invoke",
            F,
            ImplicitDeny,
        ),
        (
            "*",
            "qcs::scf:::namespace/default/function/hello2",
            "Invoke",
            F,
            ImplicitDeny,
        ),
        (
            "*",
            "qcs::scf:::namespace/default",
            "Invoke",
            F,
            ImplicitDeny,
        ),
        (
            "*",
            "qcs::scf:::namespace/default/function/hello",
            "ListLayers",
            "*",
            ImplicitDeny,
        ),
    ];
    for (actions, resource, action, path, expected) in rows {
        let found = decide(&[("allow", actions, resource)], action, path);
        assert_eq!(
            found, expected,
            "{actions} on {resource}: {action} of {path}"
        );
    }
}

#[test]
fn cos_resources_match_by_app_id_and_object_key() {
    let resource = Resource {
        service: "cos",
        region: "ap-guangzhou",
        uin: "100000000001",
        app_id: 1_250_000_000,
        path: "photos-1250000000/a/b.png",
    };
    let rows = [
        (
            "name/cos:PutObject",
            "qcs::cos:ap-guangzhou:uid/1250000000:photos-1250000000/*",
            Allowed,
        ),
        (
            "name/cos:*",
            "qcs::cos::uid/1250000000:photos-1250000000/a/*",
            Allowed,
        ),
        ("cos:PutObject", "qcs::cos:::photos-1250000000/*", Allowed),
        ("cos:PutObject", "qcs::cos::uin/100000000001:*", Allowed),
        ("cos:PutObject", "qcs::cos::uid/2:*", ImplicitDeny),
        (
            "cos:PutObject",
            "qcs::cos:::photos-1250000000/b/*",
            ImplicitDeny,
        ),
        ("cos:GetObject", "*", ImplicitDeny),
    ];
    for (action, pattern, expected) in rows {
        let policy = policy(&[("allow", action, pattern)]);
        let found = policy.decide("cos", &["PutObject"], &resource);
        assert_eq!(found, expected, "{action} on {pattern}");
    }
    let text = resource.to_string();
    assert_eq!(
        text,
        "qcs::cos:ap-guangzhou:uid/1250000000:photos-1250000000/a/b.png"
    );
}

#[test]
fn explicit_deny_overrides_allow_and_unmatched_action_is_denied() {
    let allow = ("allow", "scf:*", "*");
    let deny = ("deny", "scf:Delete*", "qcs::scf:::namespace/prod/*");
    for statements in [[allow, deny], [deny, allow]] {
        let prod = decide(&statements, "DeleteFunction", "namespace/prod/function/f");
        assert_eq!(prod, ExplicitDeny);
        let test = decide(&statements, "DeleteFunction", "namespace/test/function/f");
        assert_eq!(test, Allowed);
    }
    assert_eq!(decide(&[deny], "Invoke", "*"), ImplicitDeny);
    assert_eq!(decide(&[], "Invoke", "*"), ImplicitDeny);
}

#[test]
fn action_matches_by_any_of_its_names() {
    let resource = Resource {
        service: "scf",
        region: "r",
        uin: "1",
        app_id: 1,
        path: "*",
    };
    let names = &["Invoke", "InvokeFunction"];
    let allow = policy(&[("allow", "scf:InvokeFunction", "*")]);
    assert_eq!(allow.decide("scf", names, &resource), Allowed);
    // An action of another service with the same name does not match.
    assert_eq!(allow.decide("tag", names, &resource), ImplicitDeny);
    let deny = policy(&[("allow", "*", "*"), ("deny", "scf:InvokeFunction", "*")]);
    assert_eq!(deny.decide("scf", names, &resource), ExplicitDeny);
}

#[test]
fn unsupported_and_malformed_policies_are_rejected() {
    let statement = |more: &str| {
        format!(
            r#"{{"version":"2.0","statement":[{{"effect":"allow","action":["*"],"resource":["*"]{more}}}]}}"#
        )
    };
    assert!(Policy::parse(&statement("")).is_ok());
    let rows = [
        (statement(r#","condition":{}"#), "condition"),
        (statement(r#","principal":{}"#), "principal"),
        (statement("").replace("2.0", "1.0"), "\"2.0\" is"),
        (statement("").replace("allow", "permit"), "allow"),
        (
            statement("").replace(r#""action":["*"]"#, r#""action":[]"#),
            "must not be empty",
        ),
        (
            statement("").replace(r#""action":["*"]"#, r#""action":["Invoke"]"#),
            "scf:Invoke",
        ),
        (
            statement("").replace(r#""resource":["*"]"#, r#""resource":["qcs::scf:gz::*"]"#),
            "ap-guangzhou",
        ),
        (
            statement("").replace(r#""resource":["*"]"#, r#""resource":["hello"]"#),
            "qcs::scf",
        ),
        (
            statement("").replace(r#""resource":["*"]"#, r#""resource":["qcs::scf:::${uin}"]"#),
            "variable",
        ),
        (
            statement(&format!(r#","x":"{}""#, "y".repeat(TEXT_MAX))),
            "6144",
        ),
        ("[]".into(), "policy: "),
    ];
    for (text, part) in rows {
        let refused = Policy::parse(&text).expect_err("refused").to_string();
        assert!(refused.contains(part), "{part}: {refused}");
    }
}

#[test]
fn policy_round_trips_and_older_stored_policies_still_parse() {
    let text =
        r#"{"version":"2.0","statement":[{"effect":"deny","action":["scf:*"],"resource":["*"]}]}"#;
    let policy = Policy::parse(text).expect("a policy");
    assert_eq!(serde_json::to_string(&policy).expect("text"), text);
    let single =
        r#"{"version":"2.0","statement":{"effect":"deny","action":"scf:*","resource":"*"}}"#;
    assert_eq!(Policy::parse(single), Ok(policy));
    // Unknown actions are rejected when a policy is written, not when it is loaded: an older record must stay readable.
    let older = r#"{"version":"2.0","statement":[{"effect":"deny","action":["scf:DeleteFuncton"],"resource":["*"]}]}"#;
    let read: Policy = serde_json::from_str(older).expect("a policy");
    assert_eq!(serde_json::to_string(&read).expect("text"), older);
}

#[test]
fn wildcard_matches_any_text_in_bounded_time() {
    for (pattern, text, matches) in [
        ("", "", true),
        ("*", "", true),
        ("**", "abc", true),
        ("a*c", "abbc", true),
        ("a*c", "abcd", false),
        ("*ab", "aab", true),
        ("a*b*c", "axbxbxc", true),
        ("abc", "ab", false),
        ("ab", "abc", false),
    ] {
        assert_eq!(wildcard_match(pattern, text), matches, "{pattern} {text}");
    }
    assert!(!wildcard_match(&"*a".repeat(500), &"a".repeat(499)));
}

#[test]
fn fuzzed_policies_are_evaluated_consistently_or_refused() {
    let resource = |service, path| Resource {
        service,
        region: "ap-guangzhou",
        uin: "100000000001",
        app_id: 1_250_000_000,
        path,
    };
    let asked = [
        (
            "scf",
            ["Invoke"],
            resource("scf", "namespace/default/function/hello"),
        ),
        ("scf", ["DeleteFunction"], resource("scf", "*")),
        (
            "cos",
            ["GetObject"],
            resource("cos", "photos-1250000000/in/a.jpg"),
        ),
        (
            "tag",
            ["AddResourceTag"],
            resource("scf", "namespace/default/function/hello"),
        ),
    ];
    fuzzer::run("policy", 20_000, |input| {
        let text = String::from_utf8_lossy(input);
        let policy = match Policy::parse(&text) {
            Ok(policy) => policy,
            Err(refused) => return fuzzer::shape(&refused.to_string()),
        };
        let stored = serde_json::to_string(&policy).expect("JSON");
        let read: Policy = serde_json::from_str(&stored).expect("the same document");
        assert_eq!(read, policy);
        let decisions = asked.map(|(service, names, resource)| {
            let decision = policy.decide(service, &names, &resource);
            if decision == Decision::Allowed {
                assert!(policy.allows_any_action(&[service], &resource), "{text}");
            }
            decision
        });
        format!("{decisions:?} {}", policy.statements().count())
    });
}
