mod cgroups;

use std::time::Duration;

use crypto::digest::Sha256;

use super::*;
use crate::caller::Process;

fn caller() -> Caller {
    Caller {
        uid: 1001,
        gid: 1002,
        process: Process::open(i32::try_from(std::process::id()).unwrap()).unwrap(),
    }
}

fn own_executable() -> (std::path::PathBuf, Sha256) {
    let path = std::env::current_exe().unwrap();
    let digest = Sha256::of(&std::fs::read(&path).unwrap());
    (path, digest)
}

fn fits(unix: UnixSelectors) -> bool {
    fits_all(Selectors {
        unix: Some(unix),
        ..Selectors::default()
    })
}

fn fits_all(selectors: Selectors) -> bool {
    fits_caller(&caller(), selectors)
}

fn fits_caller(caller: &Caller, selectors: Selectors) -> bool {
    let entry = Assignment {
        workload: "shop/orders".parse().unwrap(),
        spiffe_id: "spiffe://mesh.example/ns/shop/sa/orders".parse().unwrap(),
        selectors,
        ttl: Duration::from_secs(3600),
        hint: None,
    };
    let assignments = BTreeMap::from([(entry.spiffe_id.clone(), entry)]);
    match Attestor::new(Spawned::new(false)).attest(caller, &assignments) {
        Ok(_) => true,
        Err(NotEntitled::NoMatch { uid: 1001, .. }) => false,
        Err(other) => panic!("{other}"),
    }
}

fn uid(uid: u32) -> UnixSelectors {
    UnixSelectors {
        uid: Some(uid),
        ..UnixSelectors::default()
    }
}

#[tokio::test]
async fn entry_without_a_uid_fits_nobody() {
    assert!(!fits(UnixSelectors::default()));
}

#[tokio::test]
async fn entry_without_any_selector_fits_nobody() {
    assert!(!fits_all(Selectors::default()));
}

#[tokio::test]
async fn a_unit_or_a_container_in_which_the_caller_is_not_does_not_fit() {
    let unit = Some("countersign-nobody.service".to_owned());
    let container = Some(ContainerSelector {
        id: Some("ab".repeat(32)),
        pod: None,
    });
    for selectors in [
        Selectors {
            unit,
            ..Selectors::default()
        },
        Selectors {
            container,
            ..Selectors::default()
        },
    ] {
        assert!(!fits_all(selectors.clone()));
        let unix = Some(uid(1001));
        assert!(!fits_all(Selectors { unix, ..selectors }));
    }
}

#[tokio::test]
async fn another_uid_does_not_fit() {
    assert!(!fits(uid(1000)));
}

#[tokio::test]
async fn another_gid_does_not_fit() {
    assert!(!fits(UnixSelectors {
        gid: Some(1),
        ..uid(1001)
    }));
}

#[tokio::test]
async fn another_path_does_not_fit() {
    assert!(!fits(UnixSelectors {
        path: Some("/bin/true".into()),
        ..uid(1001)
    }));
}

#[tokio::test]
async fn another_digest_does_not_fit_even_with_the_right_path() {
    let (path, _) = own_executable();
    let sha256 = Some(Sha256::of(b"another program"));
    assert!(!fits(UnixSelectors {
        path: Some(path),
        sha256,
        ..uid(1001)
    }));
}

#[tokio::test]
async fn process_that_has_exited_is_entitled_to_nothing() {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let process = Process::open(i32::try_from(child.id()).unwrap()).unwrap();
    child.wait().unwrap();
    let gone = Caller {
        process,
        ..caller()
    };
    let refused = Attestor::new(Spawned::new(false)).attest(&gone, &BTreeMap::new());
    assert!(matches!(refused, Err(NotEntitled::Exited)));
}

#[tokio::test]
async fn caller_that_fits_every_selector_is_entitled() {
    let (path, sha256) = own_executable();
    assert!(fits(UnixSelectors {
        gid: Some(1002),
        path: Some(path),
        sha256: Some(sha256),
        ..uid(1001)
    }));
}
