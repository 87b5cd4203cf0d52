//! Where `run` takes a join token from: a file, standard input, the environment, or (warned about)
//! the command line.
//!
//! Invariant: a token is never shown, and the program that is run does not find it in its
//! environment.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use identity::JoinToken;
use zeroize::Zeroizing;

use crate::output;

/// How each token begins.
const PREFIX: &str = "csj1.";

#[derive(Debug, Args)]
pub(super) struct TokenArguments {
    /// A join token, for production: the Workload and the Service must exist; - for standard input
    ///
    /// It may also be in $COUNTERSIGN_JOIN_TOKEN. On the command line itself it works too, and
    /// everyone on this host can read it there.
    #[arg(long, value_name = "FILE")]
    token: Option<Given>,
    #[arg(
        long = "token-of-environment",
        env = "COUNTERSIGN_JOIN_TOKEN",
        hide = true,
        hide_env_values = true
    )]
    environment: Option<Given>,
}

/// A token, or where it is.
#[derive(Clone)]
enum Given {
    Token(Zeroizing<String>),
    StandardInput,
    File(PathBuf),
}

impl From<OsString> for Given {
    fn from(text: OsString) -> Self {
        match text.into_string() {
            Ok(text) if text.starts_with(PREFIX) => Self::Token(Zeroizing::new(text)),
            Ok(text) if text == "-" => Self::StandardInput,
            Ok(text) => Self::File(text.into()),
            Err(path) => Self::File(path.into()),
        }
    }
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token(redacted)"),
            Self::StandardInput => f.write_str("StandardInput"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl TokenArguments {
    /// The token, if there is one: the command line comes before the environment.
    pub(super) fn read(&self) -> anyhow::Result<Option<Zeroizing<String>>> {
        let text = match (&self.token, &self.environment) {
            (Some(Given::Token(token)), _) => {
                output::remark(
                    "a join token on the command line can be read by everyone on this host; \
                     use --token FILE, --token - or $COUNTERSIGN_JOIN_TOKEN",
                );
                token.clone()
            }
            (Some(Given::StandardInput), _) => {
                let text = io::read_to_string(io::stdin());
                Zeroizing::new(text.context("cannot read the join token")?)
            }
            (Some(Given::File(path)), _) => read_file(path)?,
            (None, Some(Given::Token(token))) => token.clone(),
            (None, Some(_)) => anyhow::bail!(
                "$COUNTERSIGN_JOIN_TOKEN holds no join token; `countersign join-token create` \
                 makes one"
            ),
            (None, None) => return Ok(None),
        };
        let token: JoinToken = text.trim().parse().context(
            "what was given is no join token; `countersign join-token create` makes one",
        )?;
        Ok(Some(Zeroizing::new(token.to_string())))
    }
}

fn read_file(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let bytes = runtime::files::read_private(path).context("the join token is not used")?;
    let text = std::str::from_utf8(&bytes).context("the join token is no text")?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn arguments(token: Option<&str>, environment: Option<&str>) -> TokenArguments {
        let given = |text: &str| Given::from(OsString::from(text));
        TokenArguments {
            token: token.map(given),
            environment: environment.map(given),
        }
    }

    #[test]
    fn a_token_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "csj1.x").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = arguments(path.to_str(), None).read().unwrap_err();
        let cause = error.downcast_ref::<runtime::FileError>();
        assert!(
            matches!(cause, Some(runtime::FileError::Exposed { .. })),
            "{error:?}"
        );
    }

    #[test]
    fn text_that_is_no_token_is_refused_without_showing_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        runtime::files::write_private(&path, b"csj1.c2VjcmV0").unwrap();
        for arguments in [
            arguments(path.to_str(), None),
            arguments(Some("csj1.c2VjcmV0"), None),
            arguments(None, Some("csj1.c2VjcmV0")),
            arguments(None, Some("c2VjcmV0")),
        ] {
            let error = arguments.read().unwrap_err();
            assert!(!format!("{error:#}").contains("c2VjcmV0"), "{error:#}");
            assert!(!format!("{:?}", arguments.token).contains("c2VjcmV0"));
        }
    }

    #[test]
    fn without_a_token_there_is_none() {
        assert!(arguments(None, None).read().unwrap().is_none());
    }
}
