//! Claims about cgroups that the host's root makes by hand, on version 1 or 2, whichever is there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::*;

/// Where each version keeps the paths that are asked for.
const HIERARCHIES: [&str; 3] = [
    "/sys/fs/cgroup/systemd",
    "/sys/fs/cgroup/unified",
    "/sys/fs/cgroup",
];
const CONTAINER: &str = "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0";

/// A cgroup with one sleeping process in it; both end with it.
struct Inhabited {
    directory: PathBuf,
    child: Child,
}

impl Inhabited {
    /// `None` where cgroups cannot be made: the claim is skipped, and says so.
    fn make(hierarchy: &Path, path: &str) -> Option<Self> {
        let child = Command::new("sleep")
            .arg("600")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut inhabited = Self {
            directory: hierarchy.join(path),
            child,
        };
        let pid = inhabited.child.id().to_string();
        let moved = fs::create_dir_all(&inhabited.directory)
            .and_then(|()| fs::write(inhabited.directory.join("cgroup.procs"), pid));
        if let Err(error) = moved {
            assert!(
                option_env!("CI").is_none(),
                "claims about cgroups need root and a writable {hierarchy:?}, and CI skips \
                 nothing: {error}"
            );
            eprintln!("SKIPPED: no cgroup can be made in {hierarchy:?}: {error}");
            inhabited.end();
            return None;
        }
        Some(inhabited)
    }

    fn caller(&self) -> Caller {
        Caller {
            process: Process::open(i32::try_from(self.child.id()).unwrap()).unwrap(),
            ..caller()
        }
    }

    fn is(&self, selectors: Selectors) -> bool {
        fits_caller(&self.caller(), selectors)
    }

    fn end(&mut self) {
        // Both may have gone already.
        drop(self.child.kill());
        drop(self.child.wait());
        let mut directory = self.directory.clone();
        // Up to what others use, which cannot be removed.
        while fs::remove_dir(&directory).is_ok() && directory.pop() {}
    }
}

impl Drop for Inhabited {
    fn drop(&mut self) {
        self.end();
    }
}

/// The hierarchies of this host that have cgroups: `cgroup.procs` is the kernel's.
fn hierarchies() -> Vec<&'static Path> {
    let all = HIERARCHIES.iter().map(Path::new);
    let found: Vec<_> = all
        .filter(|path| path.join("cgroup.procs").exists())
        .collect();
    assert!(
        !found.is_empty() || option_env!("CI").is_none(),
        "this host has no cgroups, and CI skips nothing"
    );
    found
}

fn unit(name: &str) -> Selectors {
    Selectors {
        unit: Some(name.to_owned()),
        ..Selectors::default()
    }
}

fn container(id: &str) -> Selectors {
    let container = ContainerSelector {
        id: Some(id.to_owned()),
        pod: None,
    };
    Selectors {
        container: Some(container),
        ..Selectors::default()
    }
}

#[tokio::test]
async fn a_process_is_its_unit_and_no_other() {
    for hierarchy in hierarchies() {
        let path = "countersigntest.slice/countersign-orders.service/worker";
        let Some(process) = Inhabited::make(hierarchy, path) else {
            continue;
        };
        assert!(!process.is(unit("countersign-checkout.service")));
        assert!(!process.is(unit("worker")));
        assert!(process.is(unit("countersign-orders.service")));
    }
}

#[tokio::test]
async fn a_unit_of_a_users_manager_is_none() {
    for hierarchy in hierarchies() {
        let path = "countersigntest.slice/user@7.service/app.slice/countersign-orders.service";
        let Some(process) = Inhabited::make(hierarchy, path) else {
            continue;
        };
        assert!(!process.is(unit("countersign-orders.service")));
    }
}

#[tokio::test]
async fn a_process_is_in_its_container_and_in_no_other() {
    for hierarchy in hierarchies() {
        let path = format!("countersigntest.slice/docker-{CONTAINER}.scope/init");
        let Some(process) = Inhabited::make(hierarchy, &path) else {
            continue;
        };
        assert!(!process.is(container(&"ab".repeat(32))));
        assert!(process.is(container(CONTAINER)));
    }
}

#[tokio::test]
async fn a_process_that_leaves_its_unit_is_judged_again() {
    for hierarchy in hierarchies() {
        let path = "countersigntest.slice/countersign-leaver.service";
        let Some(process) = Inhabited::make(hierarchy, path) else {
            continue;
        };
        let caller = process.caller();
        let orders = || unit("countersign-leaver.service");
        assert!(fits_caller(&caller, orders()));
        let root = hierarchy.join("cgroup.procs");
        fs::write(root, process.child.id().to_string()).unwrap();
        assert!(!fits_caller(&caller, orders()));
    }
}
