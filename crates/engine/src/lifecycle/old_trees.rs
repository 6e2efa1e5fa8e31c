//! Archives the installed trees of an earlier version, which stored none, so that a lost tree can be unpacked again.
//!
//! Each function's record then names the archive. Its revision stays: the code is the same, and instances go on.

use std::collections::{HashMap, HashSet};

use catalog::Catalog;
use model::{CodeRef, Function, Sha256};
use tracing::{info, warn};
use worker::{PackageError, PackageStore};

/// Archives all such trees, one after the other. What fails is tried again at the next start.
pub(super) async fn archive_all(catalog: Catalog, packages: PackageStore) {
    let mut archives = HashMap::new();
    for stored in catalog.all_functions() {
        for old in installed(&stored.value) {
            if archives.contains_key(&old) {
                continue;
            }
            match archive(&packages, &old).await {
                Ok(Some(new)) => drop(archives.insert(old, new)),
                Ok(None) => {}
                Err(error) => {
                    warn!(tree = %old, %error, "failed to archive an installed tree; a later start tries again")
                }
            }
        }
        rename(&catalog, &stored.value, &archives).await;
    }
    if !archives.is_empty() {
        info!(
            trees = archives.len(),
            "archived installed trees of an earlier version"
        );
    }
}

/// Returns the trees of a function into which dependencies were installed.
fn installed(function: &Function) -> HashSet<Sha256> {
    let published = function.versions.values().map(|one| &one.code);
    let all = published.chain(&function.code);
    all.filter(|code| code.tree != code.package)
        .map(|code| code.tree.clone())
        .collect()
}

/// Archives a tree, if it has no archive. Returns the new digest.
async fn archive(packages: &PackageStore, tree: &Sha256) -> Result<Option<Sha256>, PackageError> {
    let (packages, tree) = (packages.clone(), tree.clone());
    let archived = tokio::task::spawn_blocking(move || {
        if packages.is_packed(&tree) || !packages.tree(&tree).is_dir() {
            return Ok(None);
        }
        packages.archive_old_tree(&tree).map(Some)
    });
    archived
        .await
        .unwrap_or_else(|error| Err(PackageError::Refused(error.to_string())))
}

/// Names the archives in a function's record.
async fn rename(catalog: &Catalog, function: &Function, archives: &HashMap<Sha256, Sha256>) {
    while let Some(stored) = catalog.function(&function.key) {
        let mut new = stored.value.clone();
        let published = new.versions.values_mut().map(|one| &mut one.code);
        let mut changed = false;
        for CodeRef { tree, .. } in published.chain(&mut new.code) {
            if let Some(archive) = archives.get(tree) {
                *tree = archive.clone();
                changed = true;
            }
        }
        if !changed {
            return;
        }
        match catalog.complete_code_update(&stored, &new).await {
            Ok(()) => return,
            Err(catalog::Error::Conflict) => {}
            Err(error) => {
                return warn!(function = %function.key.name, %error, "failed to name the archive of an installed tree; a later start tries again");
            }
        }
    }
}
