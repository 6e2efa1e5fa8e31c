//! The trees of a function: its code, and its layers merged.

use std::fs;
use std::path::PathBuf;

use model::Sha256;
use sha2::Digest;

use super::{PackageError, PackageStore, tree};

/// The trees of a function.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) code: PathBuf,
    /// The merged layers, if any.
    pub(crate) layers: Option<PathBuf>,
}

impl PackageStore {
    /// Returns a tree of several packages, later ones over earlier ones. On disk it consists of hard links.
    ///
    /// # Errors
    /// As [`Self::unpack`].
    pub fn merge(&self, packages: &[Sha256]) -> Result<PathBuf, PackageError> {
        if let [only] = packages {
            return self.unpack(only);
        }
        let merged = self.merged(packages);
        if merged.is_dir() {
            return Ok(merged);
        }
        let staging = self.make_staging_directory()?;
        let laid = packages.iter().try_for_each(|package| {
            let tree = self.unpack(package)?;
            tree::overlay(&tree, &staging).map_err(PackageError::io("merge layers"))
        });
        laid.and_then(|()| self.publish(&staging, &merged))
            .inspect_err(|_| {
                let _ = fs::remove_dir_all(&staging);
            })?;
        Ok(merged)
    }

    /// Returns the path of the tree that several packages are merged to.
    fn merged(&self, packages: &[Sha256]) -> PathBuf {
        match packages {
            [only] => self.tree(only),
            _ => self.path("merged").join(merged_name(packages).as_str()),
        }
    }

    /// Returns the trees of a function's code and layers, if all are there.
    pub(crate) fn find_unpacked(&self, code: &Sha256, layers: &[Sha256]) -> Option<Unpacked> {
        let unpacked = Unpacked {
            code: self.tree(code),
            layers: (!layers.is_empty()).then(|| self.merged(layers)),
        };
        let layers = unpacked.layers.as_ref();
        let all_there = unpacked.code.is_dir() && layers.is_none_or(|tree| tree.is_dir());
        all_there.then_some(unpacked)
    }

    /// Unpacks and merges the missing trees of a function's code and layers.
    ///
    /// # Errors
    /// As [`Self::unpack`].
    pub(crate) fn unpack_all(
        &self,
        code: &Sha256,
        layers: &[Sha256],
    ) -> Result<Unpacked, PackageError> {
        let code = self.unpack(code)?;
        let layers = (!layers.is_empty()).then(|| self.merge(layers));
        Ok(Unpacked {
            code,
            layers: layers.transpose()?,
        })
    }
}

/// Returns the name of the tree merged from packages.
pub(super) fn merged_name(packages: &[Sha256]) -> Sha256 {
    let mut sum = sha2::Sha256::new();
    for package in packages {
        sum.update(package.as_str());
    }
    Sha256::from_digest(sum.finalize().into())
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use model::Limits;

    use super::*;

    #[test]
    fn merging_layers_overlays_them_and_leaves_them_unchanged() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = PackageStore::open(directory.path(), &Limits::default()).expect("a store");
        let zip = |files: &[(&str, &str)]| {
            let mut writer = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
            for (name, text) in files {
                let options = zip::write::SimpleFileOptions::default();
                writer.start_file(*name, options).expect("a name");
                writer.write_all(text.as_bytes()).expect("memory");
            }
            store.put(&writer.finish().expect("an archive").into_inner())
        };
        let lower = zip(&[("a", "1"), ("d/b", "1"), ("x", "1")]).expect("kept");
        let upper = zip(&[("d/b", "2"), ("d/c", "2"), ("x/y", "2")]).expect("kept");
        let merged = store
            .merge(&[lower.clone(), upper.clone()])
            .expect("merged");
        let read = |path: &str| fs::read_to_string(merged.join(path)).expect("read");
        assert_eq!(["a", "d/b", "d/c", "x/y"].map(read), ["1", "2", "2", "2"]);
        let below = store.tree(&lower).join("d/b");
        assert_eq!(fs::read_to_string(below).expect("read"), "1");
        let other = store.merge(&[upper, lower]).expect("merged");
        assert_eq!(fs::read_to_string(other.join("x")).expect("read"), "1");
    }
}
