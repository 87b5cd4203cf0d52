//! Claims on SoftHSM2, each with a token of its own.
//!
//! A module and its environment belong to a process, so each claim runs in a process of its own:
//! this very program, told to run that claim alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crypto::signing::{CertificateKey, CertificateSigner};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass};
use tempfile::TempDir;

use super::*;
use crate::config::{PinPlace, RootCurve};

pub(crate) const PIN: &str = "271828";
const TOKEN: &str = "countersign";
const DIRECTORY: &str = "COUNTERSIGN_TEST_TOKEN";
const MODULES: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
];

/// A token for the claim that this stands in. Returns where there is none.
macro_rules! with_token {
    ($token:ident) => {
        fn here() {}
        let claim = crate::pkcs11::tests::claim_of(std::any::type_name_of_val(&here));
        let Some($token) = crate::pkcs11::tests::TestToken::of_claim(&claim) else {
            return;
        };
    };
}
pub(crate) use with_token;

/// As the test harness names the claim in which a function was declared.
pub(crate) fn claim_of(function: &str) -> String {
    let (_, path) = function.split_once("::").unwrap();
    path.trim_end_matches("::here")
        .trim_end_matches("::{{closure}}")
        .to_owned()
}

/// A token of SoftHSM2, in a directory of its own.
pub(crate) struct TestToken {
    directory: PathBuf,
    module: PathBuf,
}

impl TestToken {
    /// In the process of a claim: its token. Otherwise `None`, after the claim has run in a process
    /// of its own, or where there is no SoftHSM2.
    pub(crate) fn of_claim(claim: &str) -> Option<Self> {
        let module = MODULES.iter().map(PathBuf::from).find(|it| it.exists());
        let Some(module) = module else {
            assert!(
                option_env!("CI").is_none(),
                "CI needs SoftHSM2 (apt-get install softhsm2)"
            );
            eprintln!("SKIPPED: {claim} needs SoftHSM2 (apt-get install softhsm2)");
            return None;
        };
        if let Some(directory) = std::env::var_os(DIRECTORY) {
            let directory = directory.into();
            return Some(Self { directory, module });
        }
        let directory = tempfile::tempdir().unwrap();
        make_token(directory.path());
        run_alone(claim, &directory);
        None
    }

    pub(crate) fn config(&self) -> Pkcs11Config {
        Pkcs11Config {
            module: self.module.clone(),
            token: TOKEN.to_owned(),
            pin: PinPlace::File(self.pin_file()),
            kek: Some(kek_name()),
            root_curve: RootCurve::P256,
        }
    }

    pub(crate) fn token(&self) -> Token {
        Token::new(self.config(), None)
    }

    /// As if it were unplugged.
    pub(crate) fn unplug(&self) {
        fs::rename(self.tokens(), self.directory.join("away")).unwrap();
        fs::create_dir(self.tokens()).unwrap();
    }

    pub(crate) fn plug_in(&self) {
        fs::remove_dir_all(self.tokens()).unwrap();
        fs::rename(self.directory.join("away"), self.tokens()).unwrap();
    }

    /// As the tool of a vendor would make it.
    pub(crate) fn signing_key(&self, label: &str) -> CertificateKey {
        let (_, key) = TokenSigningKey::make(&self.token(), label).unwrap();
        CertificateKey::Other(Arc::new(key))
    }

    pub(crate) fn private_keys(&self) -> usize {
        let all = [Attribute::Class(ObjectClass::PRIVATE_KEY)];
        let find = |session: &TokenSession| {
            let found = session.find_objects(&all);
            found.map_err(TokenError::failed("look for keys"))
        };
        self.token().with_session(Need::Use, find).unwrap().len()
    }

