//! What one account owns does not exist for another: every action of the API, made from its published description.

use scf::{ACTIONS, ActionInfo};
use serde_json::{Map, Value, json};
use testkit::{Client, package};

use crate::server;

/// The APIs as they are published: fields of each action, and which of them it needs.
const PUBLISHED: [&str; 2] = [
    include_str!("../../../scf/tests/api-2018-04-16.json"),
    include_str!("../../../scf/tests/tag-2018-08-13.json"),
];
const HELLO: &str = "def main_handler(e, c):\n    print('hush')\n    return 'hush'\n";

/// Names of one account's things, or of nobody's. They are of one length, so that answers can be compared.
struct Names {
    function: &'static str,
    namespace: &'static str,
    layer: &'static str,
    alias: &'static str,
    trigger: &'static str,
    domain: &'static str,
    request: String,
}

impl Names {
    fn owned(request: &str) -> Self {
        Self {
            function: "owned-fn",
            namespace: "owned-ns",
            layer: "owned-layer",
            alias: "owned-alias",
            trigger: "owned-tick",
            domain: "owned.example.com",
            request: request.to_owned(),
        }
    }

    fn nobodys() -> Self {
        Self {
            function: "nobody-f",
            namespace: "nobody-n",
            layer: "nobody-laye",
            alias: "nobody-alia",
            trigger: "nobody-tic",
            domain: "nobod.example.com",
            request: "01a20f52-ed16-7383-9faa-720091ed189e".into(),
        }
    }

    fn all(&self) -> [&str; 7] {
        [
            self.function,
            self.namespace,
            self.layer,
            self.alias,
            self.trigger,
            self.domain,
            &self.request,
        ]
    }

    /// A text without these names, so that those of two can be compared.
    fn hide(&self, text: &str) -> String {
        self.all()
            .iter()
            .fold(text.to_owned(), |text, name| text.replace(name, "…"))
    }

    /// The function as the tag service names it.
    fn tagged(&self) -> String {
        format!("{}/function/{}", self.namespace, self.function)
    }

    /// The same by six parts, without an owner.
    fn resource(&self) -> String {
        format!("qcs::scf:ap-guangzhou::namespace/{}", self.tagged())
    }

    /// What a field of a request holds.
    fn value(&self, field: &str) -> Value {
        match field {
            "FunctionName" => json!(self.function),
            "NewFunctionName" => json!(format!("{}-2", self.function)),
            "Namespace" => json!(self.namespace),
            "LayerName" => json!(self.layer),
            "Name" => json!(self.alias),
            "TriggerName" => json!(self.trigger),
            "Domain" => json!(self.domain),
            "FunctionRequestId" | "InvokeRequestId" => json!(self.request),
            "FunctionVersion" | "Qualifier" => json!("1"),
            "LayerVersion" => json!(1),
            "Type" => json!("timer"),
            "TriggerDesc" => json!("0 0 4 * * * *"),
            "Enable" => json!("OPEN"),
            "Code" | "Content" => json!({"ZipFile": package(&[("index.py", HELLO)])}),
            "Runtime" => json!("Python3.6"),
            "CompatibleRuntimes" => json!(["Python3.6"]),
            "ReservedConcurrencyMem" | "VersionProvisionedConcurrencyNum" => json!(128),
            "TotalConcurrencyMem" => json!(128_000),
            "AsyncTriggerConfig" => {
                json!({"RetryConfig": [{"RetryNum": 1}], "MsgTTL": 600})
            }
            "Description" => json!("of a layer or a namespace"),
            "Protocol" => json!("HTTP"),
            "EndpointsConfig" => {
                json!([{"Namespace": self.namespace, "FunctionName": self.function, "Qualifier": "$LATEST", "PathMatch": "/*"}])
            }
            "Resource" => json!(self.resource()),
            "ResourceList" => json!([self.resource()]),
            "ResourceIds" => json!([self.tagged()]),
            "ServiceType" => json!("scf"),
            "ResourcePrefix" => json!("namespace"),
            "ResourceRegion" => json!("ap-guangzhou"),
            "TagKey" => json!("colour"),
            "TagValue" => json!("grey"),
            "TagKeys" => json!(["colour"]),
            "Tags" | "ReplaceTags" => json!([{"TagKey": "colour", "TagValue": "grey"}]),
            other => panic!("{other} is needed by an action; give it a value here"),
        }
    }
}

/// A request of an action: what it needs, and the names that it may have.
fn request(action: &Value, names: &Names, with_namespace: bool) -> Value {
    let needed = action["required"].as_array().expect("a list");
    let fields = action["request"].as_object().expect("fields");
    let mut request = Map::new();
    for field in fields.keys().map(String::as_str) {
        let needed = needed.iter().any(|name| name == field);
        let name = match field {
            "Namespace" => with_namespace,
            "Domain" | "FunctionName" | "FunctionRequestId" | "InvokeRequestId" | "Runtime"
            | "ReplaceTags" | "ResourceList" => true,
            _ => false,
        };
        if needed || name {
            request.insert(field.to_owned(), names.value(field));
        }
    }
    // A function's kind is another field of the same name as a trigger's.
    if fields.contains_key("Handler") {
        request.remove("Type");
    }
    Value::Object(request)
}

