//! The spool's file: preallocated, private, of one replica; a record is on the disk when
//! [`SpoolFile::append`] returns.
//!
//! Invariant: a record goes only where the file is zero. Refuses the file of another mesh, one that
//! others can read, one in use, and to go on after a write that failed: nobody knows what it left.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::marker::PhantomData;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use identity::TrustDomain;
use runtime::{LockError, LockFile};

use super::header::{self, Header};
use super::record::{self, Payload, Scan};
use crate::store::IssuedRow;

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Where records wait for the store.
#[derive(Debug)]
pub(crate) struct SpoolFile<P = IssuedRow> {
    file: File,
    path: PathBuf,
    header: Header,
    /// What it is to be from its next emptying on.
    size: u64,
    /// Of the next record.
    number: u64,
    /// Where the next record goes.
    end: u64,
    broken: bool,
    holds: PhantomData<fn() -> P>,
    _lock: LockFile,
}

/// What a file held when it was read.
#[derive(Debug)]
pub(crate) struct Found<P = IssuedRow> {
    pub(crate) rows: Vec<P>,
    /// What could not be read, for people.
    pub(crate) unreadable: Vec<String>,
    /// Of the next record.
    number: u64,
    /// Behind everything that is not zero.
    end: u64,
}

/// Why the spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("cannot use the spool {path}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the spool {path} is in use")]
    InUse {
        path: PathBuf,
        #[source]
        source: LockError,
    },
    #[error("the spool {path} is open to others (mode {mode:04o}); run: chmod 600 {path}")]
    Permissions { path: PathBuf, mode: u32 },
    #[error(
        "the spool {path} belongs to another mesh, and holds records; name another file in \
         [spool] file"
    )]
    OtherMesh { path: PathBuf },
}

/// Why records were not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    #[error("the spool is full")]
    Full,
    #[error("an earlier write to the spool failed")]
    Broken,
    #[error("the spool cannot be written")]
    Io(#[from] io::Error),
}

impl<P: Payload> SpoolFile<P> {
    /// Opens the file, making it when there is none, and reads what it holds.
    ///
    /// # Errors
    /// See [`SpoolError`].
    pub(crate) fn open(
        path: &Path,
        size: u64,
        trust_domain: &TrustDomain,
    ) -> Result<(Self, Found<P>), SpoolError> {
        let failed = |source| SpoolError::Io {
            path: path.to_owned(),
            source,
        };
        let mut lock = path.as_os_str().to_owned();
        lock.push(".lock");
        let lock = LockFile::acquire(PathBuf::from(lock)).map_err(|source| SpoolError::InUse {
            path: path.to_owned(),
            source,
        })?;
        let mut file = private(path).map_err(failed)?;
        require_private(path, &file).map_err(failed)??;
        let bytes = whole(&mut file).map_err(failed)?;
        let expected = Header::new(trust_domain, size);
        let (header, found) = read(&bytes, expected);
        if header.domain != expected.domain && !found.rows.is_empty() {
            return Err(SpoolError::OtherMesh {
                path: path.to_owned(),
            });
        }
        let mut spool = Self {
            file,
            path: path.to_owned(),
            header: Header {
                domain: expected.domain,
                ..header
            },
            size,
            number: found.number,
            end: found.end,
            broken: false,
            holds: PhantomData,
            _lock: lock,
        };
        if !found.unreadable.is_empty() {
            spool.keep_copy().map_err(failed)?;
        }
        if found.rows.is_empty() {
            spool.empty().map_err(failed)?;
        }
        Ok((spool, found))
    }

