//! What is kept between two looks: the log's key, and the last checkpoint that was verified.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};
use tlog::{Checkpoint, VerifiedCheckpoint, VerifierKey};

use crate::admin::AdminArguments;
use crate::output::cell;

pub(super) struct Memory {
    pub(super) key: VerifierKey,
    note: String,
}

/// The file that is named, or the usual one.
pub(super) fn path(
    named: Option<PathBuf>,
    admin: &AdminArguments,
    trust_domain: &str,
) -> anyhow::Result<PathBuf> {
    let usual = || {
        let directory = admin.state_directory()?;
        Some(directory.join("log").join(format!("{trust_domain}.json")))
    };
    named
        .or_else(usual)
        .context("neither HOME nor XDG_STATE_HOME is set; use --state FILE")
}

impl Memory {
    pub(super) fn new(key: &VerifierKey, note: &str) -> Self {
        Self {
            key: key.clone(),
            note: note.to_owned(),
        }
    }

    /// `None` before the first look. A file that cannot be read is an error: to take it for none
    /// would be to believe any log.
    pub(super) fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        let text = match std::fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            outcome => outcome.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let damaged = || format!("{} is not what a look at the log keeps", path.display());
        let value: Value = serde_json::from_slice(&text).with_context(damaged)?;
        let memory = Self {
            key: cell(&value, "/key").parse().with_context(damaged)?,
            note: value["checkpoint"].as_str().unwrap_or_default().to_owned(),
        };
        memory.checkpoint().with_context(damaged)?;
        Ok(Some(memory))
    }

    /// The last checkpoint seen.
    pub(super) fn checkpoint(&self) -> anyhow::Result<VerifiedCheckpoint> {
        Ok(Checkpoint::open(&self.note, &self.key)?)
    }

    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
        // Nothing in the file is secret; a folder that is there already is as its owner wants it.
        if let Some(directory) = directory.filter(|it| !it.exists()) {
            runtime::files::private_directory(directory)?;
        }
        let value = json!({ "key": self.key.to_string(), "checkpoint": self.note });
        runtime::files::write_private(path, format!("{value:#}\n").as_bytes())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crypto::ed25519::Ed25519Key;
    use tlog::NoteSigner;

    use super::*;

    #[test]
    fn a_damaged_memory_is_no_first_look() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.json");
        assert!(Memory::read(&path).unwrap().is_none());
        for text in ["", "{}", r#"{"key": "a+b+c", "checkpoint": ""}"#] {
            std::fs::write(&path, text).unwrap();
            assert!(Memory::read(&path).is_err(), "{text}");
        }
    }

    #[test]
    fn what_was_kept_is_read() {
        let signer = NoteSigner::try_new("log", Ed25519Key::generate()).unwrap();
        let checkpoint = Checkpoint {
            origin: "log".to_owned(),
            size: 0,
            root: tlog::empty_root(),
        };
        let note = checkpoint.sign(&signer).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new").join("log.json");
        Memory::new(signer.verifier(), &note).write(&path).unwrap();
        let read = Memory::read(&path).unwrap().unwrap();
        assert_eq!(&read.key, signer.verifier());
        assert_eq!(read.checkpoint().unwrap().size(), 0);
    }
}
