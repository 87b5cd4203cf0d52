//! What Countersign's log is of: one entry for each thing signed, with what an auditor needs to
//! know of it. The bytes are those of TLS presentation language (RFC 8446 §3):
//!
//! ```text
//! struct {
//!     uint8  version = 1;
//!     uint8  kind;                       /* 1 x509-svid, 2 x509-authority */
//!     uint64 recorded_at;                /* milliseconds since the Unix epoch */
//!     uint64 not_before, not_after;      /* the same */
//!     opaque digest[32];                 /* SHA-256 of the certificate's DER */
//!     opaque serial<1..20>;              /* as in the certificate (RFC 5280 §4.1.2.2) */
//!     opaque issuer<1..255>;             /* key id of what signed it; of an
//!                                           authority, of the root above it; text */
//!     opaque subject<1..2048>;           /* SPIFFE ID, text */
//!     opaque agent<0..2048>;             /* SPIFFE ID of the agent it went through, text;
//!                                           empty for an agent's own and for an authority */
//! } Entry;
//! ```
//!
//! Tokens will be kinds of their own; a reader passes over kinds that it does not know.

use std::fmt;

use crypto::digest::Sha256;
use thiserror::Error;

const VERSION: u8 = 1;
const MAX_SERIAL: usize = 20;
const MAX_ISSUER: usize = 255;
const MAX_ID: usize = 2048;

/// What was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A leaf: of a workload, an agent or a replica of the CA.
    X509Svid,
    /// A certificate that may sign others: a root or an intermediate.
    X509Authority,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    /// Milliseconds since the Unix epoch, as all times here.
    pub recorded_at: u64,
    pub not_before: u64,
    pub not_after: u64,
    /// SHA-256 of the certificate's DER.
    pub digest: Sha256,
    pub serial: Vec<u8>,
    /// Key id of what signed it.
    pub issuer: String,
    /// Whose it is.
    pub subject: String,
    /// Through which it was issued, if not its own.
    pub agent: Option<String>,
}

/// Why bytes are not an entry, or fields make none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EntryError {
    #[error("the entry has version {0}, which is not known here")]
    Version(u8),
    #[error("the entry is of kind {0}, which is not known here")]
    Kind(u8),
    #[error("the entry ends inside of its {0}")]
    Cut(&'static str),
    #[error("the entry's {0} is too short or too long")]
    Length(&'static str),
    #[error("the entry's {0} is not printable ASCII")]
    Text(&'static str),
    #[error("the entry goes on after its end")]
    Trailing,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::X509Svid => 1,
            Self::X509Authority => 2,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X509Svid => "x509-svid",
            Self::X509Authority => "x509-authority",
        })
    }
}

impl Entry {
    /// The one form of the entry.
    pub fn encode(&self) -> Result<Vec<u8>, EntryError> {
        let mut out = vec![VERSION, self.kind.code()];
        for time in [self.recorded_at, self.not_before, self.not_after] {
            out.extend_from_slice(&time.to_be_bytes());
        }
        out.extend_from_slice(self.digest.as_bytes());
        let agent = self.agent.as_deref().unwrap_or_default();
        short(&mut out, "serial", &self.serial, MAX_SERIAL)?;
        short(&mut out, "issuer", self.issuer.as_bytes(), MAX_ISSUER)?;
        require_text("issuer", &self.issuer)?;
        long(&mut out, "subject", &self.subject, 1)?;
        long(&mut out, "agent", agent, 0)?;
        Ok(out)
    }

    /// Reads an entry of a kind that is known here.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        let mut reader = Reader(bytes);
        match reader.byte("version")? {
            VERSION => {}
            other => return Err(EntryError::Version(other)),
        }
        let kind = match reader.byte("kind")? {
            1 => Kind::X509Svid,
            2 => Kind::X509Authority,
            other => return Err(EntryError::Kind(other)),
        };
        let entry = Self {
            kind,
            recorded_at: reader.number("time")?,
            not_before: reader.number("validity")?,
            not_after: reader.number("validity")?,
            digest: Sha256::from_bytes(reader.array("digest")?),
            serial: reader.short("serial", MAX_SERIAL)?.to_vec(),
            issuer: text("issuer", reader.short("issuer", MAX_ISSUER)?)?,
            subject: reader.long("subject", 1)?,
            agent: Some(reader.long("agent", 0)?).filter(|agent| !agent.is_empty()),
        };
        match reader.0.is_empty() {
            true => Ok(entry),
            false => Err(EntryError::Trailing),
        }
    }
}

fn short(
    out: &mut Vec<u8>,
    what: &'static str,
    bytes: &[u8],
    most: usize,
) -> Result<(), EntryError> {
    let length = u8::try_from(bytes.len()).map_err(|_| EntryError::Length(what))?;
    if length == 0 || bytes.len() > most {
        return Err(EntryError::Length(what));
    }
    out.push(length);
    out.extend_from_slice(bytes);
    Ok(())
}

