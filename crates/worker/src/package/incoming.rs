//! Writes a package into the store piece by piece, so that it is never in memory as a whole.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use model::Sha256;
use sha2::Digest;

use super::{PackageError, PackageStore};

const WRITE: &str = "keep a package";

/// A package that is being written. Dropping it before [`PackageWriter::keep`] removes it.
#[derive(Debug)]
pub struct PackageWriter {
    store: PackageStore,
    file: File,
    staging: PathBuf,
    digest: sha2::Sha256,
    size: u64,
}

impl PackageStore {
    /// Begins to write a package.
    ///
    /// # Errors
    /// Disk errors.
    pub fn receive(&self) -> Result<PackageWriter, PackageError> {
        let staging = self.staging();
        let file = File::create_new(&staging).map_err(PackageError::io(WRITE))?;
        Ok(PackageWriter {
            store: self.clone(),
            file,
            staging,
            digest: sha2::Sha256::new(),
            size: 0,
        })
    }
}

impl PackageWriter {
    /// Writes the next bytes.
    ///
    /// # Errors
    /// Disk errors.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), PackageError> {
        self.digest.update(bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(bytes).map_err(PackageError::io(WRITE))
    }

    /// Returns the number of bytes written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Stores the package. It is on stable storage when this returns.
    ///
    /// # Errors
    /// Disk errors.
    pub fn keep(mut self) -> Result<Sha256, PackageError> {
        let digest = std::mem::take(&mut self.digest);
        let digest = Sha256::from_digest(digest.finalize().into());
        let path = self.store.package(&digest);
        let kept = self.store.touch(&path).and_then(|known| match known {
            true => Ok(()),
            false => self.store.place(&self.file, &self.staging, &path),
        });
        kept.map_err(PackageError::io(WRITE))?;
        Ok(digest)
    }
}

impl Drop for PackageWriter {
    fn drop(&mut self) {
        // A stored package was renamed, so this removes only an incomplete one.
        let _ = fs::remove_file(&self.staging);
    }
}

#[cfg(test)]
mod tests {
    use model::Limits;

    use super::*;

    #[test]
    fn chunked_upload_stores_the_same_package() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = PackageStore::open(directory.path(), &Limits::default()).expect("a store");
        let files = |name: &str| {
            let entries = fs::read_dir(directory.path().join(name)).expect("a directory");
            entries.count()
        };
        for _ in 0..2 {
            let mut incoming = store.receive().expect("begun");
            for piece in [&b"pie"[..], b"", b"ces"] {
                incoming.write(piece).expect("written");
            }
            assert_eq!(incoming.size(), 6);
            let digest = incoming.keep().expect("kept");
            assert_eq!(fs::read(store.package(&digest)).expect("bytes"), b"pieces");
            assert_eq!(store.put(b"pieces").expect("kept"), digest);
        }
        let mut broken = store.receive().expect("begun");
        broken.write(b"half").expect("written");
        drop(broken);
        assert_eq!((files("packages"), files("aside")), (1, 0));
    }
}
