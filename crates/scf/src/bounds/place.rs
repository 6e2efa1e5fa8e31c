//! Places in a document, and what their bounds leave.

use std::cell::{Cell, RefCell};
use std::fmt;

use super::{Bound, Bounds};
use crate::Error;

/// Size counted for a value that is not a text (bytes).
pub(super) const OTHER: u64 = 8;

/// A deserialization in progress.
pub(super) struct Reading<'b> {
    pub(super) bounds: &'b Bounds,
    /// Error of the first value that exceeds its bound.
    pub(super) refusal: RefCell<Option<Error>>,
}

/// The path to a value: a linked list whose nodes live on the stack of the deserializing functions.
#[derive(Clone, Copy)]
pub(super) enum Path<'p> {
    Root,
    Field(&'p Path<'p>, &'p str),
    Item(&'p Path<'p>, usize),
}

impl Path<'_> {
    /// Formats the path without list indexes, as in [`Bounds`].
    pub(super) fn name(&self) -> String {
        match self {
            Path::Root => String::new(),
            Path::Item(list, _) => list.name(),
            Path::Field(Path::Root, name) => (*name).to_owned(),
            Path::Field(parent, name) => format!("{}.{name}", parent.name()),
        }
    }

    pub(super) fn depth(&self) -> u64 {
        match self {
            Path::Root => 0,
            Path::Item(parent, _) | Path::Field(parent, _) => parent.depth() + 1,
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A name in a free-form document can be as long as the request.
        let short = |name: &str| -> String { name.chars().take(60).collect() };
        match self {
            Path::Root => f.write_str("the request"),
            Path::Item(list, index) => write!(f, "{list}[{index}]"),
            Path::Field(Path::Root, name) => f.write_str(&short(name)),
            Path::Field(parent, name) => write!(f, "{parent}.{}", short(name)),
        }
    }
}

/// The measured size of a top-level field with all its content.
pub(super) struct Sum {
    pub(super) bytes: Cell<u64>,
    /// Maximum nesting depth.
    pub(super) levels: Cell<u64>,
    pub(super) is_document: Cell<bool>,
    /// Bounds that apply. None until the field turns out to be a list or an object, since a single text has its own bound.
    pub(super) bound: Cell<Option<Held>>,
}

/// The bounds on size and nesting depth of a field.
#[derive(Clone, Copy)]
pub(super) struct Held {
    pub(super) bytes: Bound,
    pub(super) levels: Bound,
}

impl Sum {
    pub(super) fn new() -> Self {
        Self {
            bytes: Cell::new(0),
            levels: Cell::new(0),
            is_document: Cell::new(false),
            bound: Cell::new(None),
        }
    }

    pub(super) fn add(&self, bytes: u64) {
        self.bytes.set(self.bytes.get().saturating_add(bytes));
    }

    pub(super) fn deepen(&self, level: u64) {
        self.levels.set(self.levels.get().max(level));
    }

    /// Whether further values are only measured, then discarded.
    pub(super) fn is_over(&self) -> bool {
        self.bound.get().is_some_and(|held| {
            self.bytes.get() > held.bytes.most || self.levels.get() > held.levels.most
        })
    }
}

/// The position of a value.
#[derive(Clone, Copy)]
pub(super) struct FieldPosition<'p> {
    pub(super) reading: &'p Reading<'p>,
    pub(super) path: Path<'p>,
    pub(super) sum: Option<&'p Sum>,
}

impl<'p> FieldPosition<'p> {
    pub(super) fn refuse(&self, bound: &Bound, given: u64) {
        let mut refusal = self.reading.refusal.borrow_mut();
        refusal.get_or_insert_with(|| bound.refuse(&self.path, given));
    }

    /// Checks a text against its bound.
    pub(super) fn keeps(&self, text: &str) -> bool {
        let length = text.len() as u64;
        if let Some(sum) = self.sum {
            sum.add(length);
        }
        let bounds = self.reading.bounds;
        if length <= bounds.text_floor {
            return true;
        }
        let bound = bounds.of_text(&self.path.name());
        let given = bound.measure(text);
        if given > bound.most {
            self.refuse(&bound, given);
        }
        given <= bound.most
    }

    /// Counts a list or an object.
    pub(super) fn enter(&self) {
        let Some(sum) = self.sum else { return };
        if let Path::Field(Path::Root, name) = self.path {
            let bounds = self.reading.bounds;
            sum.bound.set(Some(Held {
                bytes: bounds.of_whole(name, sum.is_document.get()),
                levels: bounds.of_levels(name),
            }));
        }
        sum.add(OTHER);
        sum.deepen(self.path.depth());
    }

    pub(super) fn other(&self) {
        if let Some(sum) = self.sum {
            sum.add(OTHER);
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.sum.is_some_and(Sum::is_over)
    }

    pub(super) fn is_document(&self) -> bool {
        self.sum.is_some_and(|sum| sum.is_document.get())
    }

    /// Rejects a top-level field that exceeds its bounds, after it was read.
    pub(super) fn leave(&self, sum: &Sum) {
        let Some(Held { bytes, levels }) = sum.bound.get() else {
            return;
        };
        if sum.levels.get() > levels.most {
            self.refuse(&levels, sum.levels.get());
        }
        if sum.bytes.get() > bytes.most {
            self.refuse(&bytes, sum.bytes.get());
        }
    }

    /// Returns the bound that a list of this length exceeds.
    pub(super) fn exceeds(&self, items: u64) -> Option<Bound> {
        let bounds = self.reading.bounds;
        if items <= bounds.items_floor {
            return None;
        }
        let bound = bounds.of_list(&self.path.name());
        (items > bound.most).then_some(bound)
    }
}
