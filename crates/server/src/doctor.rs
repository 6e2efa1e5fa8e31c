//! `virga doctor`: checks whether this host can isolate functions, and says how to fix failed checks.

use sandbox::user::Privileges;
use serde::Serialize;
use worker::Interpreters;

/// The result of one check.
#[derive(Debug, Serialize)]
pub(crate) struct DoctorCheck {
    pub(crate) name: String,
    pub(crate) ok: bool,
    /// The finding, or the fault and how to fix it.
    pub(crate) detail: String,
}

/// Runs all checks.
pub(crate) fn run_checks(privileges: &Result<Privileges, String>) -> Vec<DoctorCheck> {
    let mut checks: Vec<_> = sandbox::probe::host(privileges)
        .into_iter()
        .chain([sandbox::probe::network()])
        .map(|check| {
            let ok = check.result.is_ok();
            let detail = check.result.unwrap_or_else(|why| why);
            DoctorCheck {
                name: check.name.to_owned(),
                ok,
                detail,
            }
        })
        .collect();
    checks.push(temporary_files());
    checks.push(interpreters());
    checks
}

/// Checks where functions' temporary files are stored. Neither answer is a failure.
fn temporary_files() -> DoctorCheck {
    let found = sandbox::disk::probe(&std::env::temp_dir());
    let detail = match found {
        Ok(()) => "on disk".to_owned(),
        Err(why) => format!(
            "in memory, charged to the function's memory, because per-instance disks are not available: {why}"
        ),
    };
    DoctorCheck {
        name: "/tmp".to_owned(),
        ok: true,
        detail,
    }
}

fn interpreters() -> DoctorCheck {
    let found = Interpreters::find(&[], true);
    let list: Vec<_> = found
        .all()
        .map(|one| format!("{} ({})", one.runtime, one.program.display()))
        .collect();
    let ok = found.preferred().is_some();
    let detail = if ok {
        list.join(", ")
    } else {
        "no Python was found; install python3 (apt install python3)".to_owned()
    };
    DoctorCheck {
        name: "interpreters".to_owned(),
        ok,
        detail,
    }
}
