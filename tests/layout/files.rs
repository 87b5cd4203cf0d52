//! The size budget, and names that say nothing.

use std::fs;
use std::path::{Path, PathBuf};

use crate::metadata::workspace_root;

const LINES_CAP: usize = 600;
const LINES_P95: usize = 450;
/// Longer than the cap, each with its reason.
const EXCEPTIONS: [(&str, &str); 0] = [];
const EMPTY_NAMES: [&str; 7] = [
    "utils", "util", "helpers", "helper", "common", "misc", "types",
];

#[test]
fn no_file_outgrows_the_cap() {
    for (file, lines) in sizes() {
        let excepted = EXCEPTIONS.iter().any(|(name, _)| file.ends_with(name));
        assert!(
            excepted || lines <= LINES_CAP,
            "{} has {lines} lines",
            file.display()
        );
    }
}

#[test]
fn nearly_all_files_are_small() {
    let mut sizes: Vec<_> = sizes().into_iter().map(|(_, lines)| lines).collect();
    sizes.sort_unstable();
    let p95 = sizes[sizes.len() * 95 / 100];
    assert!(
        p95 <= LINES_P95,
        "the 95th percentile of file lengths is {p95}"
    );
}

#[test]
fn every_file_is_named_by_its_topic() {
    for file in production_files() {
        let stem = file
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        assert!(
            !EMPTY_NAMES.contains(&stem),
            "{} has no topic",
            file.display()
        );
        assert_ne!(
            stem,
            "mod",
            "{}: modules are `foo.rs` and `foo/`",
            file.display()
        );
    }
}

#[test]
fn every_file_says_why_it_exists() {
    for file in production_files() {
        let text = fs::read_to_string(&file).expect("source is readable");
        assert!(
            text.starts_with("//!"),
            "{} has no `//!` header",
            file.display()
        );
    }
}

/// A newer build adds columns beside a running one, whose prepared statements PostgreSQL then
/// refuses if they took all that there was.
#[test]
fn every_statement_names_its_columns() {
    for file in production_files() {
        let text = fs::read_to_string(&file).expect("source is readable");
        for whole in [["SELECT", "*"], ["RETURNING", "*"]] {
            let whole = whole.join(" ");
            assert!(!text.contains(&whole), "{whole} in {}", file.display());
        }
    }
}

fn sizes() -> Vec<(PathBuf, usize)> {
    production_files()
        .into_iter()
        .map(|file| (file.clone(), production_lines(&file)))
        .collect()
}

/// Lines before the file's own test module.
fn production_lines(file: &Path) -> usize {
    let text = fs::read_to_string(file).expect("source is readable");
    text.lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .count()
}

fn production_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for top in [
        "ca-server",
        "workload-agent",
        "proxy",
        "cli",
        "crates",
        "proto",
        "tests",
        "bench",
    ] {
        collect(&workspace_root().join(top), &mut files);
    }
    assert!(files.len() > 50, "found only {} source files", files.len());
    files
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder)
        .expect("the workspace is readable")
        .flatten()
    {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests.rs"
        {
            files.push(path);
        }
    }
}
