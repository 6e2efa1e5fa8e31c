//! Deletion of functions.

use model::FunctionKey;

use crate::{Control, Error};

impl Control {
    /// Deletes a function with its versions, aliases and triggers.
    ///
    /// # Errors
    /// The function does not exist, or the store fails.
    pub async fn delete_function(&self, key: &FunctionKey) -> Result<(), Error> {
        loop {
            let stored = self.function(key)?;
            match self.catalog.delete_function(&stored).await {
                Ok(()) => return Ok(()),
                // A concurrent change; retry with the new version.
                Err(catalog::Error::Conflict) => {}
                Err(e) => return Err(Error::function(e)),
            }
        }
    }
}
