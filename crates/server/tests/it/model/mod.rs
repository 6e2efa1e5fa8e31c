//! Random actions against the real binary and a model of what they mean, by seed, with restarts and kills in between.
//!
//! `MODEL_SEEDS` says how many sequences to run, `MODEL_SEED` runs a single one again.

mod world;

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testkit::{Client, Random, Server, package};

use crate::server;
use world::{Action, Content, Function, Shown, World};

const SEEDS: u64 = 2;
const STEPS: u32 = 120;
const CODES: u64 = 6;

#[test]
fn catalog_matches_the_model_through_restarts_and_kills() {
    let given = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seeds = match given("MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..given("MODEL_SEEDS").unwrap_or(SEEDS) + 1,
    };
    for seed in seeds {
        let ran = thread::spawn(move || sequence(seed)).join();
        assert!(ran.is_ok(), "run it again with MODEL_SEED={seed}");
    }
}

fn sequence(seed: u64) {
    let mut random = Random::new(seed);
    let mut server = server();
    let mut client = server.client();
    let mut world = World::default();
    for step in 0..STEPS {
        let action = Action::draw(&mut random);
        match random.below(25) {
            0 => {
                assert!(server.terminate().success());
                server.restart();
                client = server.client();
                assert_eq!(
                    seen(&client),
                    world.shown,
                    "seed {seed}, step {step}: after a restart"
                );
            }
            1 | 2 => {
                killed_while(&mut server, &client, &mut world, &action, &mut random);
                client = server.client();
            }
            3 | 4 => answers(&client, &world, &mut random),
            _ => {
                let expected = world.apply(&action);
                let code = perform(&client, &action);
                assert_eq!(
                    code, expected,
                    "seed {seed}, step {step}: {action:?} in {world:#?}"
                );
            }
        }
    }
    assert_eq!(seen(&client), world.shown, "seed {seed}, at its end");
}

/// Kills the server while an action is under way: afterwards it has happened whole, or not at all. An answered one has happened.
fn killed_while(
    server: &mut Server,
    client: &Client,
    world: &mut World,
    action: &Action,
    random: &mut Random,
) {
    let mut after = world.clone();
    let expected = after.apply(action);
    let sending = {
        let (client, (name, request)) = (client.clone(), action.request());
        thread::spawn(move || client.attempt(name, &request))
    };
    // Some time between before it was sent and after it was answered.
    for _ in 0..random.below(12) {
        client.get("/healthz");
    }
    server.kill();
    let answered = sending.join().expect("a client");
    server.restart();
    let now = seen(&server.client());
    if let Some(answer) = answered {
        let code = answer.map_or_else(|e| e.code, |_| String::new());
        assert_eq!(code, expected, "{action:?}");
        assert_eq!(now, after.shown, "{action:?} was answered before the kill");
    }
    if now == after.shown {
        *world = after;
    }
    assert_eq!(now, world.shown, "{action:?} is half done");
}

fn perform(client: &Client, action: &Action) -> String {
    let (name, request) = action.request();
    client.code(name, &request)
}

/// A function answers with the code and the settings that the model has for it, through each of its names.
fn answers(client: &Client, world: &World, random: &mut Random) {
    let Some((space, name, function)) = world.any_function(random) else {
        return;
    };
    let mut qualifiers = vec![("$LATEST".to_owned(), function.latest.clone())];
    qualifiers.extend(
        function
            .versions
            .iter()
            .map(|(number, content)| (number.to_string(), content.clone())),
    );
    for (alias, version) in &function.aliases {
        let content = version.map_or(&function.latest, |number| &function.versions[&number]);
        qualifiers.push((alias.clone(), content.clone()));
    }
    let (qualifier, content) = &qualifiers[random.below(qualifiers.len() as u64) as usize];
    let request = json!({"FunctionName": name, "Namespace": space, "Qualifier": qualifier});
    let result = client.ok("Invoke", &request)["Result"].take();
    if function.reserved == Some(0) {
        assert_eq!(result["InvokeResult"], -1, "{result}");
        return;
    }
    let expected = json!({"code": content.code, "memory": content.memory});
    let given: Value =
        serde_json::from_str(result["RetMsg"].as_str().unwrap_or_default()).expect("JSON");
    assert_eq!(given, expected, "{space}/{name}:{qualifier}");
}

