//! The triggers of a function.

use crate::{
    Function, FunctionUrl, GatewayApi, ObjectEvents, Qualifier, Trigger, TriggerKind, TriggerName,
    TriggerSpec,
};

impl Function {
    /// Finds an API by its service id.
    pub fn api(&self, service: &str) -> Option<(&Trigger, &GatewayApi)> {
        self.triggers
            .iter()
            .find_map(|trigger| match &trigger.spec {
                TriggerSpec::Apigw(api) if api.service.as_str() == service => Some((trigger, api)),
                _ => None,
            })
    }

    /// Returns the ids by which HTTP requests address its triggers: URL ids and API service ids.
    pub fn http_ids(&self) -> impl Iterator<Item = &TriggerName> {
        let triggers = self.triggers.iter();
        triggers.filter_map(|trigger| trigger.spec.http_id(&trigger.name))
    }

    /// Finds a function URL by its id.
    pub fn url(&self, id: &str) -> Option<(&Trigger, &FunctionUrl)> {
        self.triggers
            .iter()
            .find_map(|trigger| match &trigger.spec {
                TriggerSpec::Http(url) if trigger.name.as_str() == id => Some((trigger, url)),
                _ => None,
            })
    }

    /// Returns its bucket triggers with their event filters.
    pub fn bucket_triggers(&self) -> impl Iterator<Item = (&Trigger, &ObjectEvents)> {
        self.triggers
            .iter()
            .filter_map(|trigger| match &trigger.spec {
                TriggerSpec::Cos(events) => Some((trigger, events)),
                _ => None,
            })
    }

    /// Returns its triggers of one kind.
    pub fn triggers_of(&self, kind: TriggerKind) -> impl Iterator<Item = &Trigger> {
        let of_kind = move |trigger: &&Trigger| trigger.spec.kind() == kind;
        self.triggers.iter().filter(of_kind)
    }

    /// Returns whether the version or alias exists.
    pub fn has_qualifier(&self, qualifier: &Qualifier) -> bool {
        match qualifier {
            Qualifier::Latest => true,
            Qualifier::Version(number) => self.versions.contains_key(number),
            Qualifier::Alias(name) => self.alias(name).is_some(),
        }
    }

    /// Returns the names of the triggers that invoke a version or alias.
    pub fn triggers_on(&self, qualifier: &Qualifier) -> Vec<&str> {
        let bound = self
            .triggers
            .iter()
            .filter(|trigger| trigger.qualifier == *qualifier);
        bound.map(|trigger| trigger.name.as_str()).collect()
    }
}
