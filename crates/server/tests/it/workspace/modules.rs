//! The modules of a crate: which file each is in, what it defines, what it imports, and which paths it uses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::tokens::{behind_block, is_name, tokens};

/// A module. Modules are numbered in the order in which they are read; the first is the crate's root.
struct Module {
    /// Index of its file.
    file: usize,
    parent: usize,
    children: BTreeMap<String, usize>,
    items: BTreeSet<String>,
    imports: Vec<Import>,
    /// Paths in expressions and types.
    paths: BTreeSet<Vec<String>>,
    /// Every name that occurs outside `use`.
    names: BTreeSet<String>,
}

/// One name that a `use` brings in, or all names of a module.
struct Import {
    path: Vec<String>,
    /// `None` = all names.
    name: Option<String>,
    public: bool,
}

/// For each file, the files that it uses, and by which paths.
pub(super) type Arrows<'a> = BTreeMap<&'a Path, BTreeMap<&'a Path, BTreeSet<String>>>;

/// What a path leads to.
enum Target {
    Module(usize),
    /// An item, in the file with this index.
    Item(usize),
}

/// The modules of one crate. Tests inside its files are left out.
pub(super) struct Crate {
    files: Vec<PathBuf>,
    modules: Vec<Module>,
}

impl Crate {
    /// Reads a crate from its root file.
    pub(super) fn read(root: &Path) -> Self {
        let mut this = Self {
            files: Vec::new(),
            modules: Vec::new(),
        };
        this.read_file(root, 0);
        this
    }

