//! A host as an operator would run it: the agent and the proxies as processes of their own, in a
//! directory of their own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nix::unistd::getuid;
use runtime::files::{private_directory, write_private};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::operator::CaProcess;
use crate::processes::{Process, free_address};
use crate::waiting::eventually;

/// One workload's agent and proxy.
#[derive(Debug)]
pub struct Host {
    pub agent: Process,
    pub proxy: Process,
    pub outbound: SocketAddr,
    directory: PathBuf,
    agent_config: String,
    proxy_config: String,
    proxies: usize,
    environment: Vec<(String, String)>,
}

impl Host {
    /// Joins an agent for `workload`, whose application for port `http` is at `application`, and
    /// waits until its proxy is ready.
    pub async fn start(
        ca: &CaProcess,
        name: &str,
        workload: &str,
        application: Option<SocketAddr>,
    ) -> Self {
        Self::start_with(ca, name, workload, application, "").await
    }

    /// As [`Host::start`], with more sections in the proxy's configuration.
    pub async fn start_with(
        ca: &CaProcess,
        name: &str,
        workload: &str,
        application: Option<SocketAddr>,
        sections: &str,
    ) -> Self {
        Self::start_among(ca, (name, workload, application), sections, Vec::new()).await
    }

    /// As [`Host::start_with`], with these variables in the environment of both processes.
    pub async fn start_among(
        ca: &CaProcess,
        (name, workload, application): (&str, &str, Option<SocketAddr>),
        sections: &str,
        environment: Vec<(String, String)>,
    ) -> Self {
        let directory = ca.directory().join(name);
        private_directory(&directory).expect("a directory");
        let token = ca.join_token(name, &[workload]).await;
        write_private(directory.join("join-token"), token.to_string().as_bytes())
            .expect("writable");
        let outbound = free_address();
        let agent_config = agent_config(&directory, workload, application);
        let proxy_config = proxy_config(&directory, workload, outbound) + sections;
        let start = |binary, name, config| {
            let variables = variables(&environment);
            Process::start_among(binary, &directory, name, config, &[], &variables)
        };
        let host = Self {
            agent: start("countersign-agent", "agent", &agent_config),
            proxy: start("countersign-proxy", "proxy-0", &proxy_config),
            outbound,
            directory,
            agent_config,
            proxy_config,
            proxies: 1,
            environment,
        };
        host.ready().await;
        host
    }

    /// Returns once the proxy that answers says that it is ready.
    pub async fn ready(&self) -> Value {
        let what = "the proxy is ready";
        eventually(what, || async {
            let status = self.status().await?;
            (status["ready"] == true).then_some(status)
        })
        .await
    }

    /// What the proxy says on its administration socket.
    pub async fn status(&self) -> Option<Value> {
        let mut stream = UnixStream::connect(self.directory.join("admin.sock"))
            .await
            .ok()?;
        let request = b"GET /status HTTP/1.1\r\nhost: proxy\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()
    }

    /// Returns when the proxy has presented so many more certificates, one after another.
    pub async fn renewals(&self, count: usize) {
        let mut before = self.serial().await;
        for _ in 0..count {
            before = eventually("another certificate is presented", || async {
                let serial = self.serial().await;
                (serial.is_some() && serial != before).then_some(serial)
            })
            .await;
        }
    }

    /// Of the certificate that the proxy presents.
    pub async fn serial(&self) -> Option<String> {
        Some(self.status().await?["serial"].as_str()?.to_owned())
    }

    /// A second proxy, which takes the sockets of the first.
    pub fn successor(&mut self) -> Process {
        let name = format!("proxy-{}", self.proxies);
        self.proxies += 1;
        Process::start_among(
            "countersign-proxy",
            &self.directory,
            &name,
            &self.proxy_config,
            &["--takeover"],
            &variables(&self.environment),
        )
    }

    /// Puts a successor in the place of the proxy; returns the one before, which drains.
    pub async fn take_over(&mut self) -> Process {
        let successor = self.successor();
        eventually("it has taken over", || async {
            let said = successor.said();
            said.contains("has taken over").then_some(())
        })
        .await;
        std::mem::replace(&mut self.proxy, successor)
    }

    /// kill -9 of the agent, and another on the same state.
    pub async fn crash_agent(&mut self) {
        self.stop_agent().await;
        self.start_agent_again();
    }

    /// Another agent on the same state, after the one before has ended.
    pub fn start_agent_again(&mut self) {
        self.agent = Process::start_among(
            "countersign-agent",
            &self.directory,
            "agent",
            &self.agent_config,
            &[],
            &variables(&self.environment),
        );
    }

    /// kill -9 of the agent.
    pub async fn stop_agent(&mut self) {
        self.agent.kill_now().await;
    }

    /// kill -9 of the proxy, and another.
    pub async fn crash_proxy(&mut self) {
        self.proxy.kill_now().await;
        self.proxy = self.successor();
    }

    /// Another proxy, after the one before has ended.
    pub fn start_proxy_again(&mut self) {
        self.proxy = self.successor();
    }

    pub fn takeover_socket(&self) -> PathBuf {
        self.directory.join("admin.takeover.sock")
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

fn variables(environment: &[(String, String)]) -> Vec<(&str, &str)> {
    let pairs = environment.iter();
    pairs.map(|(name, value)| (&**name, &**value)).collect()
}

fn agent_config(directory: &Path, workload: &str, application: Option<SocketAddr>) -> String {
    let (at, uid) = (directory.display(), getuid());
    let application = application.map_or_else(String::new, |address| {
        format!(
            "[[applications]]\nservice = \"{workload}\"\nport = \"http\"\naddress = \"{address}\"\n"
        )
    });
    format!(
        "state_dir = \"{at}/state\"\n\
         [join]\ntoken_file = \"{at}/join-token\"\n\
         [workload_api]\nsocket = \"{at}/workload.sock\"\n\
         [feed]\nsocket = \"{at}/feed.sock\"\n\
         [[proxies]]\nuid = {uid}\nworkloads = [\"{workload}\"]\n\
         {application}[log]\nlevel = \"warn\"\n"
    )
}

fn proxy_config(directory: &Path, workload: &str, outbound: SocketAddr) -> String {
    let at = directory.display();
    format!(
        "workload = \"{workload}\"\nfeed = \"{at}/feed.sock\"\n\
         [outbound]\nlisten = \"{outbound}\"\n\
         [listen]\nadmin_socket = \"{at}/admin.sock\"\n\
         [access_log]\nformat = \"off\"\n\
         [drain]\ndeadline = \"10s\"\n"
    )
}
