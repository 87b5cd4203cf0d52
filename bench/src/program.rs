//! The demonstration's three programs, as `countersign up --demo` starts them.

use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::{Context, Result};
use mesh_tests::processes::binary_path;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

/// Running; killed when dropped.
#[derive(Debug)]
pub(crate) struct Program {
    _child: Child,
    _output: Option<BufReader<ChildStdout>>,
}

impl Program {
    /// `shop/orders`, and where it listens.
    pub(crate) async fn orders() -> Result<(Self, SocketAddr)> {
        let mut child = demo("orders").stdout(Stdio::piped()).spawn()?;
        let mut output = BufReader::new(child.stdout.take().expect("it was piped"));
        let mut line = String::new();
        output.read_line(&mut line).await?;
        let event: Value = serde_json::from_str(&line)?;
        let address = event["address"]
            .as_str()
            .context("the program names its address")?;
        let address = address.parse()?;
        Ok((
            Self {
                _child: child,
                _output: Some(output),
            },
            address,
        ))
    }

    /// `shop/checkout` or `shop/intruder`: a call every 200 ms through this outbound listener.
    pub(crate) fn caller(name: &str, outbound: SocketAddr) -> Result<Self> {
        let mut command = demo(name);
        command
            .arg("--http-proxy")
            .arg(format!("http://{outbound}"))
            .stdout(Stdio::null());
        Ok(Self {
            _child: command.spawn()?,
            _output: None,
        })
    }
}

fn demo(name: &str) -> Command {
    let mut command = Command::new(binary_path("countersign"));
    command
        .args(["demo-program", name])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}
