//! Files of objects, as `apply` and `delete` take them: YAML documents or JSON.
//!
//! Refuses, before anything is sent, what the policy crate refuses, naming the file, the document
//! and the field.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use policy::{ParseError, Resource, parse_documents};
use thiserror::Error;

/// The objects in a file, or on standard input where the path is `-`.
pub(crate) fn read(path: &Path) -> Result<Vec<Resource>, ManifestError> {
    let text = read_text(path).map_err(|source| ManifestError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<Vec<Resource>, ManifestError> {
    let objects = parse_documents(text).map_err(|source| ManifestError::Parse {
        path: path.to_owned(),
        source,
    })?;
    if objects.is_empty() {
        return Err(ManifestError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(objects)
}

fn read_text(path: &Path) -> io::Result<String> {
    if path != Path::new("-") {
        return fs::read_to_string(path);
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

/// Why a file of objects cannot be used.
#[derive(Debug, Error)]
pub(crate) enum ManifestError {
    #[error("cannot read {}", Source(path))]
    Read { path: PathBuf, source: io::Error },
    #[error("{} was not understood", Source(path))]
    Parse { path: PathBuf, source: ParseError },
    #[error("{} contains no object", Source(path))]
    Empty { path: PathBuf },
}

struct Source<'a>(&'a Path);

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == Path::new("-") {
            f.write_str("standard input")
        } else {
            self.0.display().fmt(f)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_without_objects_is_refused() {
        let error = parse(Path::new("empty.yaml"), "# nothing\n").unwrap_err();
        assert!(matches!(error, ManifestError::Empty { .. }), "{error:?}");
    }

    #[test]
    fn missing_file_is_named() {
        let error = read(Path::new("/nonexistent.yaml")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nonexistent.yaml");
    }

    #[test]
    fn object_of_unknown_kind_is_refused() {
        let text = "apiVersion: countersign.dev/v1\nkind: Polcy\nmetadata: {namespace: a, name: b}\nspec: {}\n";
        assert!(matches!(
            parse(Path::new("p.yaml"), text),
            Err(ManifestError::Parse { .. })
        ));
    }
}
