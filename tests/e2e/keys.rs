//! Where the key-encryption key can be, with the binary that an operator runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mesh_tests::operator::CaProcess;
use mesh_tests::processes::Process;
use mesh_tests::waiting::DEADLINE;
use tokio::time::timeout;

const CA: &str = "countersign-ca";

#[tokio::test]
async fn a_key_encryption_key_moves_from_a_file_to_the_environment_and_to_a_credential() {
    let ca = CaProcess::start().await;
    let (file_config, directory) = (ca.config().to_owned(), ca.crash().await);
    let place = directory.path();
    let credentials = place.join("credentials");
    give(&credentials, "kek", &"1c".repeat(32));
    let variable = ("COUNTERSIGN_TEST_KEK", &*"2d".repeat(32));
    let given = ("CREDENTIALS_DIRECTORY", credentials.to_str().expect("text"));
    let environment = [variable, given];

    rotate(
        place,
        &file_config,
        "env:COUNTERSIGN_TEST_KEK",
        &environment,
    )
    .await;
    let refused = refusal(place, &file_config, &environment).await;
    assert!(refused.contains("not the one that sealed"), "{refused}");
    let env_config = with_kek(&file_config, "kek_env = \"COUNTERSIGN_TEST_KEK\"");
    let refused = refusal(place, &env_config, &[]).await;
    assert!(refused.contains("does not exist"), "{refused}");
    let ca = CaProcess::restart_among(directory, &env_config, &environment).await;

    let directory = ca.crash().await;
    let place = directory.path();
    rotate(place, &env_config, "credential:kek", &environment).await;
    let config = with_kek(&file_config, "kek_credential = \"kek\"");
    CaProcess::restart_among(directory, &config, &environment).await;
}

#[tokio::test]
async fn a_credential_that_others_can_read_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let place = directory.path();
    give(place, "kek", &"1c".repeat(32));
    let file = place.join("kek");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).expect("our own file");
    let config = mesh_tests::operator::configuration(place, "127.0.0.1:0".parse().expect("valid"));
    let config = with_kek(&config, "kek_credential = \"kek\"");
    let given = ("CREDENTIALS_DIRECTORY", place.to_str().expect("text"));
    let refused = refusal(place, &config, &[given]).await;
    assert!(refused.contains("open to others (mode 444)"), "{refused}");
}

fn give(directory: &Path, name: &str, secret: &str) {
    fs::create_dir_all(directory).expect("writable");
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).expect("our own");
    let file = directory.join(name);
    fs::write(&file, secret).expect("writable");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).expect("our own");
}

fn with_kek(config: &str, line: &str) -> String {
    let old = config.lines().find(|line| line.starts_with("kek_"));
    config.replace(old.expect("it names a key"), line)
}

async fn rotate(place: &Path, config: &str, to: &str, environment: &[(&str, &str)]) {
    let arguments = ["seal", "rotate", "--to", to];
    let mut process = Process::start_among(CA, place, "seal", config, &arguments, environment);
    let ended = timeout(DEADLINE, process.ended()).await.expect("it ends");
    assert!(ended.success(), "{}", process.said());
}

/// The one line that it ends with.
async fn refusal(place: &Path, config: &str, environment: &[(&str, &str)]) -> String {
    let mut process = Process::start_among(CA, place, "refused", config, &[], environment);
    let ended = timeout(DEADLINE, process.ended()).await.expect("it ends");
    assert!(!ended.success(), "it ended well: {}", process.said());
    process.said()
}