fn long(out: &mut Vec<u8>, what: &'static str, text: &str, least: usize) -> Result<(), EntryError> {
    require_text(what, text)?;
    if !(least..=MAX_ID).contains(&text.len()) {
        return Err(EntryError::Length(what));
    }
    let length = u16::try_from(text.len()).map_err(|_| EntryError::Length(what))?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn require_text(what: &'static str, text: &str) -> Result<(), EntryError> {
    match text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(()),
        false => Err(EntryError::Text(what)),
    }
}

fn text(what: &'static str, bytes: &[u8]) -> Result<String, EntryError> {
    let text = std::str::from_utf8(bytes).map_err(|_| EntryError::Text(what))?;
    require_text(what, text)?;
    Ok(text.to_owned())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], EntryError> {
        let (array, rest) = self.0.split_first_chunk().ok_or(EntryError::Cut(what))?;
        self.0 = rest;
        Ok(*array)
    }

    fn byte(&mut self, what: &'static str) -> Result<u8, EntryError> {
        self.array(what).map(|[byte]| byte)
    }

    fn number(&mut self, what: &'static str) -> Result<u64, EntryError> {
        self.array(what).map(u64::from_be_bytes)
    }

    fn bytes(&mut self, what: &'static str, length: usize) -> Result<&'a [u8], EntryError> {
        let (bytes, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(EntryError::Cut(what))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn short(&mut self, what: &'static str, most: usize) -> Result<&'a [u8], EntryError> {
        match usize::from(self.byte(what)?) {
            length if (1..=most).contains(&length) => self.bytes(what, length),
            _ => Err(EntryError::Length(what)),
        }
    }

    fn long(&mut self, what: &'static str, least: usize) -> Result<String, EntryError> {
        match usize::from(self.array(what).map(u16::from_be_bytes)?) {
            length if (least..=MAX_ID).contains(&length) => text(what, self.bytes(what, length)?),
            _ => Err(EntryError::Length(what)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry() -> Entry {
        Entry {
            kind: Kind::X509Svid,
            recorded_at: 1_790_000_000_000,
            not_before: 1_789_999_970_000,
            not_after: 1_790_003_600_000,
            digest: Sha256::of(b"certificate"),
            serial: vec![0x7f, 1, 2],
            issuer: "ab".repeat(32),
            subject: "spiffe://corp.example/ns/shop/sa/orders".to_owned(),
            agent: Some("spiffe://corp.example/countersign/agent/join-token/web-7".to_owned()),
        }
    }

    #[test]
    fn an_unknown_version_or_kind_is_refused() {
        let mut bytes = entry().encode().unwrap();
        bytes[1] = 9;
        assert_eq!(Entry::decode(&bytes), Err(EntryError::Kind(9)));
        bytes[0] = 2;
        assert_eq!(Entry::decode(&bytes), Err(EntryError::Version(2)));
    }

    #[test]
    fn an_entry_that_goes_on_is_refused() {
        let mut bytes = entry().encode().unwrap();
        bytes.push(0);
        assert_eq!(Entry::decode(&bytes), Err(EntryError::Trailing));
    }

    #[test]
    fn fields_that_make_no_entry_are_refused() {
        let with = |change: fn(&mut Entry)| {
            let mut entry = entry();
            change(&mut entry);
            entry.encode()
        };
        assert_eq!(
            with(|entry| entry.serial.clear()),
            Err(EntryError::Length("serial"))
        );
        assert_eq!(
            with(|entry| entry.serial = vec![1; 21]),
            Err(EntryError::Length("serial"))
        );
        assert_eq!(
            with(|entry| entry.issuer.push('\n')),
            Err(EntryError::Text("issuer"))
        );
        assert_eq!(
            with(|entry| entry.subject.clear()),
            Err(EntryError::Length("subject"))
        );
        assert_eq!(
            with(|entry| entry.agent = Some("a".repeat(2049))),
            Err(EntryError::Length("agent"))
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn an_entry_is_read_as_it_was_written(
            times: [u64; 3], digest: [u8; 32], authority: bool,
            serial in prop::collection::vec(any::<u8>(), 1..=20),
            issuer in "[!-~]{1,255}", subject in "[!-~]{1,300}",
            agent in prop::option::of("[!-~]{1,300}"),
        ) {
            let [recorded_at, not_before, not_after] = times;
            let kind = if authority { Kind::X509Authority } else { Kind::X509Svid };
            let digest = Sha256::from_bytes(digest);
            let entry = Entry {
                kind, recorded_at, not_before, not_after, digest, serial, issuer, subject, agent,
            };
            let bytes = entry.encode().unwrap();
            prop_assert_eq!(Entry::decode(&bytes), Ok(entry));
        }

        #[test]
        fn an_entry_cut_or_changed_anywhere_is_refused_or_another(
            place: prop::sample::Index, value: u8
        ) {
            let bytes = entry().encode().unwrap();
            let place = place.index(bytes.len());
            prop_assert!(Entry::decode(&bytes[..place]).is_err());
            let mut changed = bytes;
            changed[place] = value;
            if let Ok(read) = Entry::decode(&changed) {
                prop_assert_eq!(read.encode(), Ok(changed));
            }
        }
    }
}
