//! `[keys]` and `[admin]`: where secrets lie, and that the key-encryption key never lies
//! beside the data which it protects.
//!
//! Refuses a key-encryption key that is named twice or not at all, and one that the file itself
//! holds.

mod pkcs11;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

use super::{BrokenRule, StorePlace};
pub use pkcs11::{PinPlace, Pkcs11Config, RootCurve, TokenKeyName};

/// Where keys are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct KeysConfig {
    pub kek: KekPlace,
    /// Where the keys of roots are made.
    pub root: RootPlace,
    /// The token that holds what is said to be in one.
    pub pkcs11: Option<Pkcs11Config>,
}

/// Where the keys of roots are made. One that was made elsewhere before goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RootPlace {
    /// In the store, sealed.
    #[default]
    Sealed,
    /// In the token; the store holds a reference.
    Pkcs11,
}

/// Where the key-encryption key is, which opens the sealed root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KekPlace {
    /// 64 hexadecimal digits, readable by the owner only. Made at the first start.
    File(PathBuf),
    /// A systemd credential of this name, with the same content. Never made.
    Credential(CredentialName),
    /// An environment variable of this name, with the same content. Never made.
    Environment(VariableName),
    /// An AES-256 key of the token. Made there at the first start.
    Token(TokenKeyName),
}

/// The name of a file in `$CREDENTIALS_DIRECTORY`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct CredentialName(String);

/// The name of an environment variable: letters, digits and `_`, no digit first.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct VariableName(String);

/// The first administrator's credential.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// Written once, by the replica that makes the root.
    pub credential_file: PathBuf,
}

/// Which rule `[keys]` breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysConfigError {
    #[error(
        "say where the key-encryption key is: `kek_file`, `kek_credential`, `kek_env`, or \
         `kek_label` or `kek_id` of `[keys.pkcs11]`"
    )]
    Nowhere,
    #[error("`{0}` and `{1}` are both set; the key-encryption key is in one place")]
    Twice(&'static str, &'static str),
    #[error("`{0}` is no name of a credential: 1 to 255 of A-Z, a-z, 0-9, '.', '-' and '_'")]
    Credential(String),
    #[error("`{0}` is no name of a variable: A-Z, a-z, 0-9 and '_', no digit first")]
    Variable(String),
    #[error("say where the PIN is: either `pin_file` or `pin_credential`")]
    Pin,
    #[error("a key of a token is named by a label or by hexadecimal digits of its id")]
    TokenKey,
    #[error("root = \"pkcs11\" needs `[keys.pkcs11]`, which says which token")]
    NoToken,
}

impl KeysConfig {
    /// With the key-encryption key in this file.
    #[must_use]
    pub fn file(path: PathBuf) -> Self {
        Self {
            kek: KekPlace::File(path),
            root: RootPlace::Sealed,
            pkcs11: None,
        }
    }

    /// A copy of the data directory must not hold the key that opens it.
    pub(super) fn check_apart_from(&self, store: &StorePlace) -> Result<(), BrokenRule> {
        let (Some(data_directory), KekPlace::File(kek_file)) = (store.data_directory(), &self.kek)
        else {
            return Ok(());
        };
        if !kek_file.starts_with(&data_directory) {
            return Ok(());
        }
        Err(BrokenRule {
            key: "keys.kek_file",
            message: format!(
                "{} lies in the data directory {}; put it elsewhere",
                kek_file.display(),
                data_directory.display()
            ),
        })
    }
}

/// As errors and logs name it; no secret.
impl fmt::Display for KekPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Credential(name) => write!(f, "in the credential `{}`", name.as_str()),
            Self::Environment(name) => write!(f, "in the variable `{}`", name.as_str()),
            Self::Token(name) => write!(f, "{name} in the token"),
        }
    }
}

/// As an argument names it: `credential:NAME`, `env:VARIABLE`, `pkcs11:LABEL`, `file:PATH`, or a
/// path alone.
impl FromStr for KekPlace {
    type Err = KeysConfigError;

    fn from_str(text: &str) -> Result<Self, KeysConfigError> {
        match text.split_once(':') {
            Some(("credential", name)) => name.to_owned().try_into().map(Self::Credential),
            Some(("env", name)) => name.to_owned().try_into().map(Self::Environment),
            Some(("pkcs11", label)) => TokenKeyName::label(label.to_owned()).map(Self::Token),
            Some(("file", path)) => Ok(Self::File(path.into())),
            _ => Ok(Self::File(text.into())),
        }
    }
}

impl CredentialName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CredentialName {
    type Error = KeysConfigError;

    fn try_from(name: String) -> Result<Self, KeysConfigError> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_directory = name == "." || name == "..";
        if is_directory || !(1..=255).contains(&name.len()) || !name.bytes().all(known) {
            return Err(KeysConfigError::Credential(name));
        }
        Ok(Self(name))
    }
}

impl VariableName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for VariableName {
    type Error = KeysConfigError;

