//! An option and its names.

/// An option, as the command line and the reference page show it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opt {
    /// The key in the file. The flag is `--a-b`, the environment variable `VIRGA_A_B`.
    pub(crate) name: &'static str,
    /// An earlier name. It still works as a flag, a variable and a file key; it is hidden from the help, and its use logs a
    /// deprecation warning.
    pub(super) earlier: Option<&'static str>,
    /// The placeholder of the value in the help.
    pub(super) value: &'static str,
    /// The default; empty if there is none or it depends on the host.
    pub(super) default: &'static str,
    /// The doc comment of its field.
    doc: &'static str,
}

impl Opt {
    pub(super) const fn new(
        name: &'static str,
        earlier: Option<&'static str>,
        value: &'static str,
        default: &'static str,
        doc: &'static str,
    ) -> Self {
        Self {
            name,
            earlier,
            value,
            default,
            doc,
        }
    }

    /// Returns the line in the help and on the reference page.
    pub(super) fn help(&self) -> &'static str {
        self.doc.trim()
    }

    pub(super) fn flag(&self) -> String {
        flag(self.name)
    }

    pub(super) fn variable(&self) -> String {
        variable(self.name)
    }

    /// Returns the current name and then the earlier one.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.earlier)
    }
}

/// Returns the flag of a name.
pub(super) fn flag(name: &str) -> String {
    name.replace('_', "-")
}

/// Returns the environment variable of a name.
pub(super) fn variable(name: &str) -> String {
    format!("VIRGA_{}", name.to_uppercase())
}
