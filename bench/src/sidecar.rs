//! The agent and the proxy as processes of their own, each from its own TOML file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use identity::JoinToken;
use mesh_tests::processes::{Process, free_address};
use nix::unistd::getuid;
use runtime::files::{private_directory, write_private};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What a host's agent is started with, as often as it crashes.
#[derive(Debug)]
pub(crate) struct Host {
    directory: PathBuf,
    config: String,
}

/// A proxy beside one workload.
#[derive(Debug)]
pub(crate) struct Sidecar {
    pub(crate) process: Process,
    pub(crate) outbound: SocketAddr,
}

impl Host {
    /// For proxies of these workloads; `application` is where `shop/orders` listens.
    pub(crate) fn prepare(
        directory: &Path,
        token: &JoinToken,
        workloads: &[&str],
        application: SocketAddr,
    ) -> Result<Self> {
        let directory = directory.join("host");
        private_directory(&directory)?;
        write_private(directory.join("join-token"), token.to_string().as_bytes())?;
        let at = directory.display();
        let uid = getuid();
        let config = format!(
            r#"state_dir = "{at}/state"

[join]
token_file = "{at}/join-token"

[workload_api]
socket = "{at}/workload.sock"

[feed]
socket = "{at}/feed.sock"

[[proxies]]
uid = {uid}
workloads = {workloads:?}

[[applications]]
service = "shop/orders"
port = "http"
address = "{application}"

[log]
level = "warn"
"#
        );
        Ok(Self { directory, config })
    }

    pub(crate) fn start(&self) -> Process {
        Process::start("countersign-agent", &self.directory, "agent", &self.config)
    }

    pub(crate) fn workload_api(&self) -> PathBuf {
        self.directory.join("workload.sock")
    }

    /// A proxy with the product's defaults (the access log is on) that this agent feeds.
    /// `mesh_port` is where it takes calls to `shop/orders`, if it does.
    pub(crate) fn sidecar(&self, workload: &str, mesh_port: Option<u16>) -> Sidecar {
        let outbound = free_address();
        let feed = self.directory.join("feed.sock");
        let ports = mesh_port.map(|port| format!("\"shop/orders:http\" = {port}"));
        let config = format!(
            r#"workload = "{workload}"
feed = "{feed}"

[mesh]
ports = {{ {ports} }}

[outbound]
listen = "{outbound}"

[log]
level = "warn"
"#,
            feed = feed.display(),
            ports = ports.unwrap_or_default(),
        );
        let name = workload.replace('/', "-");
        let process = Process::start("countersign-proxy", &self.directory, &name, &config);
        Sidecar { process, outbound }
    }
}

impl Sidecar {
    /// The status of one call on a connection of its own.
    pub(crate) async fn call(&self, url: &str) -> Result<StatusCode> {
        let socket = TcpStream::connect(self.outbound).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        let host = url.trim_start_matches("http://").trim_end_matches('/');
        let request = Request::get(url)
            .header("host", host)
            .body(Empty::<Bytes>::new())?;
        Ok(sender.send_request(request).await?.status())
    }
}
