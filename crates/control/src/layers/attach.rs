//! The layers of functions.

use model::{AccountId, Field, LayerName, LayerRef, Runtime, Sha256};
use worker::TreeSize;

use crate::packages::blocking;
use crate::{Control, Error, Limit, Reason};

impl Control {
    /// Finds the layers that a function is to have, by name and version; one without a name is left out. A function keeps a
    /// layer that it has `attached`, even if that version was deleted.
    ///
    /// # Errors
    /// There are too many, one is given twice, does not exist, or is for other runtimes.
    pub fn attachable_layers(
        &self,
        account: AccountId,
        given: impl IntoIterator<Item = (String, i64)>,
        runtime: Runtime,
        attached: &[LayerRef],
    ) -> Result<Vec<LayerRef>, Error> {
        let most = self.limits.layers_per_function as usize;
        let mut refs: Vec<LayerRef> = Vec::new();
        for (name, number) in given {
            if name.is_empty() {
                continue;
            }
            let name = LayerName::parse(&name)?;
            if refs.len() == most {
                let reason = Reason::LimitReached(Limit::LayersOfFunction);
                let message = format!("a function has up to {most}");
                return Err(Error::of(Field::Layers, reason, message));
            }
            if refs.iter().any(|one| one.name == name) {
                let message = format!("{name} is given twice");
                return Err(Error::invalid(Field::Layers, message));
            }
            let same =
                |one: &&LayerRef| one.name == name && i64::try_from(one.version) == Ok(number);
            refs.push(match attached.iter().find(same) {
                Some(kept) => kept.clone(),
                None => self.attachable(account, name, number, runtime)?,
            });
        }
        Ok(refs)
    }

    fn attachable(
        &self,
        account: AccountId,
        name: LayerName,
        number: i64,
        runtime: Runtime,
    ) -> Result<LayerRef, Error> {
        let (number, version) = self.layer_version(account, &name, number)?;
        if !version.runtimes.contains(&runtime.to_string()) {
            let message = format!(
                "version {number} of {name} is for {}, not for {runtime}",
                version.runtimes.join(", ")
            );
            return Err(Error::invalid(Field::Layers, message));
        }
        Ok(LayerRef {
            name,
            version: number,
            package: version.package,
        })
    }

    /// Checks the total unpacked size of a function's code and layers. Reads the disk.
    ///
    /// # Errors
    /// They are too large, or the disk fails.
    pub async fn check_size(
        &self,
        code: Option<&Sha256>,
        layers: &[LayerRef],
    ) -> Result<(), Error> {
        if layers.is_empty() {
            return Ok(());
        }
        let packages = self.packages.clone();
        let trees: Vec<_> = layers.iter().map(|layer| layer.package.clone()).collect();
        let code = code.cloned();
        let measured = blocking(move || {
            let mut size = TreeSize::default();
            for tree in trees.iter().chain(&code) {
                packages.unpack(tree)?;
                size += packages.size(tree)?;
            }
            Ok(size)
        });
        let size = measured.await?;
        let rows = [
            (size.bytes, self.limits.unpacked_bytes, "bytes"),
            (
                size.inodes,
                self.limits.unpacked_entries,
                "files, directories and links",
            ),
        ];
        for (size, most, what) in rows {
            if size > most {
                let message = format!(
                    "code and layers have {size} {what} unpacked; up to {most} are allowed"
                );
                return Err(Error::invalid(Field::Layers, message));
            }
        }
        Ok(())
    }
}
