//! Dependency direction, licences, sources, and one crypto provider per build.

use std::collections::{BTreeMap, BTreeSet};

use crate::metadata::{Metadata, Package, cargo};

/// Every arrow there is between our crates. `mesh-tests` and `countersign-bench` may use all.
const ARROWS: [(&str, &[&str]); 13] = [
    ("countersign-crypto", &[]),
    ("countersign-http2", &[]),
    ("countersign-runtime", &[]),
    ("countersign-proto", &[]),
    ("countersign-identity", &["crypto"]),
    ("countersign-tlog", &["crypto"]),
    ("countersign-policy", &["identity", "crypto"]),
    ("countersign-mtls", &["identity", "crypto"]),
    (
        "countersign-workload-api",
        &["identity", "mtls", "runtime", "proto", "crypto"],
    ),
    ("countersign-ca", CA),
    ("countersign-agent", SHARED),
    ("countersign-proxy", PROXY),
    ("countersign", EVERYTHING),
];
const SHARED: &[&str] = &[
    "crypto",
    "identity",
    "policy",
    "mtls",
    "workload-api",
    "runtime",
    "proto",
];
const CA: &[&str] = &[
    "crypto",
    "identity",
    "policy",
    "mtls",
    "workload-api",
    "runtime",
    "tlog",
    "proto",
];
const PROXY: &[&str] = &[
    "crypto",
    "http2",
    "identity",
    "policy",
    "mtls",
    "workload-api",
    "runtime",
    "proto",
];
const EVERYTHING: &[&str] = &[
    "crypto",
    "identity",
    "policy",
    "mtls",
    "workload-api",
    "runtime",
    "tlog",
    "proto",
    "ca",
    "agent",
    "proxy",
];
/// The only crates that may name a TLS or crypto library.
const CRYPTO_IMPORTERS: [(&str, &[&str]); 3] = [
    ("aws-lc-rs", &["countersign-crypto"]),
    ("ring", &["countersign-crypto"]),
    ("rustls", &["countersign-crypto", "countersign-mtls"]),
];
const BANNED: [&str; 5] = [
    "openssl",
    "openssl-sys",
    "native-tls",
    "serde_yaml",
    "chrono",
];

#[test]
fn arrows_point_only_where_the_architecture_says() {
    let allowed: BTreeMap<_, _> = ARROWS.into_iter().collect();
    for package in deployable() {
        let names = allowed.get(package.name.as_str());
        let names = names.unwrap_or_else(|| panic!("{} has no place in ARROWS", package.name));
        for dependency in ours(package) {
            let short = dependency
                .strip_prefix("countersign-")
                .unwrap_or(dependency);
            assert!(
                names.contains(&short),
                "{} must not depend on {dependency}",
                package.name
            );
        }
    }
}

#[test]
fn only_crypto_and_mtls_import_cryptography() {
    for package in deployable() {
        for (library, importers) in CRYPTO_IMPORTERS {
            let imports = normal(package).any(|name| name == library);
            let allowed = importers.contains(&package.name.as_str());
            assert!(
                allowed || !imports,
                "{} must not import {library}",
                package.name
            );
        }
    }
}

#[test]
fn banned_crates_are_not_linked() {
    let present: Vec<_> = Metadata::get()
        .packages
        .iter()
        .map(|package| package.name.as_str())
        .filter(|name| BANNED.contains(name))
        .collect();
    assert!(present.is_empty(), "banned, see deny.toml: {present:?}");
}

#[test]
fn everything_comes_from_the_registry() {
    for package in &Metadata::get().packages {
        let source = package.source.as_deref();
        let known = source.is_none_or(|source| source.starts_with("registry+"));
        assert!(known, "{} comes from {source:?}", package.name);
    }
}

#[test]
fn licences_are_on_the_list() {
    let list = allowed_licences();
    for package in Metadata::get()
        .packages
        .iter()
        .filter(|package| package.source.is_some())
    {
        let licence = package.license.as_deref().unwrap_or("none stated");
        assert!(
            permitted(licence, &list),
            "{} is under `{licence}`",
            package.name
        );
    }
}

#[test]
fn a_build_has_one_crypto_provider() {
    assert!(
        !linked(&[]).contains("ring"),
        "the default build links ring"
    );
    let on_ring = linked(&["--no-default-features", "--features", "ring"]);
    assert!(
        !on_ring.contains("aws-lc-rs"),
        "the ring build links aws-lc-rs"
    );
    assert!(
        on_ring.contains("ring"),
        "the ring build does not link ring"
    );
}

fn linked(features: &[&str]) -> BTreeSet<String> {
    let mut arguments = vec!["tree", "--locked", "-e", "normal", "--prefix", "none"];
    arguments.extend(["-f", "{p}", "-p", "countersign"]);
    arguments.extend(features);
    cargo(&arguments)
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

fn deployable() -> impl Iterator<Item = &'static Package> {
    let judges = ["mesh-tests", "countersign-bench", "postgres-cluster"];
    Metadata::get()
        .members()
        .filter(move |package| !judges.contains(&package.name.as_str()))
}

fn ours(package: &Package) -> impl Iterator<Item = &str> {
    let inside = package
        .dependencies
        .iter()
        .filter(|dependency| dependency.path.is_some());
    inside
        .filter(|dependency| dependency.kind.is_none())
        .map(|dependency| dependency.name.as_str())
}

fn normal(package: &Package) -> impl Iterator<Item = &str> {
    let normal = package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind.is_none());
    normal.map(|dependency| dependency.name.as_str())
}

fn allowed_licences() -> BTreeSet<String> {
    let text = include_str!("../../deny.toml");
    let deny: toml::Table = text.parse().expect("deny.toml is TOML");
    let list = deny["licenses"]["allow"]
        .as_array()
        .expect("licenses.allow is a list");
    list.iter()
        .filter_map(|value| value.as_str())
        .map(str::to_owned)
        .collect()
}

/// An SPDX expression without nested parentheses: alternatives of conjunctions.
fn permitted(expression: &str, list: &BTreeSet<String>) -> bool {
    let flat = expression.replace(['(', ')'], " ").replace('/', " OR ");
    let mut alternatives = flat.split(" OR ");
    alternatives.any(|all| {
        // SPDX: `+` is that version or a later one, of which we take that version.
        all.split(" AND ")
            .all(|licence| list.contains(licence.trim().trim_end_matches('+')))
    })
}
