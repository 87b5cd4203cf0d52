//! How many files a process may have open, connections among them. Shells give a thousand for the
//! sake of programs that could not live with more; ours can, and take what they may have.
//!
//! Refuses nothing: with fewer, listeners say so when it matters.

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Allows this process, and those it will start, as many open files as the hard limit says.
/// Answers how many that is.
///
/// # Errors
/// The kernel forbids it, as in a sandbox; nothing has changed.
pub fn raise_open_files() -> Result<u64, Errno> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// [`raise_open_files`] for a process that is to hold `connections`: says so in the log where they
/// do not fit.
pub fn open_files_for(connections: u64) {
    match raise_open_files() {
        Ok(most) if most > connections => tracing::debug!(most, "open files"),
        Ok(most) => tracing::warn!(
            most,
            connections,
            "fewer files may be open than connections are to be held: raise the hard limit \
             (LimitNOFILE= of the unit, `ulimit -Hn`)"
        ),
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_had_is_taken() {
        let most = raise_open_files().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((most, most)));
    }
}
