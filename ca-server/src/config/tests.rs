//! What a configuration may say.

use std::path::Path;
use std::time::Duration;

use runtime::ConfigError;

use super::{Config, LifetimesError};

const EXAMPLE: &str = include_str!("../../../deploy/examples/ca.toml");

fn parse(text: &str) -> Result<Config, ConfigError> {
    runtime::config::parse("ca.toml", text)
}

/// The example, with one line replaced.
fn changed(from: &str, to: &str) -> String {
    assert!(EXAMPLE.contains(from), "{from}");
    EXAMPLE.replace(from, to)
}

#[track_caller]
fn breaks(from: &str, to: &str, key: &str) {
    let config = parse(&changed(from, to)).unwrap();
    assert_eq!(config.check().unwrap_err().key, key);
}

#[track_caller]
fn lifetimes_refused(from: &str, to: &str, expected: &LifetimesError) {
    let error = parse(&changed(from, to)).unwrap_err().to_string();
    assert!(error.contains(&expected.to_string()), "{error}");
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    let text = changed("replica = \"ca-1\"", "replcia = \"ca-1\"");
    let Err(ConfigError::UnknownKey {
        key,
        suggestion,
        line,
        ..
    }) = parse(&text)
    else {
        panic!("taken");
    };
    assert_eq!(
        (key.as_str(), suggestion.as_deref(), line),
        ("replcia", Some("replica"), 7)
    );
}

#[test]
fn a_kek_in_the_data_directory_is_refused() {
    breaks(
        "/var/lib/countersign-ca/keys/kek",
        "/var/lib/countersign-ca/data/keys/kek",
        "keys.kek_file",
    );
}

#[test]
fn an_upstream_and_roots_of_our_own_contradict_each_other() {
    let disk = "[upstream.disk]\nchain_file = \"/c\"\nkey_file = \"/k\"\n\n[bundle]";
    let token =
        "root = \"pkcs11\"\n[keys.pkcs11]\nmodule = \"/m\"\ntoken = \"t\"\npin_file = \"/p\"";
    breaks("[bundle]", &format!("{token}\n{disk}"), "keys.root");
    let pkcs11 = "[upstream.pkcs11]\nchain_file = \"/c\"\nkey_label = \"k\"\n\n[bundle]";
    breaks("[bundle]", pkcs11, "upstream.pkcs11");
    let config = parse(&changed("[bundle]", disk)).unwrap();
    config.check().unwrap();
}

#[test]
fn an_upstream_that_this_build_does_not_know_is_refused() {
    let unknown = changed(
        "[bundle]",
        "[upstream.vault]\nurl = \"https://a\"\n\n[bundle]",
    );
    let error = parse(&unknown).unwrap_err().to_string();
    assert!(error.contains("vault"), "{error}");
}

#[test]
fn metrics_beyond_loopback_are_refused() {
    breaks("127.0.0.1:9443", "0.0.0.0:9443", "listen.metrics");
}

#[test]
fn a_certificate_without_key_is_refused() {
    breaks(
        "# certificate_file",
        "certificate_file",
        "web.certificate_file",
    );
}

#[test]
fn a_listener_on_all_addresses_must_say_its_name() {
    breaks(
        "agents = [\"ca-1.corp.example:8444\"]",
        "",
        "advertise.agents",
    );
}

#[test]
fn an_intermediate_above_a_day_is_refused() {
    let day = Duration::from_secs(24 * 60 * 60);
    let expected = LifetimesError::IntermediateTooLong(day * 2);
    lifetimes_refused(
        "intermediate = \"24h\"",
        "intermediate = \"48h\"",
        &expected,
    );
}

#[test]
fn an_intermediate_that_leaves_would_outlive_is_refused() {
    let expected = LifetimesError::IntermediateTooShort {
        life: Duration::from_secs(7200),
        least: Duration::from_secs(9060),
    };
    lifetimes_refused("intermediate = \"24h\"", "intermediate = \"2h\"", &expected);
}

#[test]
fn a_life_below_a_second_is_refused() {
    let expected = LifetimesError::TooShort {
        field: "workload",
        life: Duration::from_millis(500),
    };
    lifetimes_refused("workload = \"1h\"", "workload = \"500ms\"", &expected);
}

#[test]
fn the_example_is_complete_and_says_the_defaults() {
    let example = parse(EXAMPLE).unwrap();
    example.check().unwrap();
    let defaults = Config::for_directory("corp.example".parse().unwrap(), Path::new("/srv"));
    assert_eq!(example.lifetimes, defaults.lifetimes);
    assert_eq!(example.limits, defaults.limits);
    assert_eq!(example.id_template, defaults.id_template);
}

#[test]
fn a_directory_makes_a_whole_configuration() {
    let config = Config::for_directory("td".parse().unwrap(), Path::new("/srv/mesh"));
    config.check().unwrap();
}
