//! What the API promises of the catalog, as plain maps.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use testkit::Random;

use super::packages;

const SPACES: [&str; 4] = ["default", "one", "two", "three"];
const NAMES: [&str; 3] = ["rain", "snow", "hail"];
const ALIASES: [&str; 3] = ["live", "next", "$DEFAULT"];
const LAYERS: [&str; 2] = ["common", "fonts"];
const MEMORY: [u64; 3] = [64, 128, 256];

/// What runs: which code, and in how much memory.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Content {
    pub(super) code: u64,
    pub(super) memory: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Function {
    pub(super) latest: Content,
    pub(super) versions: BTreeMap<u64, Content>,
    /// What each stands for; nothing is `$LATEST`.
    pub(super) aliases: BTreeMap<String, Option<u64>>,
    pub(super) reserved: Option<u64>,
}

/// What the API shows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shown {
    pub(super) spaces: BTreeMap<String, BTreeMap<String, Function>>,
    pub(super) layers: BTreeMap<String, BTreeSet<u64>>,
}

/// What it shows, and the highest numbers that were ever given.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) shown: Shown,
    versions: BTreeMap<(String, String), u64>,
    layers: BTreeMap<String, u64>,
}

#[derive(Clone, Debug)]
pub(super) enum Action {
    CreateNamespace(Space),
    DeleteNamespace(Space),
    Create(FunctionPath, Content),
    Update(FunctionPath, u64),
    Configure(FunctionPath, u64),
    Copy(FunctionPath, FunctionPath),
    Delete(FunctionPath),
    Publish(FunctionPath),
    Unpublish {
        place: FunctionPath,
        number: u64,
        force: bool,
    },
    Name {
        place: FunctionPath,
        alias: &'static str,
        number: u64,
    },
    Rename {
        place: FunctionPath,
        alias: &'static str,
        number: u64,
    },
    Unname(FunctionPath, &'static str),
    Reserve(FunctionPath, u64),
    Unreserve(FunctionPath),
    PublishLayer(&'static str),
    DeleteLayer(&'static str, u64),
}

type Space = &'static str;
type FunctionPath = (Space, &'static str);

impl Default for World {
    fn default() -> Self {
        let spaces = BTreeMap::from([("default".to_owned(), BTreeMap::new())]);
        let shown = Shown {
            spaces,
            layers: BTreeMap::new(),
        };
        Self {
            shown,
            versions: BTreeMap::new(),
            layers: BTreeMap::new(),
        }
    }
}

impl Action {
    pub(super) fn draw(random: &mut Random) -> Self {
        let space = random.one_of(&SPACES);
        let place = (space, random.one_of(&NAMES));
        let other = (random.one_of(&SPACES), random.one_of(&NAMES));
        let (code, memory) = (
            random.below(packages().len() as u64),
            random.one_of(&MEMORY),
        );
        let (number, alias) = (1 + random.below(4), random.one_of(&ALIASES));
        let layer = random.one_of(&LAYERS);
        match random.below(24) {
            0 | 1 => Self::CreateNamespace(space),
            2 => Self::DeleteNamespace(space),
            3..=6 => Self::Create(place, Content { code, memory }),
            7 | 8 => Self::Update(place, code),
            9 => Self::Configure(place, memory),
            10 => Self::Copy(place, other),
            11 => Self::Delete(place),
            12..=14 => Self::Publish(place),
            15 => Self::Unpublish {
                place,
                number,
                force: random.below(2) == 0,
            },
            16 | 17 => Self::Name {
                place,
                alias,
                number,
            },
            18 => Self::Rename {
                place,
                alias,
                number,
            },
            19 => Self::Unname(place, alias),
            20 => Self::Reserve(place, random.one_of(&[0, 256, 1024])),
            21 => Self::Unreserve(place),
            22 => Self::PublishLayer(layer),
            _ => Self::DeleteLayer(layer, number),
        }
    }

    /// The action's name and parameters.
    pub(super) fn request(&self) -> (&'static str, Value) {
        let of = |(space, name): &FunctionPath, more: Value| {
            let mut request = json!({"FunctionName": name, "Namespace": space});
            if let (Value::Object(request), Value::Object(more)) = (&mut request, more) {
                request.extend(more);
            }
            request
        };
        let zip = |code: &u64| packages()[*code as usize].0.clone();
        let python = "Python3.9";
        match self {
            Self::CreateNamespace(space) => ("CreateNamespace", json!({"Namespace": space})),
            Self::DeleteNamespace(space) => ("DeleteNamespace", json!({"Namespace": space})),
            Self::Create(place, Content { code, memory }) => {
                let more = json!({"Runtime": python, "MemorySize": memory, "Code": {"ZipFile": zip(code)}});
                ("CreateFunction", of(place, more))
            }
            Self::Update(place, code) => (
                "UpdateFunctionCode",
                of(place, json!({"ZipFile": zip(code)})),
            ),
            Self::Configure(place, memory) => (
                "UpdateFunctionConfiguration",
                of(place, json!({"MemorySize": memory})),
            ),
            Self::Copy(place, (space, name)) => (
                "CopyFunction",
                of(
                    place,
                    json!({"NewFunctionName": name, "TargetNamespace": space}),
                ),
            ),
            Self::Delete(place) => ("DeleteFunction", of(place, json!({}))),
            Self::Publish(place) => ("PublishVersion", of(place, json!({}))),
            Self::Unpublish {
                place,
                number,
                force,
            } => {
                let force = if *force { "TRUE" } else { "FALSE" };
                let more = json!({"Qualifier": number.to_string(), "ForceDelete": force});
                ("DeleteFunctionVersion", of(place, more))
            }
            Self::Name {
                place,
                alias,
                number,
            } => (
                "CreateAlias",
                of(
                    place,
                    json!({"Name": alias, "FunctionVersion": number.to_string()}),
                ),
            ),
            Self::Rename {
                place,
                alias,
                number,
            } => (
                "UpdateAlias",
                of(
                    place,
                    json!({"Name": alias, "FunctionVersion": number.to_string()}),
                ),
            ),
            Self::Unname(place, alias) => ("DeleteAlias", of(place, json!({"Name": alias}))),
            Self::Reserve(place, mb) => (
                "PutReservedConcurrencyConfig",
                of(place, json!({"ReservedConcurrencyMem": mb})),
            ),
            Self::Unreserve(place) => ("DeleteReservedConcurrencyConfig", of(place, json!({}))),
            Self::PublishLayer(name) => {
                let content = json!({"ZipFile": zip(&0)});
                (
                    "PublishLayerVersion",
                    json!({"LayerName": name, "CompatibleRuntimes": [python], "Content": content}),
                )
            }
            Self::DeleteLayer(name, number) => (
                "DeleteLayerVersion",
                json!({"LayerName": name, "LayerVersion": number}),
            ),
        }
    }
}

impl World {
    /// Does what an action does, and says its code; empty where it succeeds.
    pub(super) fn apply(&mut self, action: &Action) -> String {
        self.try_apply(action).err().unwrap_or_default().to_owned()
    }

    fn try_apply(&mut self, action: &Action) -> Result<(), &'static str> {
        match *action {
            Action::CreateNamespace(space) => {
                if self.shown.spaces.contains_key(space) {
                    return Err("ResourceInUse.Namespace");
                }
                self.shown.spaces.insert(space.to_owned(), BTreeMap::new());
            }
            Action::DeleteNamespace(space) => {
                if space == "default" {
                    return Err("InvalidParameterValue.DefaultNamespace");
                }
                match self.shown.spaces.get(space) {
                    None => return Err("ResourceNotFound.Namespace"),
                    Some(functions) if !functions.is_empty() => {
                        return Err("ResourceInUse.Namespace");
                    }
                    Some(_) => drop(self.shown.spaces.remove(space)),
                }
            }
            Action::Create(place, ref content) => self.add(place, content.clone(), None)?,
            Action::Update(place, code) => self.function(place)?.latest.code = code,
            Action::Configure(place, memory) => self.function(place)?.latest.memory = memory,
            Action::Copy(from, to) => {
                let source = self.function(from)?.latest.clone();
                self.add(to, source, Some(from))?;
            }
            Action::Delete(place) => {
                self.function(place)?;
                let functions = self.shown.spaces.get_mut(place.0);
                functions.map(|functions| functions.remove(place.1));
                self.versions.remove(&key(place));
            }
            Action::Publish(place) => {
                let last = self.versions.get(&key(place)).copied().unwrap_or(0) + 1;
                let function = self.function(place)?;
                function.versions.insert(last, function.latest.clone());
                self.versions.insert(key(place), last);
            }
            Action::Unpublish {
                place,
                number,
                force,
            } => self.function(place)?.unpublish(number, force)?,
            Action::Name {
                place,
                alias,
                number,
            } => {
                let function = self.function(place)?;
                if alias == "$DEFAULT" || function.aliases.contains_key(alias) {
                    return Err("ResourceInUse.Alias");
                }
                function.name(alias, number)?;
            }
            Action::Rename {
                place,
                alias,
                number,
            } => {
                let function = self.function(place)?;
                if alias != "$DEFAULT" && !function.aliases.contains_key(alias) {
                    return Err("ResourceNotFound.Alias");
                }
                function.name(alias, number)?;
            }
            Action::Unname(place, alias) => {
                let function = self.function(place)?;
                if alias == "$DEFAULT" {
                    return Err("FailedOperation.DeleteAlias");
                }
                function
                    .aliases
                    .remove(alias)
                    .ok_or("ResourceNotFound.Alias")?;
            }
            Action::Reserve(place, mb) => self.function(place)?.reserved = Some(mb),
            Action::Unreserve(place) => self.function(place)?.reserved = None,
            Action::PublishLayer(name) => {
                let last = self.layers.entry(name.to_owned()).or_default();
                *last += 1;
                self.shown
                    .layers
                    .entry(name.to_owned())
                    .or_default()
                    .insert(*last);
            }
            Action::DeleteLayer(name, number) => {
                let versions = self
                    .shown
                    .layers
                    .get_mut(name)
                    .ok_or("ResourceNotFound.Layer")?;
                if !versions.remove(&number) {
                    return Err("ResourceNotFound.LayerVersion");
                }
                if versions.is_empty() {
                    self.shown.layers.remove(name);
                }
            }
        }
        Ok(())
    }

    fn function(&mut self, (space, name): FunctionPath) -> Result<&mut Function, &'static str> {
        let functions = self
            .shown
            .spaces
            .get_mut(space)
            .ok_or("ResourceNotFound.Namespace")?;
        functions.get_mut(name).ok_or("ResourceNotFound.Function")
    }

    fn add(
        &mut self,
        place: FunctionPath,
        latest: Content,
        from: Option<FunctionPath>,
    ) -> Result<(), &'static str> {
        match self.function(place) {
            Ok(_) => return Err("ResourceInUse.FunctionName"),
            Err(_) if from == Some(place) => return Err("ResourceInUse.FunctionName"),
            Err("ResourceNotFound.Namespace") => return Err("ResourceNotFound.Namespace"),
            Err(_) => {}
        }
        let function = Function {
            latest,
            versions: BTreeMap::new(),
            aliases: BTreeMap::new(),
            reserved: None,
        };
        let functions = self.shown.spaces.get_mut(place.0);
        functions.map(|functions| functions.insert(place.1.to_owned(), function));
        Ok(())
    }

    /// One of its functions, with where it is.
    pub(super) fn any_function(&self, random: &mut Random) -> Option<(&str, &str, &Function)> {
        let all: Vec<_> = self
            .shown
            .spaces
            .iter()
            .flat_map(|(space, functions)| {
                functions
                    .iter()
                    .map(move |(name, function)| (space.as_str(), name.as_str(), function))
            })
            .collect();
        (!all.is_empty()).then(|| random.one_of(&all))
    }
}

impl Function {
    fn name(&mut self, alias: &str, number: u64) -> Result<(), &'static str> {
        if !self.versions.contains_key(&number) {
            return Err("ResourceNotFound.FunctionVersion");
        }
        self.aliases.insert(alias.to_owned(), Some(number));
        Ok(())
    }

    fn unpublish(&mut self, number: u64, force: bool) -> Result<(), &'static str> {
        if !self.versions.contains_key(&number) {
            return Err("ResourceNotFound.FunctionVersion");
        }
        let uses = |version: &Option<u64>| *version == Some(number);
        if !force && self.aliases.values().any(uses) {
            return Err("UnsupportedOperation.AliasBind");
        }
        self.versions.remove(&number);
        self.aliases.retain(|_, version| !uses(version));
        Ok(())
    }
}

fn key((space, name): FunctionPath) -> (String, String) {
    (space.to_owned(), name.to_owned())
}
