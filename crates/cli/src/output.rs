//! Command output: text on a terminal, JSON in a pipe.

use std::io::{self, IsTerminal, Write};

use clap::ArgMatches;
use serde::Serialize;

use super::failure::Failure;

/// The output format of a command.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
    progress: bool,
}

impl Output {
    /// Returns the format from the flags `--json` and `--text`.
    pub fn of(matches: &ArgMatches) -> Self {
        if matches.get_flag("text") {
            Self::text_only()
        } else {
            Self::new(matches.get_flag("json"))
        }
    }

    pub(crate) fn new(json: bool) -> Self {
        let json = json || !io::stdout().is_terminal();
        Self {
            json,
            progress: io::stderr().is_terminal(),
        }
    }

    pub(crate) fn text_only() -> Self {
        Self {
            json: false,
            progress: io::stderr().is_terminal(),
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints the result: a line of text, or the document as JSON.
    pub(crate) fn result<T: Serialize>(&self, words: &str, document: &T) {
        if self.json {
            self.document(document);
        } else {
            line(&mut io::stdout(), words);
        }
    }

    /// Prints a document: indented as text, on one line as JSON.
    pub(crate) fn pretty<T: Serialize>(&self, document: &T) {
        if self.json {
            self.document(document);
        } else {
            line(
                &mut io::stdout(),
                &serde_json::to_string_pretty(document).unwrap_or_default(),
            );
        }
    }

    /// Prints a document as JSON on one line.
    pub(crate) fn document<T: Serialize>(&self, document: &T) {
        line(
            &mut io::stdout(),
            &serde_json::to_string(document).unwrap_or_default(),
        );
    }

    /// Prints text unchanged.
    pub(crate) fn text(&self, text: &str) {
        line(&mut io::stdout(), text.trim_end_matches('\n'));
    }

    /// Prints progress to stderr if it is a terminal.
    pub(crate) fn progress(&self, words: &str) {
        if self.progress {
            line(&mut io::stderr(), words);
        }
    }

    /// Prints a note to stderr.
    pub(crate) fn note(&self, words: &str) {
        line(&mut io::stderr(), words);
    }

    pub(crate) fn failure(&self, failure: &Failure) {
        line(&mut io::stderr(), &format!("virga: {failure}"));
    }

    /// Prints a table with headings, or the documents as JSON.
    pub fn table<T: Serialize>(&self, headings: &[&str], rows: Vec<Vec<String>>, documents: &T) {
        if self.json {
            return self.document(documents);
        }
        let headings: Vec<String> = headings
            .iter()
            .map(|heading| (*heading).to_owned())
            .collect();
        let all: Vec<_> = std::iter::once(headings).chain(rows).collect();
        let columns = all.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            all.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        for row in &all {
            let cells: Vec<_> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}", width = *width))
                .collect();
            line(&mut io::stdout(), cells.join("  ").trim_end());
        }
    }
}

/// Writes a line. A closed pipe, as with `head`, is not an error.
fn line(to: &mut impl Write, text: &str) {
    let _ = writeln!(to, "{text}");
}