    pub(crate) async fn until_private_keys(&self, count: usize) {
        let waiting = async {
            while self.private_keys() != count {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        assert!(waited.is_ok(), "{} keys", self.private_keys());
    }

    pub(crate) fn set_pin(&self, pin: &str) {
        write_private(&self.pin_file(), pin);
    }

    fn pin_file(&self) -> PathBuf {
        self.directory.join("pin")
    }

    fn tokens(&self) -> PathBuf {
        self.directory.join("tokens")
    }
}

fn make_token(directory: &Path) {
    fs::create_dir(directory.join("tokens")).unwrap();
    let conf = format!("directories.tokendir = {}/tokens\n", directory.display());
    fs::write(directory.join("softhsm2.conf"), conf).unwrap();
    write_private(&directory.join("pin"), PIN);
    let made = Command::new("softhsm2-util")
        .env("SOFTHSM2_CONF", directory.join("softhsm2.conf"))
        .args(["--init-token", "--free", "--label", TOKEN])
        .args(["--so-pin", "31415926", "--pin", PIN])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

fn run_alone(claim: &str, directory: &TempDir) {
    let ran = Command::new(std::env::current_exe().unwrap())
        .env("SOFTHSM2_CONF", directory.path().join("softhsm2.conf"))
        .env(DIRECTORY, directory.path())
        .args(["--exact", claim, "--nocapture"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let failed = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}\n{failed}");
    assert!(said.contains("1 passed"), "{claim} is no claim: {said}");
}

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn kek_name() -> TokenKeyName {
    TokenKeyName::Label("kek".to_owned())
}

fn kek(token: &TestToken) -> TokenAesKey {
    TokenAesKey::new(token.token(), kek_name())
}

#[test]
fn a_token_that_is_away_is_named_and_used_again_when_it_is_back() {
    with_token!(test);
    let kek = kek(&test);
    kek.make().unwrap();
    let before = kek.check_value().unwrap();
    test.unplug();
    assert!(matches!(kek.check_value(), Err(TokenError::Absent(label)) if label == TOKEN));
    test.plug_in();
    assert_eq!(kek.check_value().unwrap(), before);
}

#[test]
fn a_pin_that_was_not_taken_is_not_tried_again() {
    with_token!(test);
    let kek = kek(&test);
    kek.make().unwrap();
    test.set_pin("wrong-pin");
    for _ in 0..20 {
        assert!(matches!(kek.check_value(), Err(TokenError::WrongPin)));
    }
    test.set_pin(PIN);
    kek.check_value().unwrap();
}

#[test]
fn a_pin_that_others_can_read_is_refused() {
    with_token!(test);
    fs::set_permissions(test.pin_file(), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(
        kek(&test).check_value(),
        Err(TokenError::Pin(FileError::Exposed { .. }))
    ));
}

#[test]
fn a_module_that_is_none_is_named() {
    let mut config = Pkcs11Config {
        module: "/nowhere/module.so".into(),
        token: TOKEN.to_owned(),
        pin: PinPlace::File("/nowhere/pin".into()),
        kek: None,
        root_curve: RootCurve::P256,
    };
    let directory = tempfile::tempdir().unwrap();
    write_private(&directory.path().join("pin"), PIN);
    config.pin = PinPlace::File(directory.path().join("pin"));
    let kek = TokenAesKey::new(Token::new(config, None), kek_name());
    assert!(matches!(kek.check_value(), Err(TokenError::Module { .. })));
}

#[test]
fn a_key_that_is_missing_or_ambiguous_is_refused() {
    with_token!(test);
    let kek = kek(&test);
    assert!(matches!(kek.check_value(), Err(TokenError::NoKey(_))));
    kek.make().unwrap();
    assert!(matches!(
        kek.make(),
        Err(TokenError::SeveralKeys { count: 2, .. })
    ));
    // The surplus key is gone.
    kek.check_value().unwrap();
}

#[test]
fn a_data_key_opens_under_its_own_label_only_and_unchanged() {
    with_token!(test);
    let kek = kek(&test);
    kek.make().unwrap();
    let wrapped = kek.wrap(b"label", &[7; 32]).unwrap();
    assert!(kek.unwrap(b"other", &wrapped).is_err());
    let mut changed = wrapped.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert!(kek.unwrap(b"label", &changed).is_err());
    assert!(kek.unwrap(b"label", &wrapped[..8]).is_err());
    assert_eq!(*kek.unwrap(b"label", &wrapped).unwrap(), [7; 32]);
}

#[test]
fn a_key_that_may_only_wrap_wraps_all_the_same() {
    with_token!(test);
    import_wrapping_key(&test);
    let kek = kek(&test);
    let wrapped = kek.wrap(b"label", &[7; 32]).unwrap();
    let mut changed = wrapped.clone();
    changed[3] ^= 1;
    assert!(kek.unwrap(b"label", &changed).is_err());
    assert_eq!(*kek.unwrap(b"label", &wrapped).unwrap(), [7; 32]);
    assert_eq!(kek.check_value().unwrap(), kek.check_value().unwrap());
}

#[test]
fn a_key_that_may_leave_the_token_is_no_key_encryption_key() {
    with_token!(test);
    make_key(&test, true, true);
    assert!(matches!(
        kek(&test).check_value(),
        Err(TokenError::UnfitKey { .. })
    ));
}

#[test]
fn a_signature_of_a_token_verifies_on_both_curves() {
    with_token!(test);
    for curve in [RootCurve::P256, RootCurve::P384] {
        let mut config = test.config();
        config.root_curve = curve;
        let token = Token::new(config, None);
        let (_, key) = TokenSigningKey::make(&token, "root").unwrap();
        let signature = key.sign(b"m").unwrap();
        assert!(key.public_key().verify(b"n", &signature).is_err());
        key.public_key().verify(b"m", &signature).unwrap();
    }
}

#[test]
fn a_destroyed_key_signs_nothing_and_says_why() {
    with_token!(test);
    let (reference, key) = TokenSigningKey::make(&test.token(), "root 1").unwrap();
    let (_, other) = TokenSigningKey::make(&test.token(), "root 2").unwrap();
    let label = TokenKeyName::Label("root 1".to_owned());
    assert_eq!(destroy_keys(&test.token(), &label).unwrap(), 1);
    assert!(key.sign(b"m").is_err());
    let why = key.take_failure();
    assert!(matches!(why, Some(TokenError::NoKey(name)) if name == reference.name()));
    other.sign(b"m").unwrap();
}

#[test]
fn a_reference_reads_back_and_nothing_else_is_one() {
    for text in ["", "pkcs11:", "pkcs11:type=private;id=00", "id=00"] {
        assert!(text.parse::<TokenKeyReference>().is_err(), "{text}");
    }
    let text = "pkcs11:type=private;id=000102030405060708090a0b0c0d0e0f";
    let reference: TokenKeyReference = text.parse().unwrap();
    assert_eq!(reference.to_string(), text);
}

/// As the tool of a vendor would.
fn import_wrapping_key(test: &TestToken) {
    make_key(test, false, false);
}

fn make_key(test: &TestToken, encrypts: bool, extractable: bool) {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(extractable),
        Attribute::Label(b"kek".to_vec()),
        Attribute::ValueLen(32.into()),
        Attribute::Encrypt(encrypts),
        Attribute::Decrypt(encrypts),
        Attribute::Wrap(!encrypts),
        Attribute::Unwrap(!encrypts),
    ];
    let make = |session: &TokenSession| {
        session
            .generate_key(&Mechanism::AesKeyGen, &template)
            .map_err(TokenError::failed("make a key"))
    };
    test.token().with_session(Need::Change, make).unwrap();
}
