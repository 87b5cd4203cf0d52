//! A TCP service: `shop/database` serves, `shop/cashier` may connect.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use proxy::CallRecord;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

use crate::application::Application;
use crate::mesh::Mesh;
use crate::workload::Workload;

/// `cashier` may connect.
pub const CASHIER_MAY_CONNECT: &str = r#"
apiVersion: countersign.dev/v1
kind: Policy
metadata: {namespace: shop, name: database}
spec:
  targets: [{service: database, port: pg}]
  allow: [{id: cashier, from: [{workload: shop/cashier}]}]
"#;

/// The same policy without a rule that anybody matches.
pub const NOBODY_MAY_CONNECT: &str = r#"
apiVersion: countersign.dev/v1
kind: Policy
metadata: {namespace: shop, name: database}
spec:
  targets: [{service: database, port: pg}]
  allow: []
"#;

const SERVICE: &str = r#"
apiVersion: countersign.dev/v1
kind: Service
metadata: {namespace: shop, name: database}
spec:
  workloads: [shop/database]
  ports: [{name: pg, port: 5432, protocol: tcp, app: 5432}]
"#;

#[derive(Debug)]
pub struct Database {
    pub cashier: Workload,
    pub database: Workload,
    pub application: Application,
}

impl Database {
    pub async fn open_in(mesh: &Mesh, application: Application) -> Self {
        let database = mesh
            .workload("shop/database")
            .serving("pg", application.address());
        database.register().await;
        mesh.try_apply(SERVICE).await.expect("the service is valid");
        mesh.try_apply(CASHIER_MAY_CONNECT)
            .await
            .expect("the policy is valid");
        Self {
            database: database.start().await,
            cashier: Self::client(mesh, "shop/cashier").await,
            application,
        }
    }

    /// A workload with a local port for the database.
    pub async fn client(mesh: &Mesh, name: &str) -> Workload {
        let client = mesh.workload(name).reaching("shop/database", "pg");
        client.start().await
    }
}

/// A connection of the cashier to a database that echoes, and what both proxies say of it.
#[derive(Debug)]
pub struct Echo {
    socket: TcpStream,
    told: [Receiver<Arc<CallRecord>>; 2],
}

impl Echo {
    pub async fn connect(database: &Database) -> Self {
        let Database {
            cashier, database, ..
        } = database;
        let told = [cashier.proxy.calls(), database.proxy.calls()];
        let socket = TcpStream::connect(cashier.reach()).await;
        Self {
            socket: socket.expect("the proxy listens"),
            told,
        }
    }

    /// # Panics
    /// If what is sent does not come back; with the records of calls that ended meanwhile.
    pub async fn check(&mut self) {
        if let Err(error) = self.ping().await {
            panic!("not carried: {error}: {:#?}", self.records().await);
        }
    }

    /// Whether what is sent comes back.
    pub async fn is_carried(&mut self) -> bool {
        matches!(
            timeout(Duration::from_secs(1), self.ping()).await,
            Ok(Ok(()))
        )
    }

    /// Ends when the other side does.
    pub async fn read(&mut self) -> io::Result<usize> {
        self.socket.read(&mut [0; 4]).await
    }

    async fn ping(&mut self) -> io::Result<()> {
        let mut echoed = [0; 4];
        self.socket.write_all(b"ping").await?;
        self.socket.read_exact(&mut echoed).await?;
        assert_eq!(&echoed, b"ping");
        Ok(())
    }

    async fn records(&mut self) -> Vec<Arc<CallRecord>> {
        let mut records = Vec::new();
        for told in &mut self.told {
            while let Ok(Ok(record)) = timeout(Duration::from_secs(1), told.recv()).await {
                records.push(record);
            }
        }
        records
    }
}
