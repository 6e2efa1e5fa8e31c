//! Kinds of triggers that SCF has and virga does not.

use super::description::TriggerDescription;

/// Topics of CKafka.
pub(super) const CKAFKA: TriggerDescription = TriggerDescription {
    name: "ckafka",
    origin: "CKAFKA",
    available: false,
    ..TriggerDescription::EVENTS
};

/// Topics of the log service.
pub(super) const CLS: TriggerDescription = TriggerDescription {
    name: "cls",
    origin: "CLS",
    available: false,
    ..TriggerDescription::EVENTS
};
