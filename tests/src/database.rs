//! A TCP service: `shop/database` serves, `shop/cashier` may connect.

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
