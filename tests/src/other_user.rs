//! Another user of this host, who calls with `curl`. Only root can be one.

use nix::unistd::geteuid;
use tokio::process::Command;

/// `nobody`, who owns nothing here.
pub const NOBODY: u32 = 65534;

/// The right to act as [`NOBODY`].
#[derive(Debug, Clone, Copy)]
pub struct OtherUser(());

impl OtherUser {
    /// `None` where it is not to be had: the claim is skipped, and says so.
    ///
    /// # Panics
    /// In CI, where nothing is skipped.
    #[expect(clippy::print_stderr, reason = "a skip must be seen")]
    pub fn obtain() -> Option<Self> {
        if geteuid().is_root() {
            return Some(Self(()));
        }
        assert!(
            option_env!("CI").is_none(),
            "claims about two users need root, and CI skips nothing"
        );
        eprintln!("SKIPPED: a claim about two users needs root");
        None
    }

    /// What `curl` says, answer heads first.
    pub async fn curl(self, arguments: &[&str]) -> String {
        let id = NOBODY.to_string();
        let output = Command::new("setpriv")
            .args(["--reuid", &id, "--regid", &id, "--clear-groups", "curl"])
            .args(["--silent", "--show-error", "--include", "--max-time", "20"])
            .args(arguments)
            .kill_on_drop(true)
            .output()
            .await
            .expect("setpriv and curl are installed");
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said).to_lowercase()
    }

    /// A gRPC call over a Unix socket with one message.
    pub async fn grpc(self, socket: &str, path: &str, header: &str, message: &str) -> String {
        let url = format!("http://localhost{path}");
        self.curl(&[
            "--http2-prior-knowledge",
            "--unix-socket",
            socket,
            "--header",
            "content-type: application/grpc",
            "--header",
            "te: trailers",
            "--header",
            header,
            "--data-binary",
            message,
            &url,
        ])
        .await
    }
}
