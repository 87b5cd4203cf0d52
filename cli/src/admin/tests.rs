use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);
const SECRET: &str = "csa1_do-not-show";

struct Written {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

fn written(change: impl FnOnce(String) -> String) -> Written {
    let root = "ab".repeat(32);
    let text = format!(
        "trust_domain = \"demo.example\"\nurls = [\"https://127.0.0.1:8443\"]\n\
         root_sha256 = [\"{root}\"]\nsecret = \"{SECRET}\"\nexpires = \"2026-02-01T00:00:00Z\"\n"
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.toml");
    runtime::files::write_private(&path, change(text).as_bytes()).unwrap();
    Written {
        _directory: directory,
        path,
    }
}

#[track_caller]
fn refusal(change: impl FnOnce(String) -> String) -> AdminFileError {
    AdminFile::load(&written(change).path, NOW).unwrap_err()
}

#[test]
fn file_that_others_can_read_is_refused() {
    let file = written(|text| text);
    fs::set_permissions(&file.path, Permissions::from_mode(0o644)).unwrap();
    let error = AdminFile::load(&file.path, NOW).unwrap_err();
    assert!(matches!(
        error,
        AdminFileError::Unusable(FileError::Exposed { mode: 0o644, .. })
    ));
}

#[test]
fn expired_credential_is_refused() {
    let error = refusal(|text| text.replace("2026-02-01T00:00:00Z", "2026-01-01T12:00:00Z"));
    assert!(matches!(error, AdminFileError::Expired { .. }));
}

#[test]
fn missing_file_says_how_to_get_one() {
    let error = AdminFile::load(Path::new("/nonexistent/admin.toml"), NOW).unwrap_err();
    assert!(error.to_string().contains("countersign up") && error.to_string().contains("--admin"));
}

#[test]
fn plain_http_is_refused() {
    let error = refusal(|text| text.replace("https://", "http://"));
    assert!(
        matches!(error, AdminFileError::Invalid(ConfigError::Inconsistent { key, .. }) if key == "urls")
    );
}

#[test]
fn credential_without_a_root_is_refused() {
    let error = refusal(|text| text.replace(&format!("\"{}\"", "ab".repeat(32)), ""));
    assert!(matches!(
        error,
        AdminFileError::Invalid(ConfigError::Inconsistent { .. })
    ));
}

#[test]
fn unknown_key_is_refused_with_the_nearest() {
    let error = refusal(|text| text.replace("secret", "secrett"));
    let AdminFileError::Invalid(ConfigError::UnknownKey {
        line, suggestion, ..
    }) = error
    else {
        panic!("{error:?}");
    };
    assert_eq!((line, suggestion.as_deref()), (4, Some("secret")));
}

#[test]
fn secret_shows_in_no_debug_output() {
    let file = AdminFile::load(&written(|text| text).path, NOW).unwrap();
    assert!(!format!("{file:?}").contains(SECRET));
}

#[test]
fn url_with_path_or_user_is_refused() {
    assert!("https://ca.example/v1".parse::<CaUrl>().is_err());
    assert!("https://me@ca.example".parse::<CaUrl>().is_err());
}

#[test]
fn url_without_port_means_443() {
    assert_eq!(
        "https://[::1]".parse::<CaUrl>().unwrap().address(),
        "[::1]:443"
    );
}

fn home(state: &str, home: &str) -> Option<PathBuf> {
    let given = |text: &str| Some(OsString::from(text));
    HomeArguments {
        xdg_state_home: given(state),
        home: given(home),
    }
    .state_directory()
}

#[test]
fn relative_and_empty_state_homes_are_ignored() {
    assert_eq!(home("", "relative"), None);
    assert_eq!(
        home("state", "/home/a"),
        Some("/home/a/.local/state/countersign".into())
    );
}

#[test]
fn state_home_comes_before_home() {
    assert_eq!(home("/state", "/home/a"), Some("/state/countersign".into()));
}