    fn try_from(name: String) -> Result<Self, KeysConfigError> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let first = name.bytes().next();
        if first.is_none_or(|byte| byte.is_ascii_digit()) || !name.bytes().all(known) {
            return Err(KeysConfigError::Variable(name));
        }
        Ok(Self(name))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    kek_file: Option<PathBuf>,
    kek_credential: Option<CredentialName>,
    kek_env: Option<VariableName>,
    #[serde(default)]
    root: RootPlace,
    pkcs11: Option<Pkcs11Config>,
}

impl TryFrom<Raw> for KeysConfig {
    type Error = KeysConfigError;

    fn try_from(raw: Raw) -> Result<Self, KeysConfigError> {
        let in_token = raw.pkcs11.as_ref().and_then(|token| token.kek.clone());
        if raw.root == RootPlace::Pkcs11 && raw.pkcs11.is_none() {
            return Err(KeysConfigError::NoToken);
        }
        let named = [
            raw.kek_file.map(|it| ("kek_file", KekPlace::File(it))),
            raw.kek_credential
                .map(|it| ("kek_credential", KekPlace::Credential(it))),
            raw.kek_env.map(|it| ("kek_env", KekPlace::Environment(it))),
            in_token.map(|it| ("pkcs11.kek_label", KekPlace::Token(it))),
        ];
        let mut named = named.into_iter().flatten();
        let (key, kek) = named.next().ok_or(KeysConfigError::Nowhere)?;
        match named.next() {
            Some((other, _)) => Err(KeysConfigError::Twice(key, other)),
            None => Ok(Self {
                kek,
                root: raw.root,
                pkcs11: raw.pkcs11,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<KeysConfig, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[track_caller]
    fn refused(text: &str, expected: &KeysConfigError) {
        assert_eq!(parse(text).unwrap_err(), expected.to_string());
    }

    #[test]
    fn a_key_encryption_key_in_two_places_or_none_is_refused() {
        refused("", &KeysConfigError::Nowhere);
        let both = "kek_file = \"/etc/kek\"\nkek_env = \"KEK\"";
        refused(both, &KeysConfigError::Twice("kek_file", "kek_env"));
    }

    fn token(more: &str) -> String {
        format!("[pkcs11]\nmodule = \"/m.so\"\ntoken = \"t\"\n{more}")
    }

    #[test]
    fn a_token_without_one_pin_is_refused() {
        refused(&token("kek_label = \"kek\""), &KeysConfigError::Pin);
        let both = "kek_label = \"kek\"\npin_file = \"/p\"\npin_credential = \"p\"";
        refused(&token(both), &KeysConfigError::Pin);
        let error = parse(&token("pin = \"1234\"")).unwrap_err();
        assert!(error.contains("unknown field `pin`"), "{error}");
    }

    #[test]
    fn a_token_may_hold_roots_the_key_that_opens_them_or_both() {
        let roots = "kek_file = \"/kek\"\nroot = \"pkcs11\"\n";
        refused(roots, &KeysConfigError::NoToken);
        let config = parse(&format!("{roots}{}", token("pin_file = \"/p\""))).unwrap();
        assert_eq!(config.kek, KekPlace::File("/kek".into()));
        assert_eq!(config.root, RootPlace::Pkcs11);
        let both = token("pin_file = \"/p\"\nkek_id = \"0A\"");
        let config = parse(&both).unwrap();
        assert_eq!(config.kek, KekPlace::Token(TokenKeyName::Id(vec![10])));
        assert_eq!(config.root, RootPlace::Sealed);
        let twice = format!("kek_file = \"/kek\"\n{both}");
        let expected = KeysConfigError::Twice("kek_file", "pkcs11.kek_label");
        refused(&twice, &expected);
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", "..", "a/b", "a b"] {
            let expected = KeysConfigError::Credential(name.to_owned());
            refused(&format!("kek_credential = \"{name}\""), &expected);
        }
        for name in ["", "1A", "A=B", "A B"] {
            let expected = KeysConfigError::Variable(name.to_owned());
            refused(&format!("kek_env = \"{name}\""), &expected);
        }
    }

    #[test]
    fn an_argument_names_every_kind_of_place() {
        let place = |text: &str| text.parse::<KekPlace>();
        assert!(place("credential:../kek").is_err());
        assert!(place("env:").is_err());
        let credential = CredentialName("kek".to_owned());
        assert_eq!(
            place("credential:kek"),
            Ok(KekPlace::Credential(credential))
        );
        let variable = VariableName("KEK".to_owned());
        assert_eq!(place("env:KEK"), Ok(KekPlace::Environment(variable)));
        let label = TokenKeyName::Label("kek".to_owned());
        assert_eq!(place("pkcs11:kek"), Ok(KekPlace::Token(label)));
        for text in ["/keys/kek", "file:/keys/kek"] {
            assert_eq!(place(text), Ok(KekPlace::File("/keys/kek".into())));
        }
    }
}
