//! Running and waiting builds of the node.

use std::collections::{HashMap, HashSet};

use dispatch::{InstanceId, MachineEffect, MachineEvent, PoolId, Reject, Ticket};
use tokio::sync::oneshot;

/// Running and waiting builds of the node.
#[derive(Debug, Default)]
pub(super) struct Builds {
    pub(super) waiting: HashMap<Ticket, oneshot::Sender<Result<InstanceId, Reject>>>,
    pub(super) pools: HashMap<PoolId, Ticket>,
    pub(super) running: HashSet<InstanceId>,
    /// Events for the machine in reply to its effects: a build starts and stops at once.
    events: Vec<MachineEvent>,
}

impl Builds {
    /// Returns the number of running and of waiting builds.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.running.len(), self.waiting.len())
    }

    pub(super) fn next_event(&mut self) -> Option<MachineEvent> {
        self.events.pop()
    }

    /// Handles an effect that concerns a build; returns any other.
    pub(super) fn intercept(&mut self, effect: MachineEffect) -> Option<MachineEffect> {
        if self.pools.is_empty() {
            return Some(effect);
        }
        match effect {
            MachineEffect::Start { instance, pool, .. } if self.pools.contains_key(&pool) => {
                self.running.insert(instance);
                self.events.push(MachineEvent::Started { instance });
            }
            MachineEffect::Stop { instance } if self.running.remove(&instance) => {
                self.events.push(MachineEvent::Ended { instance });
            }
            MachineEffect::Freeze { instance } if self.running.contains(&instance) => {}
            MachineEffect::Assign {
                ticket, instance, ..
            } if self.running.contains(&instance) => self.answer(ticket, Ok(instance)),
            MachineEffect::Reject { ticket, reason } if self.waiting.contains_key(&ticket) => {
                self.answer(ticket, Err(reason));
            }
            MachineEffect::PoolEmpty { pool } if self.pools.remove(&pool).is_some() => {}
            _ => return Some(effect),
        }
        None
    }

    fn answer(&mut self, ticket: Ticket, answer: Result<InstanceId, Reject>) {
        if let Some(waiting) = self.waiting.remove(&ticket) {
            // A receiver that was just dropped checks for a grant and releases it.
            let _ = waiting.send(answer);
        }
    }
}
