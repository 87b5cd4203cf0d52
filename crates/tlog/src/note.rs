//! Signed notes (c2sp.org/signed-note) and their Ed25519 keys.
//!
//! Invariant: [`UnverifiedNote::verified_by`] is the only way to a note's text. It refuses a note
//! that the key did not sign, and one where a line in the key's name and id does not verify.

use std::fmt;
use std::str::FromStr;

use crypto::digest::Sha256;
use crypto::ed25519::{Ed25519Key, Ed25519PublicKey};
use data_encoding::{BASE64, HEXLOWER};
use thiserror::Error;

const ED25519: u8 = 0x01;
/// No note is longer, in bytes.
const MAX_NOTE: usize = 1_000_000;
const MAX_SIGNATURES: usize = 100;
const DASH: &str = "\u{2014} ";

/// The public key of who signs notes, in the form `name+id+key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key: Ed25519PublicKey,
}

/// Signs notes in a name.
#[derive(Clone, Debug)]
pub struct NoteSigner {
    verifier: VerifierKey,
    key: Ed25519Key,
}

/// A note that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedNote {
    text: String,
    signatures: Vec<Signature>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature {
    name: String,
    id: [u8; 4],
    bytes: Vec<u8>,
}

/// Why a text or a name makes no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    #[error("a key of a note has the form name+id+key")]
    Form,
    #[error("the name of a key is not empty, and has no space and no plus sign")]
    Name,
    #[error("the id of the key is not that of its name and value")]
    Id,
    #[error("the key is not an Ed25519 key in base64, the only kind that is known here")]
    Algorithm,
}

/// Why a note says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoteError {
    #[error("a note has at most {MAX_NOTE} bytes")]
    TooLong,
    #[error("a note is text without control characters, and ends with a newline")]
    Text,
    #[error("a note ends with an empty line and the lines of its signatures")]
    Form,
    #[error("a line of a signature is a dash, a name, and the id and signature in base64")]
    Signature,
    #[error("a note has at most {MAX_SIGNATURES} signatures")]
    TooManySignatures,
    #[error("the note is not signed by the key")]
    NotSigned,
    #[error("the note has a signature in the name of the key that does not verify")]
    Forged,
}

impl VerifierKey {
    /// `name` is not empty, without spaces and plus signs.
    pub fn try_new(name: &str, key: Ed25519PublicKey) -> Result<Self, KeyError> {
        match is_name(name) {
            true => Ok(Self {
                name: name.to_owned(),
                key,
            }),
            false => Err(KeyError::Name),
        }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names the key beside its name in signatures.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        let parts = [
            self.name.as_bytes(),
            b"\n",
            &[ED25519],
            self.key.as_bytes().as_slice(),
        ];
        let [a, b, c, d, ..] = *Sha256::of_parts(&parts).as_bytes();
        [a, b, c, d]
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[ED25519], self.key.as_bytes().as_slice()].concat();
        let id = HEXLOWER.encode(&self.id());
        write!(f, "{}+{id}+{}", self.name, BASE64.encode(&key))
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::Form);
        };
        let key = BASE64.decode(key.as_bytes());
        let key = key.map_err(|_| KeyError::Algorithm)?;
        let [ED25519, key @ ..] = key.as_slice() else {
            return Err(KeyError::Algorithm);
        };
        let key = key.try_into().map_err(|_| KeyError::Algorithm)?;
        let key = Self::try_new(name, Ed25519PublicKey::from_bytes(key))?;
        match HEXLOWER.encode(&key.id()) == id {
            true => Ok(key),
            false => Err(KeyError::Id),
        }
    }
}

impl NoteSigner {
    /// Signs in this name, which is not empty, without spaces and plus signs.
    pub fn try_new(name: &str, key: Ed25519Key) -> Result<Self, KeyError> {
        Ok(Self {
            verifier: VerifierKey::try_new(name, key.public_key())?,
            key,
        })
    }

    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The note that says `text`, which ends with a newline.
    pub fn sign(&self, text: &str) -> Result<String, NoteError> {
        if !is_text(text) {
            return Err(NoteError::Text);
        }
        let signature = self.key.sign(text.as_bytes());
        let line = [&self.verifier.id(), signature.as_slice()].concat();
        let (name, line) = (&self.verifier.name, BASE64.encode(&line));
        Ok(format!("{text}\n{DASH}{name} {line}\n"))
    }
}

impl UnverifiedNote {
    /// What the note says, and that the holder of `key` says it.
    pub fn verified_by(self, key: &VerifierKey) -> Result<String, NoteError> {
        let id = key.id();
        let mut ours = self
            .signatures
            .iter()
            .filter(|signature| signature.name == key.name && signature.id == id);
        let first = ours.next().ok_or(NoteError::NotSigned)?;
        key.key
            .verify(self.text.as_bytes(), &first.bytes)
            .map_err(|_| NoteError::Forged)?;
        Ok(self.text)
    }
}

impl FromStr for UnverifiedNote {
    type Err = NoteError;

    fn from_str(note: &str) -> Result<Self, Self::Err> {
        if note.len() > MAX_NOTE {
            return Err(NoteError::TooLong);
        }
        if !is_text(note) {
            return Err(NoteError::Text);
        }
        let end = note.rfind("\n\n").ok_or(NoteError::Form)?;
        let (text, signatures) = (&note[..=end], &note[end + 2..]);
        if signatures.is_empty() {
            return Err(NoteError::Form);
        }
        if signatures.lines().count() > MAX_SIGNATURES {
            return Err(NoteError::TooManySignatures);
        }
        Ok(Self {
            text: text.to_owned(),
            signatures: signatures
                .lines()
                .map(signature)
                .collect::<Result<_, _>>()?,
        })
    }
}

fn signature(line: &str) -> Result<Signature, NoteError> {
    let rest = line.strip_prefix(DASH).ok_or(NoteError::Signature)?;
    let (name, encoded) = rest.split_once(' ').ok_or(NoteError::Signature)?;
    let decoded = BASE64.decode(encoded.as_bytes());
    let decoded = decoded.map_err(|_| NoteError::Signature)?;
    match decoded.split_first_chunk() {
        Some((id, bytes)) if is_name(name) && !bytes.is_empty() => Ok(Signature {
            name: name.to_owned(),
            id: *id,
            bytes: bytes.to_vec(),
        }),
        _ => Err(NoteError::Signature),
    }
}

fn is_name(name: &str) -> bool {
    let refused = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    !name.is_empty() && !name.contains(refused)
}

fn is_text(text: &str) -> bool {
    let refused = |c: char| c < ' ' && c != '\n';
    text.ends_with('\n') && !text.contains(refused)
}

#[cfg(test)]
#[path = "note/tests.rs"]
mod tests;