    /// Keeps all of the rows or none; on the disk on return.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub(crate) fn append(&mut self, rows: &[P]) -> Result<(), AppendError> {
        if self.broken {
            return Err(AppendError::Broken);
        }
        let numbered = (self.number..).zip(rows);
        let bytes: Vec<u8> = numbered
            .flat_map(|(number, row)| record::encode(number, row))
            .collect();
        let end = self.end + bytes.len() as u64;
        if end > self.header.size {
            return Err(AppendError::Full);
        }
        let written = self.file.write_all_at(&bytes, self.end);
        if let Err(error) = written.and_then(|()| self.file.sync_data()) {
            self.broken = true;
            return Err(error.into());
        }
        self.end = end;
        self.number += rows.len() as u64;
        Ok(())
    }

    /// What is to be shipped.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn read(&mut self) -> io::Result<Found<P>> {
        let bytes = whole(&mut self.file)?;
        let (_, found) = read(&bytes, self.header);
        if !found.unreadable.is_empty() {
            self.keep_copy()?;
        }
        Ok(found)
    }

    /// Everything in it is in the store. The header says so first: records that a crash leaves
    /// behind it are not shipped again.
    ///
    /// # Errors
    /// The file cannot be written; records in it may be shipped once more.
    pub(crate) fn empty(&mut self) -> io::Result<()> {
        self.broken = true;
        let used = self.end.max(header::LENGTH as u64);
        self.header.shipped = self.number;
        self.header.size = self.size;
        self.write_header()?;
        self.write_zeros(header::LENGTH as u64, used)?;
        let length = self.file.metadata()?.len();
        if length < self.size {
            self.write_zeros(length.max(used), self.size)?;
        } else {
            self.file.set_len(self.size)?;
        }
        self.file.sync_all()?;
        self.end = header::LENGTH as u64;
        self.broken = false;
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn write_header(&mut self) -> io::Result<()> {
        self.header.turn += 1;
        let place = self.header.place();
        self.file.write_all_at(&self.header.encode(), place)?;
        self.file.sync_all()
    }

    fn write_zeros(&self, from: u64, to: u64) -> io::Result<()> {
        let mut at = from;
        while at < to {
            let length = (to - at).min(ZEROS.len() as u64);
            let zeros = &ZEROS[..usize::try_from(length).unwrap_or(ZEROS.len())];
            self.file.write_all_at(zeros, at)?;
            at += length;
        }
        Ok(())
    }

    /// For whoever wants to know what the unreadable records were.
    fn keep_copy(&self) -> io::Result<()> {
        let mut copy = self.path.as_os_str().to_owned();
        copy.push(".damaged");
        fs::copy(&self.path, copy).map(drop)
    }
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn require_private(path: &Path, file: &File) -> io::Result<Result<(), SpoolError>> {
    let mode = file.metadata()?.mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(Ok(()));
    }
    Ok(Err(SpoolError::Permissions {
        path: path.to_owned(),
        mode,
    }))
}

fn whole(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The header in force, or `expected` where there is none, and what the file holds.
fn read<P: Payload>(bytes: &[u8], expected: Header) -> (Header, Found<P>) {
    let header = Header::read(bytes);
    let records = bytes.get(header::LENGTH..).unwrap_or_default();
    let shipped = header.map_or(0, |header| header.shipped);
    let scan = record::scan(records, shipped);
    let mut found = Found {
        unreadable: unreadable(&scan),
        rows: Vec::new(),
        number: scan.records.last().map_or(shipped, |(last, _)| last + 1),
        end: (header::LENGTH + scan.end) as u64,
    };
    let is_blank = bytes.iter().all(|byte| *byte == 0);
    match header {
        None if !is_blank => found.unreadable.push("its header".to_owned()),
        Some(header) if (bytes.len() as u64) < header.size => found.unreadable.push(format!(
            "everything behind byte {}: it was cut, and had {}",
            bytes.len(),
            header.size
        )),
        _ => {}
    }
    found.rows = scan.records.into_iter().map(|(_, row)| row).collect();
    (header.unwrap_or(expected), found)
}

fn unreadable<P>(scan: &Scan<P>) -> Vec<String> {
    let damages = scan.damages.iter().map(|damage| {
        let at = damage.at + header::LENGTH;
        format!("{} bytes from byte {at} on", damage.bytes)
    });
    let missing = scan.missing.iter().map(|number| format!("record {number}"));
    missing.chain(damages).collect()
}