/// All that the API shows, as the model has it.
fn seen(client: &Client) -> Shown {
    let mut shown = Shown {
        spaces: BTreeMap::new(),
        layers: BTreeMap::new(),
    };
    let all = json!({"Limit": 100});
    for space in list(&client.ok("ListNamespaces", &all), "Namespaces") {
        let space = text(&space, "Name");
        let of_space = json!({"Limit": 100, "Namespace": space});
        let functions = list(&client.ok("ListFunctions", &of_space), "Functions");
        let functions = functions.iter().map(|function| {
            let name = text(function, "FunctionName");
            let function = seen_function(client, &space, &name);
            (name, function)
        });
        shown.spaces.insert(space.clone(), functions.collect());
    }
    for layer in list(&client.ok("ListLayers", &all), "Layers") {
        let name = text(&layer, "LayerName");
        let versions = list(
            &client.ok("ListLayerVersions", &json!({"LayerName": name})),
            "LayerVersions",
        );
        let numbers = versions
            .iter()
            .filter_map(|one| one["LayerVersion"].as_u64());
        shown.layers.insert(name, numbers.collect());
    }
    shown
}

fn seen_function(client: &Client, space: &str, name: &str) -> Function {
    let of = |more: Value| {
        let mut request = json!({"FunctionName": name, "Namespace": space, "Limit": 100});
        if let (Value::Object(request), Value::Object(more)) = (&mut request, more) {
            request.extend(more);
        }
        request
    };
    let content = |qualifier: &str| {
        let shown = client.ok("GetFunction", &of(json!({"Qualifier": qualifier})));
        assert_eq!(shown["Status"], "Active", "{shown}");
        let size = shown["CodeSize"].as_u64().expect("a size");
        let code = packages().iter().position(|(_, bytes)| *bytes == size);
        Content {
            code: code.expect("one of the packages") as u64,
            memory: shown["MemorySize"].as_u64().expect("a size"),
        }
    };
    let versions = client.ok("ListVersionByFunction", &of(json!({})));
    let numbers = list(&versions, "Versions")
        .into_iter()
        .filter_map(|one| text(&one, "Version").parse::<u64>().ok());
    let aliases = list(
        &client.ok("ListAliases", &of(json!({"Limit": "100"}))),
        "Aliases",
    );
    let reserved = client.ok("GetReservedConcurrencyConfig", &of(json!({})));
    Function {
        latest: content("$LATEST"),
        versions: numbers
            .map(|number| (number, content(&number.to_string())))
            .collect(),
        aliases: aliases
            .iter()
            .map(|alias| {
                (
                    text(alias, "Name"),
                    text(alias, "FunctionVersion").parse().ok(),
                )
            })
            .filter(|(alias, version)| alias != "$DEFAULT" || version.is_some())
            .collect(),
        reserved: reserved["ReservedMem"].as_u64(),
    }
}

fn list(answer: &Value, field: &str) -> Vec<Value> {
    answer[field]
        .as_array()
        .unwrap_or_else(|| panic!("no {field} in {answer}"))
        .clone()
}

fn text(value: &Value, field: &str) -> String {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("no {field} in {value}"))
        .to_owned()
}

/// Packages that say which they are, in base64, and the size of each, by which the API shows it.
fn packages() -> &'static [(String, u64)] {
    static PACKAGES: OnceLock<Vec<(String, u64)>> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let made = (0..CODES).map(|code| {
            let padding: String = (0..code * 40).map(|at| format!("# {}\n", at * at)).collect();
            let memory = "context['memory_limit_in_mb']";
            let handler = format!("def main_handler(event, context):\n    return {{'code': {code}, 'memory': {memory}}}\n");
            let packed = package(&[("index.py", &(padding + &handler))]);
            let size = STANDARD.decode(&packed).expect("base64").len() as u64;
            (packed, size)
        });
        made.collect()
    })
}
