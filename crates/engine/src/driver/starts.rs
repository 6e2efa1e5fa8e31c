//! Starts of instances.

use std::net::IpAddr;
use std::sync::Arc;

use dispatch::{InstanceId, MachineEvent, PoolId, StartFault};
use model::{Failure, FailureKind, Usage};
use tracing::{debug, warn};
use worker::{Credentials, InstanceSpec, StartError};

use super::Driver;
use super::slot::InstanceSlot;
use super::types::{LivePool, StartFailure};

impl Driver {
    pub(super) async fn start_instance(
        self,
        instance: InstanceId,
        live: Arc<LivePool>,
        provisioned: bool,
    ) {
        let (pool, spec) = (live.pool, live.spec.clone());
        let credentials = self.credentials(&spec);
        let key = credentials.as_ref().map(|lent| lent.id.clone());
        match self.shared.worker.start(spec.clone(), credentials).await {
            Ok(started) => {
                let address = started.instance.address().map(IpAddr::V4);
                let member = self.shared.settings.call_chains.register(key, address);
                let slot = Arc::new(InstanceSlot::new(instance, started, provisioned, member));
                let ended = slot.instance.ended();
                let now = self.now();
                let mut core = self.core();
                core.started(now, pool, slot.clone());
                self.perform(core);
                tokio::spawn(async move {
                    ended.await;
                    slot.set_ended();
                    drop(slot);
                    self.step(MachineEvent::Ended { instance });
                });
            }
            Err(StartError::User {
                failure,
                log,
                usage,
            }) => {
                debug!(function = %spec.function.name, status = failure.kind.number(), "an instance failed to start");
                self.start_failed(
                    pool,
                    instance,
                    StartFault::User,
                    StartFailure {
                        failure,
                        log,
                        usage,
                    },
                );
            }
            Err(StartError::Platform(error)) => {
                warn!(function = %spec.function.name, %error, "failed to start an instance");
                let message = "the instance failed to start; see the platform's log for the cause";
                let failure = Failure::new(FailureKind::NotStarted, message);
                let failure = StartFailure {
                    failure,
                    log: Vec::new(),
                    usage: Usage::default(),
                };
                self.start_failed(pool, instance, StartFault::Platform, failure);
            }
        }
    }

    /// Issues credentials for one instance. The instance serves requests for half of their validity only, so that each
    /// request can end within it.
    fn credentials(&self, spec: &InstanceSpec) -> Option<Credentials> {
        let settings = &self.shared.settings;
        let name = spec.role.as_ref()?;
        let Some(role) = settings.access.role(spec.function.account, name) else {
            warn!(function = %spec.function.name, role = %name, "the role does not exist; the function gets no credentials");
            return None;
        };
        let valid_for = (settings.role_session / 2).max(settings.keep_alive + spec.timeout);
        match settings.access.issue_credentials(&role, 2 * valid_for) {
            Ok(lent) => Some(Credentials {
                id: lent.id,
                key: lent.key.reveal().to_owned(),
                token: lent.token.reveal().to_owned(),
                valid_for,
            }),
            Err(error) => {
                warn!(function = %spec.function.name, %error, "failed to issue credentials; the function gets none");
                None
            }
        }
    }

    fn start_failed(
        &self,
        pool: PoolId,
        instance: InstanceId,
        fault: StartFault,
        failure: StartFailure,
    ) {
        let now = self.now();
        let mut core = self.core();
        core.start_failed(now, pool, instance, fault, failure);
        self.perform(core);
    }
}
