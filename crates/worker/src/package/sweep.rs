//! Removal of packages, archives and trees that nothing references.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use model::Sha256;

use super::PackageStore;
use super::merged::merged_name;
use super::store::DAMAGED;

impl PackageStore {
    /// Removes all packages, archives and trees older than `age` that are not in `keep`, and not merged from a list in
    /// `merged`. Younger ones may be about to be referenced by a function. Returns the number removed.
    ///
    /// # Errors
    /// Disk errors.
    pub fn sweep(
        &self,
        keep: &HashSet<Sha256>,
        merged: &[Vec<Sha256>],
        age: Duration,
    ) -> io::Result<usize> {
        let merged: Vec<_> = merged.iter().map(|list| merged_name(list)).collect();
        let keep: HashSet<&OsStr> = keep
            .iter()
            .chain(&merged)
            .map(|digest| OsStr::new(digest.as_str()))
            .collect();
        let mut removed = 0;
        for folder in ["archives", "merged", "packages", "trees"] {
            for entry in fs::read_dir(self.path(folder))? {
                let path = entry?.path();
                let kept = path
                    .file_stem()
                    .is_none_or(|stem| keep.contains(stem) || stem == ".boot");
                let old = fs::symlink_metadata(&path)
                    .and_then(|meta| meta.modified())
                    .is_ok_and(|time| time.elapsed().is_ok_and(|since| since >= age));
                if kept || !old {
                    continue;
                }
                self.remove(&path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Removes packages, archives, their trees and merged trees that are no longer referenced. A file stored after `since`
    /// stays: it may be about to be referenced.
    ///
    /// # Errors
    /// Disk errors.
    pub fn forget(
        &self,
        digests: &HashSet<Sha256>,
        merged: &[Vec<Sha256>],
        since: SystemTime,
    ) -> io::Result<()> {
        for digest in digests {
            let files = [self.package(digest), self.archive(digest)];
            let is_new = |file: &PathBuf| {
                let put = fs::symlink_metadata(file).and_then(|meta| meta.modified());
                put.is_ok_and(|put| put > since)
            };
            if files.iter().any(is_new) {
                continue;
            }
            for file in files {
                self.remove(&file)?;
                self.remove(&file.with_extension(DAMAGED))?;
            }
            self.remove(&self.tree(digest))?;
        }
        let merged = merged.iter().map(|list| merged_name(list));
        for name in merged {
            self.remove(&self.path("merged").join(name.as_str()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use model::Limits;

    use super::*;

    #[test]
    fn unreferenced_packages_and_archives_are_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = PackageStore::open(directory.path(), &Limits::default()).expect("a store");
        let put = |text: &str| {
            let package = store.put(text.as_bytes()).expect("kept");
            let staging = store.make_staging_directory().expect("a directory");
            fs::write(staging.join("f"), text).expect("written");
            (package, store.adopt(&staging).expect("adopted"))
        };
        let exist = |(package, tree): &(Sha256, Sha256)| {
            let archive = store.archive(tree);
            [store.package(package), archive, store.tree(tree)].map(|path| path.exists())
        };
        let (kept, swept, forgotten) = (put("x"), put("y"), put("z"));
        fs::write(store.archive(&swept.1).with_extension(DAMAGED), "").expect("written");
        let all = |pairs: &[&(Sha256, Sha256)]| {
            let digests = pairs.iter().flat_map(|(package, tree)| [package, tree]);
            digests.cloned().collect::<HashSet<_>>()
        };
        let keep = all(&[&kept, &forgotten]);
        let sweep = |age| store.sweep(&keep, &[], age).expect("swept");
        assert_eq!(sweep(Duration::from_secs(3600)), 0);
        assert_eq!(sweep(Duration::ZERO), 4);
        store
            .forget(&all(&[&forgotten]), &[], SystemTime::UNIX_EPOCH)
            .expect("nothing is so old");
        assert_eq!(
            [&kept, &swept, &forgotten].map(exist),
            [[true; 3], [false; 3], [true; 3]]
        );
        let now = SystemTime::now() + Duration::from_secs(1);
        store
            .forget(&all(&[&forgotten]), &[], now)
            .expect("forgotten");
        assert_eq!([&kept, &forgotten].map(exist), [[true; 3], [false; 3]]);
    }
}
