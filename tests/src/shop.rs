//! The mesh that most claims are about: `shop/orders` serves, `shop/checkout` may call it,
//! `shop/intruder` may not.

use std::time::Duration;

use proxy::config::Tracing;

use crate::application::Application;
use crate::mesh::Mesh;
use crate::workload::Workload;

pub const ORDERS: &str = "http://orders.shop.mesh.internal";

/// `checkout` may GET and POST everything below `/v1/`, and read `/stream`.
pub const CHECKOUT_MAY_CALL: &str = r#"
apiVersion: countersign.dev/v1
kind: Policy
metadata: {namespace: shop, name: orders}
spec:
  targets: [{service: orders, port: http}]
  allow:
  - id: checkout
    from: [{workload: shop/checkout}]
    to: {http: [{methods: [GET, POST], path: "/v1/{rest=**}"}, {methods: [GET], path: "/stream"}]}
"#;

/// The same policy without a rule that anybody matches.
pub const NOBODY_MAY_CALL: &str = r#"
apiVersion: countersign.dev/v1
kind: Policy
metadata: {namespace: shop, name: orders}
spec:
  targets: [{service: orders, port: http}]
  allow: []
"#;

pub const SERVICE: &str = r#"
apiVersion: countersign.dev/v1
kind: Service
metadata: {namespace: shop, name: orders}
spec:
  workloads: [shop/orders]
  ports: [{name: http, port: 80, protocol: http, app: 8080}]
"#;

#[derive(Debug)]
pub struct Shop {
    pub checkout: Workload,
    pub orders: Workload,
    pub application: Application,
    pub mesh: Mesh,
}

impl Shop {
    /// With the product's default lifetimes.
    pub async fn open() -> Self {
        Self::open_in(Mesh::start().await).await
    }

    pub async fn open_with_leaves_of(life: Duration) -> Self {
        Self::open_in(Mesh::with_leaves_of(life).await).await
    }

    /// Whose proxies send spans.
    pub async fn open_traced(tracing: Tracing) -> Self {
        Self::assemble(
            Mesh::start().await,
            Application::http().await,
            Some(tracing),
        )
        .await
    }

    /// With this application behind `shop/orders`.
    pub async fn open_before(application: Application) -> Self {
        Self::assemble(Mesh::start().await, application, None).await
    }

    /// In a mesh that was started already.
    pub async fn open_in(mesh: Mesh) -> Self {
        Self::assemble(mesh, Application::http().await, None).await
    }

    async fn assemble(mesh: Mesh, application: Application, tracing: Option<Tracing>) -> Self {
        let orders = mesh
            .workload("shop/orders")
            .traced(tracing.clone())
            .serving("http", application.address());
        orders.register().await;
        mesh.try_apply(SERVICE).await.expect("the service is valid");
        mesh.try_apply(CHECKOUT_MAY_CALL)
            .await
            .expect("the policy is valid");
        let orders = orders.start().await;
        let checkout = mesh.workload("shop/checkout").traced(tracing);
        let checkout = checkout.start().await;
        Self {
            checkout,
            orders,
            application,
            mesh,
        }
    }

    pub async fn intruder(&self) -> Workload {
        self.mesh.workload("shop/intruder").start().await
    }
}
