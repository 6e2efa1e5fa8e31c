//! Words for people on a terminal, JSON in a pipe.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::Failure;

/// Where a command writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    progress: bool,
}

impl Output {
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

    /// The result: one line for people, the document for programs.
    pub(crate) fn result<T: Serialize>(&self, words: &str, document: &T) {
        if self.json {
            self.document(document);
        } else {
            line(&mut io::stdout(), words);
        }
    }

    /// A document: on many lines for people, on one for programs.
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

    /// A document on one line.
    pub(crate) fn document<T: Serialize>(&self, document: &T) {
        line(
            &mut io::stdout(),
            &serde_json::to_string(document).unwrap_or_default(),
        );
    }

    /// Text as it is.
    pub(crate) fn text(&self, text: &str) {
        line(&mut io::stdout(), text.trim_end_matches('\n'));
    }

    /// What is going on, for people who wait.
    pub(crate) fn progress(&self, words: &str) {
        if self.progress {
            line(&mut io::stderr(), words);
        }
    }

    /// A remark that is not the result.
    pub(crate) fn note(&self, words: &str) {
        line(&mut io::stderr(), words);
    }

    pub(crate) fn failure(&self, failure: &Failure) {
        line(&mut io::stderr(), &format!("virga: {failure}"));
    }

    /// Rows under headings, or the documents behind them.
    pub(crate) fn table<T: Serialize>(
        &self,
        headings: &[&str],
        rows: Vec<Vec<String>>,
        documents: &T,
    ) {
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

/// A reader that has gone, as `head` does, is no fault.
fn line(to: &mut impl Write, text: &str) {
    let _ = writeln!(to, "{text}");
}
