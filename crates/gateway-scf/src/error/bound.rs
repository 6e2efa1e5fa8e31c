//! The codes of values that are larger than their bounds, by the path of the field.

use scf::Code;

/// Returns the code for a text that is too long.
pub(crate) fn long_text(path: &str) -> Code {
    match path {
        "ClientContext" | "Event" => Code::RequestTooLarge,
        "ZipFile" | "Code.ZipFile" | "Content.ZipFile" => Code::InvalidZipFile,
        "CosObjectName" | "Code.CosObjectName" | "Content.CosObjectName" => {
            Code::InvalidCosObjectName
        }
        "Description" => Code::InvalidDescription,
        "Environment.Variables.Key" | "Environment.Variables.Value" => {
            Code::EnvironmentExceededLimit
        }
        "DeadLetterConfig.Name" => Code::InvalidDeadLetterConfig,
        "Resource" | "ResourceList" => Code::ResourceDescriptionError,
        "ResourceIds" => Code::ResourceIdInvalid,
        "TriggerDesc" => Code::InvalidTriggerDesc,
        "CustomArgument" => Code::InvalidCustomArgument,
        _ => Code::InvalidParameterValue,
    }
}

/// Returns the code for a list with too many items.
pub(crate) fn long_list(path: &str) -> Code {
    match path {
        "Environment.Variables" => Code::EnvironmentExceededLimit,
        "Layers" => Code::LimitExceededLayers,
        "Filters" => Code::InvalidFilters,
        "TriggerActions" => Code::LimitExceededProvisionTriggerAction,
        _ => Code::InvalidParameterValue,
    }
}

/// Returns the code for a field that is too large with all its content.
pub(crate) fn large_field(path: &str) -> Code {
    match path {
        "Code" | "Content" => Code::InvalidCode,
        "Environment" => Code::EnvironmentExceededLimit,
        _ => Code::InvalidParameterValue,
    }
}
