//! Both restrict a thread and what it starts, so that a thread of its own stands for the process.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::thread;

use nix::libc;
use rustix::net::{AddressFamily, SocketType, socket};

use super::*;

fn config() -> Config {
    let mut config = Config::for_workload("shop/orders".parse().unwrap());
    config.sandbox.landlock = Demand::Required;
    config.sandbox.seccomp = Demand::Required;
    config
}

/// What `attempt` says in a process that is restricted.
fn restricted<T: Send + 'static>(
    config: Config,
    attempt: impl FnOnce() -> T + Send + 'static,
) -> T {
    let attempted = thread::spawn(move || {
        apply(&config).unwrap();
        attempt()
    });
    attempted.join().unwrap()
}

/// This kernel's answer to a restriction that it cannot enforce is a claim of its own.
fn has_landlock() -> bool {
    let probe = thread::spawn(|| files::restrict(&config()).unwrap());
    let found = probe.join().unwrap().is_some();
    assert!(
        found || option_env!("CI").is_none(),
        "CI's kernel must have Landlock"
    );
    if !found {
        eprintln!("SKIPPED: this kernel has no Landlock");
    }
    found
}

#[test]
fn no_program_can_be_started() {
    let started = restricted(config(), || Command::new("/bin/true").status());
    assert_eq!(started.unwrap_err().raw_os_error(), Some(libc::EPERM));
}

#[test]
fn a_thread_cannot_get_around_by_starting_another() {
    let started = restricted(config(), || {
        let other = thread::spawn(|| Command::new("/bin/true").status());
        other.join().unwrap()
    });
    assert_eq!(started.unwrap_err().raw_os_error(), Some(libc::EPERM));
}

#[test]
fn what_looks_at_packets_cannot_be_opened() {
    let opened = restricted(config(), || {
        socket(AddressFamily::PACKET, SocketType::RAW, None)
    });
    assert_eq!(opened.unwrap_err(), rustix::io::Errno::PERM);
}

#[test]
fn files_that_the_configuration_does_not_name_cannot_be_read() {
    if !has_landlock() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    fs::write(&secret, "s").unwrap();
    let read = restricted(config(), move || fs::read(secret));
    assert_eq!(read.unwrap_err().kind(), ErrorKind::PermissionDenied);
}

#[test]
fn nothing_can_be_written_where_sockets_are_made() {
    if !has_landlock() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut config = config();
    config.listen.admin_socket = Some(directory.path().join("admin.sock"));
    let file = directory.path().join("file");
    let written = restricted(config, move || fs::write(file, "x"));
    assert_eq!(written.unwrap_err().kind(), ErrorKind::PermissionDenied);
}

#[test]
fn a_path_that_is_to_be_read_and_does_not_exist_is_named() {
    let mut config = config();
    config.sandbox.read = vec!["/does/not/exist".into()];
    let refused = thread::spawn(move || apply(&config)).join().unwrap();
    assert!(matches!(
        refused,
        Err(SandboxError::Path { path, .. }) if path == "/does/not/exist"
    ));
}

#[test]
fn what_is_off_restricts_nothing() {
    let mut config = config();
    config.sandbox.landlock = Demand::Off;
    config.sandbox.seccomp = Demand::Off;
    let started = restricted(config, || Command::new("/bin/true").status());
    assert!(started.unwrap().success());
}

#[test]
fn a_proxy_can_do_its_work() {
    if !has_landlock() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let granted = directory.path().join("gateway.pem");
    fs::write(&granted, "certificate").unwrap();
    let sockets = tempfile::tempdir().unwrap();
    let path = sockets.path().join("admin.sock");
    let mut config = config();
    config.sandbox.read = vec![granted.clone()];
    config.listen.admin_socket = Some(path.clone());

    let worked = restricted(config, move || {
        thread::spawn(|| ()).join().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0")?;
        TcpStream::connect(listener.local_addr()?)?;
        let _socket = UnixListener::bind(&path)?;
        UnixStream::connect(&path)?;
        fs::remove_file(&path)?;
        "localhost:80".to_socket_addrs()?;
        fs::read_to_string("/proc/self/net/tcp")?;
        fs::read_to_string(granted)
    });

    assert_eq!(
        worked.map_err(|it: io::Error| it.kind()),
        Ok("certificate".to_owned())
    );
}
