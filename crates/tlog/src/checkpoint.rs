//! Checkpoints (c2sp.org/tlog-checkpoint): the size and the root of a log at one moment, in a
//! signed note.

use std::fmt;
use std::str::FromStr;

use crypto::digest::Sha256;
use data_encoding::BASE64;
use thiserror::Error;

use crate::note::{NoteError, NoteSigner, UnverifiedNote, VerifierKey};

/// What a log states of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Names the log; also the name of its key.
    pub origin: String,
    /// How many leaves there are.
    pub size: u64,
    pub root: Sha256,
}

/// A checkpoint that the log has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCheckpoint(Checkpoint);

/// Why a checkpoint says nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CheckpointError {
    #[error("the checkpoint's note cannot be used")]
    Note(#[source] NoteError),
    #[error("a checkpoint has three lines: origin, size and root")]
    Form,
    #[error("the size is a decimal number without leading zeros")]
    Size,
    #[error("the root is 32 bytes in base64")]
    Root,
    #[error("the checkpoint is of the log {found}, not of {wanted}")]
    Origin { found: String, wanted: String },
}

impl Checkpoint {
    /// The checkpoint, signed by the log.
    pub fn sign(&self, signer: &NoteSigner) -> Result<String, CheckpointError> {
        signer
            .sign(&self.to_string())
            .map_err(CheckpointError::Note)
    }

    /// Takes a checkpoint as it is served, if this log has signed it.
    pub fn open(note: &str, key: &VerifierKey) -> Result<VerifiedCheckpoint, CheckpointError> {
        let note: UnverifiedNote = note.parse().map_err(CheckpointError::Note)?;
        let text = note.verified_by(key).map_err(CheckpointError::Note)?;
        let checkpoint: Self = text.parse()?;
        match checkpoint.origin == key.name() {
            true => Ok(VerifiedCheckpoint(checkpoint)),
            false => Err(CheckpointError::Origin {
                found: checkpoint.origin,
                wanted: key.name().to_owned(),
            }),
        }
    }
}

impl VerifiedCheckpoint {
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.0.origin
    }

    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.size
    }

    #[must_use]
    pub fn root(&self) -> Sha256 {
        self.0.root
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = BASE64.encode(self.root.as_bytes());
        write!(f, "{}\n{}\n{root}\n", self.origin, self.size)
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    /// Lines that follow the root are for others, and are passed over.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.strip_suffix('\n').ok_or(CheckpointError::Form)?;
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError::Form);
        };
        if origin.is_empty() || lines.any(str::is_empty) {
            return Err(CheckpointError::Form);
        }
        let root = BASE64.decode(root.as_bytes()).unwrap_or_default();
        Ok(Self {
            origin: origin.to_owned(),
            size: decimal(size).ok_or(CheckpointError::Size)?,
            root: Sha256::from_bytes(root.try_into().map_err(|_| CheckpointError::Root)?),
        })
    }
}

fn decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with(['0', '+']);
    canonical.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use crypto::ed25519::Ed25519Key;
    use proptest::prelude::*;

    use super::*;

    const ROOT: &str = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";

    fn signer(name: &str) -> NoteSigner {
        NoteSigner::try_new(name, Ed25519Key::from_seed([7; 32])).unwrap()
    }

    #[track_caller]
    fn refused(text: &str, expected: CheckpointError) {
        assert_eq!(text.parse::<Checkpoint>(), Err(expected));
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        refused("", CheckpointError::Form);
        refused(&format!("log\n1\n{ROOT}"), CheckpointError::Form);
        refused(&format!("\n1\n{ROOT}\n"), CheckpointError::Form);
        refused("log\n1\n", CheckpointError::Form);
        refused(&format!("log\n1\n{ROOT}\n\nmore\n"), CheckpointError::Form);
    }

    #[test]
    fn a_size_in_another_form_is_refused() {
        for size in ["", "01", "+1", "-1", "18446744073709551616", "1 "] {
            refused(&format!("log\n{size}\n{ROOT}\n"), CheckpointError::Size);
        }
    }

    #[test]
    fn a_root_of_another_length_is_refused() {
        refused("log\n1\nAAAA\n", CheckpointError::Root);
        refused(&format!("log\n1\n{} \n", ROOT), CheckpointError::Root);
    }

    #[test]
    fn a_checkpoint_of_another_log_is_refused_though_the_key_signed_it() {
        let checkpoint: Checkpoint = format!("other\n1\n{ROOT}\n").parse().unwrap();
        let signer = signer("log");
        let note = checkpoint.sign(&signer).unwrap();
        let expected = CheckpointError::Origin {
            found: "other".to_owned(),
            wanted: "log".to_owned(),
        };
        assert_eq!(Checkpoint::open(&note, signer.verifier()), Err(expected));
    }

    #[test]
    fn lines_that_are_for_others_are_passed_over() {
        let text = format!("example.com/log\n20852163\n{ROOT}\nmore\n");
        let checkpoint: Checkpoint = text.parse().unwrap();
        assert_eq!(checkpoint.size, 20_852_163);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn a_signed_checkpoint_is_read_as_it_was_made(size: u64, root: [u8; 32]) {
            let signer = signer("corp.example/log");
            let made = Checkpoint {
                origin: "corp.example/log".to_owned(),
                size,
                root: Sha256::from_bytes(root),
            };
            let note = made.sign(&signer).unwrap();
            prop_assert_eq!(Checkpoint::open(&note, signer.verifier()), Ok(VerifiedCheckpoint(made)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[a-z0-9+=/\n]{0,90}") {
            if let Ok(checkpoint) = text.parse::<Checkpoint>() {
                prop_assert!(text.starts_with(checkpoint.to_string().trim_end()));
            }
        }
    }
}