/// Everything that an account can own.
fn furnish(client: &Client, names: &Names) -> String {
    client.ok("CreateNamespace", &json!({"Namespace": names.namespace}));
    let mut id = String::new();
    for space in ["default", names.namespace] {
        let of = |more: Value| {
            let mut request = json!({"FunctionName": names.function, "Namespace": space});
            request
                .as_object_mut()
                .expect("one")
                .extend(more.as_object().expect("one").clone());
            request
        };
        let tags = json!([{"Key": "colour", "Value": "grey"}]);
        let more = json!({"Namespace": space, "Tags": tags});
        client.create(names.function, HELLO, more);
        client.ok("PublishVersion", &of(json!({})));
        client.ok(
            "CreateAlias",
            &of(json!({"Name": names.alias, "FunctionVersion": "1"})),
        );
        client.ok(
            "PutReservedConcurrencyConfig",
            &of(json!({"ReservedConcurrencyMem": 1280})),
        );
        client.ok(
            "CreateTrigger",
            &of(json!({"TriggerName": names.trigger, "Type": "timer", "TriggerDesc": "0 0 4 * * * *", "Enable": "CLOSE"})),
        );
        let result = client.ok("Invoke", &of(json!({})))["Result"].take();
        id = result["FunctionRequestId"]
            .as_str()
            .expect("an id")
            .to_owned();
    }
    let layer = json!({"LayerName": names.layer, "CompatibleRuntimes": ["Python3.6"], "Content": names.value("Content")});
    client.ok("PublishLayerVersion", &layer);
    let domain = json!({"Domain": names.domain, "Protocol": "HTTP", "EndpointsConfig": names.value("EndpointsConfig")});
    client.ok("CreateCustomDomain", &domain);
    id
}

/// What an account sees of its own.
fn sight(client: &Client, names: &Names) -> Vec<Value> {
    let named = json!({"FunctionName": names.function, "Namespace": names.namespace});
    let rows = [
        ("ListFunctions", json!({"Namespace": names.namespace})),
        ("GetFunction", named.clone()),
        ("ListAliases", named.clone()),
        ("ListVersionByFunction", named.clone()),
        ("GetReservedConcurrencyConfig", named.clone()),
        ("ListTriggers", named),
        ("DescribeTags", json!({})),
        ("ListNamespaces", json!({})),
        ("ListLayers", json!({})),
        ("GetCustomDomain", json!({"Domain": names.domain})),
        ("GetAccount", json!({})),
    ];
    let see = |(action, request): (&str, Value)| {
        let mut seen = client.ok(action, &request);
        seen["RequestId"] = Value::Null;
        seen
    };
    rows.into_iter().map(see).collect()
}

#[test]
fn resources_of_another_account_look_like_missing_ones() {
    let server = server();
    let owner = server.client();
    let created = owner.operate("CreateAccount", &json!({"Name": "stranger"}));
    let stranger = owner.with_new_key(&created.expect("an account")["Key"]);
    let id = furnish(&owner, &Names::owned(""));
    let (owned, nobodys) = (Names::owned(&id), Names::nobodys());
    let before = sight(&owner, &owned);

    // Lists show nothing of it.
    let lists = [
        "List",
        "DescribeTags",
        "DescribeResourceTags",
        "GetResources",
    ];
    let lists = |action: &&ActionInfo| lists.iter().any(|list| action.name.starts_with(list));
    for action in ACTIONS.iter().filter(lists) {
        if let Ok(answer) = stranger.call(action.name, &json!({})) {
            let text = answer.to_string();
            let names = owned.all().into_iter().chain(["colour"]);
            let named = names.into_iter().find(|name| text.contains(name));
            assert_eq!(named, None, "{}: {text}", action.name);
        }
    }
    let account = stranger.ok("GetAccount", &json!({}));
    assert_eq!(account["AccountUsage"]["Namespace"][0]["FunctionsCount"], 0);

    // Every action answers for it as for nobody's. Those that make something come last, so that nothing is the stranger's
    // own before.
    let published = PUBLISHED.map(|text| serde_json::from_str::<Value>(text).expect("JSON"));
    let described = |action: &str| {
        let mut all = published.iter().map(|one| &one["actions"][action]);
        all.find(|one| one.is_object()).expect("a published action")
    };
    let makes = |name: &str| {
        ["Create", "Publish"]
            .iter()
            .any(|verb| name.starts_with(verb))
    };
    // A host name belongs to one account: for a taken one the error says so.
    let named = |action: &&ActionInfo| action.name != "CreateCustomDomain";
    let (last, first): (Vec<&ActionInfo>, Vec<&ActionInfo>) =
        ACTIONS.iter().partition(|action| makes(action.name));
    for action in first.into_iter().chain(last).filter(named) {
        let described = described(action.name);
        for with_namespace in [false, true] {
            let ask = |names: &Names| {
                let request = request(described, names, with_namespace);
                match stranger.call(action.name, &request) {
                    Err(refused) => (refused.code, names.hide(&refused.message)),
                    Ok(mut answer) => {
                        // Resources differ in random ids and times.
                        answer["RequestId"] = Value::Null;
                        (String::new(), names.hide(&answer.to_string()))
                    }
                }
            };
            let (theirs, none) = (ask(&owned), ask(&nobodys));
            assert_eq!(theirs, none, "{} {with_namespace}", action.name);
            // An answer that looked at no name proves nothing.
            assert!(
                !["MissingParameter", "InvalidParameter"].contains(&theirs.0.as_str()),
                "{}: {theirs:?}",
                action.name
            );
        }
    }
    assert_eq!(
        sight(&owner, &owned),
        before,
        "the owner's are as they were"
    );
}
