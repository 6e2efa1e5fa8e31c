//! The account's concurrency quota, and reserved concurrency: memory that is reserved for a function and also limits its
//! instances.

use model::{AccountId, Field, Function, FunctionKey, Namespace};

use crate::change::{Check, Refusal};
use crate::{Control, Error, Reason};

impl Control {
    /// Sets an account's concurrency quota, MB. Requests after the return see it.
    ///
    /// # Errors
    /// The namespace does not exist, or the value is not allowed.
    pub async fn set_total_concurrency(
        &self,
        account: AccountId,
        namespace: Namespace,
        given: i64,
    ) -> Result<(), Error> {
        if !self.catalog.has_namespace(account, &namespace) {
            return Err(Error::function(catalog::Error::NoNamespace(namespace)));
        }
        let most = self.limits.concurrency_mb;
        let refused = |message: String| Err(Error::invalid(Field::TotalConcurrency, message));
        let Some(mb) = u32::try_from(given).ok().filter(|mb| *mb <= most) else {
            return refused(format!("{given} is not allowed; up to {most} (MB) is"));
        };
        loop {
            match self.catalog.set_total(account, mb, &self.limits).await {
                Ok(()) => {
                    let total = || self.catalog.total_mb(account, &self.limits);
                    self.driver.total(account, total);
                    return Ok(());
                }
                Err(catalog::Error::Conflict) => {}
                Err(catalog::Error::Quota(least)) => {
                    return refused(format!(
                        "{given} is not allowed; at least {least} (MB) is: the reserved concurrency of all \
                         functions, and {} for the others",
                        self.limits.unreservable_mb
                    ));
                }
                Err(e) => return Err(Error::function(e)),
            }
        }
    }

    /// Reserves memory for a function, MB; 0 disables it. Requests after the return see it.
    ///
    /// # Errors
    /// The function does not exist, the value is not allowed, or the account has not that much left.
    pub async fn reserve_concurrency(&self, key: &FunctionKey, given: i64) -> Result<(), Error> {
        let total = self.catalog.total_mb(key.account, &self.limits);
        let most = total.saturating_sub(self.limits.unreservable_mb);
        let mb = u32::try_from(given).ok().filter(|mb| *mb <= most);
        let Some(mb) = mb else {
            let message = format!("{given} is not allowed; 0 to {most} (MB) is");
            return Err(Error::invalid(Field::ReservedConcurrency, message));
        };
        self.set_reserved(key, Some(mb)).await
    }

    /// Removes a function's reservation.
    ///
    /// # Errors
    /// The function does not exist, or its provisioned concurrency needs the reservation.
    pub async fn release_concurrency(&self, key: &FunctionKey) -> Result<(), Error> {
        self.set_reserved(key, None).await
    }

    async fn set_reserved(&self, key: &FunctionKey, mb: Option<u32>) -> Result<(), Error> {
        let edit = |function: &mut Function| {
            function.reserved_mb = mb;
            let kept = function.provisioned_mb();
            // 0 disables a function, whatever its provisioned concurrency.
            match mb.filter(|mb| *mb < kept) {
                Some(mb @ 1..) => {
                    let message = format!(
                        "{mb} MB are not allowed; the function's provisioned concurrency is {kept} MB"
                    );
                    let reason = Reason::ProvisionedExceedsReserved;
                    Err(Error::of(Field::ReservedConcurrency, reason, message))
                }
                _ => Ok(()),
            }
        };
        let explain = |function: &Function, refusal: Refusal| match (refusal, mb) {
            (Refusal::Memory(left), Some(mb)) => {
                let message = format!(
                    "{mb} MB are not allowed; {left} MB of the account can still be reserved"
                );
                let reason = Reason::ReservedExceedsAvailable;
                Error::of(Field::ReservedConcurrency, reason, message)
            }
            (Refusal::Memory(left), None) => {
                let message = format!(
                    "the function's provisioned concurrency is {} MB, and {left} MB of the account can be had without a \
                     reservation; delete the provisioned concurrency first",
                    function.provisioned_mb()
                );
                Error::new(Reason::ProvisionedExceedsAvailable, message)
            }
            (other, _) => other.into_error(),
        };
        self.change_checked(key, Check::Concurrency, Self::function, edit, explain)
            .await?;
        let reserved = || self.catalog.function(key)?.value.reserved_mb;
        self.driver.reserve(key, reserved);
        Ok(())
    }
}
