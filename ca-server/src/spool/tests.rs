//! Claims about the file of the spool, on a real disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::file::{AppendError, Found, SpoolError, SpoolFile};
use super::record::BLOCK;
use super::record::tests::issued;
use crate::store::IssuedRow;

const SIZE: u64 = 64 * 1024;

fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spool");
    (directory, path)
}

fn open(path: &Path) -> (SpoolFile, Found) {
    SpoolFile::open(path, SIZE, &"td.test".parse().unwrap()).unwrap()
}

fn rows(from: u64, to: u64) -> Vec<IssuedRow> {
    (from..to).map(issued).collect()
}

/// A spool with these rows, whose process was killed.
fn left(path: &Path, rows: &[IssuedRow]) {
    let (mut spool, _) = open(path);
    spool.append(rows).unwrap();
}

#[test]
fn what_was_kept_is_found_by_the_next_process_until_it_is_emptied() {
    let (_directory, path) = directory();
    left(&path, &rows(0, 5));
    let (mut spool, found) = open(&path);
    assert_eq!((found.rows, found.unreadable), (rows(0, 5), Vec::new()));
    spool.empty().unwrap();
    spool.append(&rows(5, 7)).unwrap();
    drop(spool);
    let (_, found) = open(&path);
    assert_eq!((found.rows, found.unreadable), (rows(5, 7), Vec::new()));
}

#[test]
fn a_full_spool_refuses_and_keeps_what_it_has() {
    let (_directory, path) = directory();
    let (mut spool, _) = open(&path);
    let many = rows(0, SIZE / BLOCK as u64);
    assert!(matches!(spool.append(&many), Err(AppendError::Full)));
    spool.append(&rows(0, 3)).unwrap();
    assert!(matches!(spool.append(&many), Err(AppendError::Full)));
    assert_eq!(spool.read().unwrap().rows, rows(0, 3));
    assert_eq!(fs::metadata(&path).unwrap().len(), SIZE);
}

#[test]
fn a_crash_while_it_is_emptied_ships_nothing_again_and_loses_nothing() {
    let (_directory, path) = directory();
    left(&path, &rows(0, 3));
    let before = fs::read(&path).unwrap();
    let (mut spool, _) = open(&path);
    spool.empty().unwrap();
    drop(spool);
    // The header was written, the records are still there.
    let mut torn = fs::read(&path).unwrap();
    torn[2 * BLOCK..].copy_from_slice(&before[2 * BLOCK..]);
    fs::write(&path, torn).unwrap();
    let (mut spool, found) = open(&path);
    assert!(found.rows.is_empty() && found.unreadable.is_empty());
    spool.append(&rows(3, 4)).unwrap();
    assert_eq!(spool.read().unwrap().rows, rows(3, 4));
}

#[test]
fn a_damaged_record_is_named_the_others_are_found_and_the_file_is_kept_aside() {
    let (_directory, path) = directory();
    left(&path, &rows(0, 3));
    let mut bytes = fs::read(&path).unwrap();
    bytes[2 * BLOCK + 40] ^= 0xff;
    fs::write(&path, &bytes).unwrap();
    let (_, found) = open(&path);
    assert_eq!(found.rows, rows(1, 3));
    assert_eq!(found.unreadable[0], "record 0");
    assert_eq!(fs::read(path.with_extension("damaged")).unwrap(), bytes);
}

#[test]
fn a_file_that_was_cut_says_so_and_gives_what_is_left() {
    let (_directory, path) = directory();
    left(&path, &rows(0, 1));
    let one = fs::read(&path).unwrap();
    let end = one.iter().rposition(|byte| *byte != 0).unwrap();
    fs::write(&path, &one[..end.next_multiple_of(BLOCK)]).unwrap();
    let (_, found) = open(&path);
    assert_eq!(found.rows, rows(0, 1));
    assert!(found.unreadable[0].contains("it was cut"), "{found:?}");
}

#[test]
fn a_file_without_a_header_is_read_all_the_same() {
    let (_directory, path) = directory();
    left(&path, &rows(0, 2));
    let mut bytes = fs::read(&path).unwrap();
    bytes[..2 * BLOCK].fill(7);
    fs::write(&path, bytes).unwrap();
    let (_, found) = open(&path);
    assert_eq!(
        (found.rows, found.unreadable),
        (rows(0, 2), vec!["its header".to_owned()])
    );
}

#[test]
fn a_file_of_another_mesh_or_open_to_others_or_in_use_is_refused() {
    let (_directory, path) = directory();
    left(&path, &rows(0, 1));
    let other = SpoolFile::<IssuedRow>::open(&path, SIZE, &"other.test".parse().unwrap());
    assert!(matches!(other, Err(SpoolError::OtherMesh { .. })));
    let (_spool, _) = open(&path);
    let second = SpoolFile::<IssuedRow>::open(&path, SIZE, &"td.test".parse().unwrap());
    assert!(matches!(second, Err(SpoolError::InUse { .. })));
    drop(_spool);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let exposed = SpoolFile::<IssuedRow>::open(&path, SIZE, &"td.test".parse().unwrap());
    assert!(matches!(
        exposed,
        Err(SpoolError::Permissions { mode: 0o644, .. })
    ));
}
