//! The roots that a credential pins. They follow what the CA publishes, so that a credential that
//! is used now and then outlives every root.
//!
//! Invariant: they change only by the word of a CA that has proved itself by one of them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use crypto::digest::Sha256;
use http::{HeaderMap, HeaderName};
use thiserror::Error;
use zeroize::Zeroizing;

/// SHA-256 of each published root, in hex, separated by commas.
const HEADER: HeaderName = HeaderName::from_static("countersign-roots");
const KEY: &str = "root_sha256";

/// Cheap to clone; all clones follow together.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    path: Arc<PathBuf>,
    digests: Arc<RwLock<Vec<Sha256>>>,
}

/// Why the file does not follow. The process that noticed goes on.
#[derive(Debug, Error)]
pub(super) enum NotFollowed {
    #[error("the roots have changed, and the credential's file could not be written")]
    File(#[from] runtime::FileError),
    #[error("the roots have changed, and the credential's file is not what it was")]
    Content,
}

impl Pins {
    pub(super) fn new(path: &Path, digests: Vec<Sha256>) -> Self {
        Self {
            path: Arc::new(path.to_owned()),
            digests: Arc::new(RwLock::new(digests)),
        }
    }

    pub(super) fn current(&self) -> Vec<Sha256> {
        let digests = self.digests.read();
        digests.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes what an answer says of the published roots; an older CA says nothing.
    pub(super) fn follow(&self, headers: &HeaderMap) -> Result<(), NotFollowed> {
        let Some(published) = published(headers).filter(|it| *it != self.current()) else {
            return Ok(());
        };
        let written = self.rewrite(&published);
        let mut digests = self.digests.write().unwrap_or_else(PoisonError::into_inner);
        *digests = published;
        written
    }

    fn rewrite(&self, published: &[Sha256]) -> Result<(), NotFollowed> {
        let bytes = Zeroizing::new(runtime::files::read_private(self.path.as_path())?.to_vec());
        let text = std::str::from_utf8(&bytes).map_err(|_| NotFollowed::Content)?;
        let mut lines = text.lines().map(str::to_owned).map(Zeroizing::new);
        let mut content = Zeroizing::new(String::with_capacity(text.len() + 256));
        let mut replaced = false;
        for line in &mut lines {
            if line.trim_start().starts_with(KEY) && line.trim_end().ends_with(']') {
                let digests: Vec<_> = published.iter().map(|it| format!("\"{it}\"")).collect();
                content.push_str(&format!("{KEY} = [{}]", digests.join(", ")));
                replaced = true;
            } else {
                content.push_str(&line);
            }
            content.push('\n');
        }
        if !replaced {
            return Err(NotFollowed::Content);
        }
        Ok(runtime::files::write_private(
            self.path.as_path(),
            content.as_bytes(),
        )?)
    }
}

/// `None` unless each is a digest, and there is one.
fn published(headers: &HeaderMap) -> Option<Vec<Sha256>> {
    let text = headers.get(HEADER)?.to_str().ok()?;
    let digests = text.split(',').map(str::parse).collect::<Result<_, _>>();
    digests.ok().filter(|it: &Vec<Sha256>| !it.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "root_sha256 = [\"aa\"]\nsecret = \"csa1_x\"\n";

    fn file(content: &str) -> (tempfile::TempDir, Pins) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.toml");
        runtime::files::write_private(&path, content.as_bytes()).unwrap();
        (directory, Pins::new(&path, vec![Sha256::of(b"old")]))
    }

    fn said(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HEADER, value.parse().unwrap())])
    }

    #[test]
    fn what_is_no_list_of_digests_changes_nothing() {
        let (_directory, pins) = file(OLD);
        for value in ["", "ab", "x,y"] {
            pins.follow(&said(value)).unwrap();
        }
        assert_eq!(pins.current(), [Sha256::of(b"old")]);
    }

    #[test]
    fn the_file_follows_and_keeps_what_else_it_says() {
        let (_directory, pins) = file(OLD);
        let (one, two) = (Sha256::of(b"one"), Sha256::of(b"two"));
        pins.follow(&said(&format!("{one},{two}"))).unwrap();
        let text = std::fs::read_to_string(pins.path.as_path()).unwrap();
        assert_eq!(
            text,
            format!("root_sha256 = [\"{one}\", \"{two}\"]\nsecret = \"csa1_x\"\n")
        );
        assert_eq!(pins.current(), [one, two]);
    }

    #[test]
    fn a_file_that_is_something_else_by_now_is_left_alone() {
        let (_directory, pins) = file("other = 1\n");
        let one = Sha256::of(b"one");
        let refused = pins.follow(&said(&one.to_string()));
        assert!(matches!(refused, Err(NotFollowed::Content)));
        assert_eq!(pins.current(), [one]);
    }
}