    /// The files and, for each, the files whose items it uses, with those items.
    pub(super) fn arrows(&self) -> Arrows<'_> {
        let mut arrows = Arrows::new();
        for (index, module) in self.modules.iter().enumerate() {
            let used = module
                .imports
                .iter()
                .filter(|import| {
                    // A name that is only passed on is not used here.
                    let mut names = import.name.iter();
                    !import.public || names.any(|name| module.names.contains(name))
                })
                .map(|import| (&import.path, import.name.is_none()));
            let used = used.chain(module.paths.iter().map(|path| (path, false)));
            let own = self.files[module.file].as_path();
            let to = arrows.entry(own).or_default();
            let mut insert = |file: usize, path: &[String]| {
                let items: &mut BTreeSet<_> = to.entry(self.files[file].as_path()).or_default();
                items.insert(path.join("::"));
            };
            for (path, all) in used {
                let file = match self.resolve(index, path, 0) {
                    Some(Target::Item(file)) => file,
                    Some(Target::Module(module)) if all => self.modules[module].file,
                    _ => continue,
                };
                if file != module.file {
                    insert(file, path);
                }
            }
        }
        arrows
    }

    fn read_file(&mut self, path: &Path, parent: usize) -> usize {
        let text = std::fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.files.push(path.to_owned());
        let directory = path.parent().expect("a directory");
        let stem = path.file_stem().expect("a name");
        let directory = match stem.to_str() {
            Some("lib" | "main" | "mod") => directory.to_owned(),
            _ => directory.join(stem),
        };
        self.read_module(&tokens(&text), self.files.len() - 1, parent, &directory)
    }

    fn read_module(&mut self, all: &[&str], file: usize, parent: usize, directory: &Path) -> usize {
        let own = self.modules.len();
        self.modules.push(Module {
            file,
            parent,
            children: BTreeMap::new(),
            items: BTreeSet::new(),
            imports: Vec::new(),
            paths: BTreeSet::new(),
            names: BTreeSet::new(),
        });
        let mut body = Vec::new();
        let mut at = 0;
        while at < all.len() {
            if is_for_tests(&all[at..]) {
                at = behind_item(all, at + 7);
                continue;
            }
            match all[at..] {
                ["mod", name, ";", ..] => {
                    let beside = directory.join(format!("{name}.rs"));
                    let path = if beside.exists() {
                        beside
                    } else {
                        directory.join(name).join("mod.rs")
                    };
                    let child = self.read_file(&path, own);
                    self.modules[own].children.insert(name.into(), child);
                    at += 3;
                }
                ["mod", name, "{", ..] => {
                    let end = behind_block(all, at + 2);
                    let inside = &all[at + 3..end - 1];
                    let child = self.read_module(inside, file, own, &directory.join(name));
                    self.modules[own].children.insert(name.into(), child);
                    at = end;
                }
                ["use", next, ..] if next != "<" => {
                    let public = matches!(body.last(), Some(&"pub"))
                        || matches!(body[..], [.., "pub", "(", _, ")"])
                        || matches!(body[..], [.., "pub", "(", "in", _, "::", _, ")"]);
                    at = self.read_use(own, all, at + 1, &mut Vec::new(), public);
                }
                _ => {
                    body.push(all[at]);
                    at += 1;
                }
            }
        }
        self.read_body(own, &body);
        own
    }

    /// Reads one branch of a `use` and returns the index behind it.
    fn read_use(
        &mut self,
        module: usize,
        all: &[&str],
        mut at: usize,
        prefix: &mut Vec<String>,
        public: bool,
    ) -> usize {
        let depth = prefix.len();
        loop {
            match all[at] {
                "{" => {
                    at += 1;
                    while all[at] != "}" {
                        at = self.read_use(module, all, at, prefix, public);
                        if all[at] == "," {
                            at += 1;
                        }
                    }
                    at += 1;
                    break;
                }
                "::" => at += 1,
                "*" => {
                    self.modules[module].imports.push(Import {
                        path: prefix.clone(),
                        name: None,
                        public,
                    });
                    at += 1;
                    break;
                }
                name => {
                    prefix.push(name.to_owned());
                    at += 1;
                    if all[at] == "::" {
                        continue;
                    }
                    if name == "self" && prefix.len() > 1 {
                        prefix.pop();
                    }
                    let mut known = prefix.last().cloned();
                    if all[at] == "as" {
                        known = Some(all[at + 1].to_owned());
                        at += 2;
                    }
                    self.modules[module].imports.push(Import {
                        path: prefix.clone(),
                        name: known,
                        public,
                    });
                    break;
                }
            }
        }
        prefix.truncate(depth);
        at
    }

    fn read_body(&mut self, module: usize, body: &[&str]) {
        const ITEMS: [&str; 8] = [
            "fn", "struct", "enum", "union", "trait", "type", "const", "static",
        ];
        let module = &mut self.modules[module];
        let mut depth = 0;
        for (at, &token) in body.iter().enumerate() {
            match token {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if !is_name(token) {
                continue;
            }
            module.names.insert(token.to_owned());
            let before = at.checked_sub(1).map(|before| body[before]);
            if depth == 0 && before.is_some_and(|before| ITEMS.contains(&before)) {
                module.items.insert(token.to_owned());
            }
            if matches!(before, Some("::" | ".")) || body.get(at + 1) != Some(&"::") {
                continue;
            }
            let names = body[at..].chunks(2).take_while(|pair| is_name(pair[0]));
            let mut path = Vec::new();
            for pair in names {
                path.push(pair[0].to_owned());
                if pair.get(1) != Some(&"::") {
                    break;
                }
            }
            module.paths.insert(path);
        }
    }

    /// Follows a path from a module. `None` = it leads out of the crate, or to a name that is not an item.
    fn resolve(&self, from: usize, path: &[String], hops: usize) -> Option<Target> {
        // A glob of a module that imports it back would be followed for ever.
        if hops > 20 {
            return None;
        }
        let mut at = from;
        for (index, name) in path.iter().enumerate() {
            match name.as_str() {
                "crate" => at = 0,
                "self" => {}
                "super" => at = self.modules[at].parent,
                name => match self.find(at, name, &path[..index], hops)? {
                    Target::Module(module) => at = module,
                    item @ Target::Item(_) => return Some(item),
                },
            }
        }
        Some(Target::Module(at))
    }

    /// Finds a name in a module. `before` is the path to the module, empty for the one in which the name is used.
    fn find(&self, at: usize, name: &str, before: &[String], hops: usize) -> Option<Target> {
        let module = &self.modules[at];
        if let Some(&child) = module.children.get(name) {
            return Some(Target::Module(child));
        }
        if module.items.contains(name) {
            return Some(Target::Item(module.file));
        }
        let named = module
            .imports
            .iter()
            .filter(|import| import.name.as_deref() == Some(name) && import.path != [name]);
        let globs = module.imports.iter().filter(|import| import.name.is_none());
        let globs = globs.map(|import| [&import.path[..], &[name.to_owned()]].concat());
        let mut paths = named.map(|import| import.path.clone()).chain(globs);
        let found = paths.find_map(|path| self.resolve(at, &path, hops + 1));
        // A name that a macro defines, in a module that was reached by its path.
        let inside = !before.is_empty();
        found.or_else(|| inside.then_some(Target::Item(module.file)))
    }
}

/// The tokens outside items for tests.
pub(super) fn without_tests<'a>(all: &[&'a str]) -> Vec<&'a str> {
    let mut rest = Vec::new();
    let mut at = 0;
    while at < all.len() {
        if is_for_tests(&all[at..]) {
            at = behind_item(all, at + 7);
        } else {
            rest.push(all[at]);
            at += 1;
        }
    }
    rest
}

/// Whether an attribute follows that leaves an item out of everything but tests.
fn is_for_tests(all: &[&str]) -> bool {
    all.starts_with(&["#", "[", "cfg", "(", "test", ")", "]"])
}

/// The index behind an item, with its further attributes; or behind a field, or an arm of a `match`.
fn behind_item(all: &[&str], mut at: usize) -> usize {
    while at < all.len() {
        match all[at] {
            ";" | "," => return at + 1,
            "}" => return at,
            "{" => return behind_block(all, at),
            "(" | "[" => at = behind_block(all, at),
            _ => at += 1,
        }
    }
    at
}
