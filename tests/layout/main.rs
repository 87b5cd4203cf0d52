//! The shape of the project, held as claims: which crate may use which, what may be linked in,
//! how large a file may grow. A rule that only a document states is broken within a month.

mod dependencies;
mod files;
mod metadata;
