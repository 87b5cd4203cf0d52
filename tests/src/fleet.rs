//! `shop/orders` with an application on each of several hosts, and `shop/checkout`, which may call
//! it.

use std::net::SocketAddr;
use std::ops::Range;

use http::StatusCode;
use proxy::config::{Dns, Mesh as MeshSection};

use crate::application::Application;
use crate::caller::Answer;
use crate::mesh::Mesh;
use crate::shop::{CHECKOUT_MAY_CALL, ORDERS};
use crate::waiting::eventually;
use crate::workload::Workload;

#[derive(Debug)]
pub struct Fleet {
    pub applications: Vec<Application>,
    pub checkout: Workload,
    pub hosts: Vec<Workload>,
    pub mesh: Mesh,
}

/// A fleet in the making.
#[derive(Debug)]
pub struct FleetBuilder {
    protocol: &'static str,
    fields: String,
    endpoints: String,
    hosts: Vec<(Application, MeshSection)>,
    caller: MeshSection,
    names: Option<Dns>,
}

impl Fleet {
    /// `fields`: what the port says of traffic.
    pub fn with(fields: &str) -> FleetBuilder {
        FleetBuilder {
            protocol: "http",
            fields: fields.to_owned(),
            endpoints: String::new(),
            hosts: Vec::new(),
            caller: MeshSection::default(),
            names: None,
        }
    }

    pub async fn open(fields: &str, applications: Vec<Application>) -> Self {
        let hosts = applications.into_iter();
        let builder = hosts.fold(Self::with(fields), |builder, it| {
            builder.host(it, MeshSection::default())
        });
        builder.open().await
    }

    /// One call, over a connection of its own.
    pub async fn get(&self) -> Answer {
        let mut caller = self.checkout.caller().await;
        caller.get(&format!("{ORDERS}/v1/orders")).await
    }

    /// Calls so often, and returns how many of the calls each application has got.
    ///
    /// # Panics
    /// If a call fails.
    pub async fn spread(&self, calls: usize) -> Vec<usize> {
        let requests = || self.applications.iter().map(Application::requests);
        let before: Vec<usize> = requests().collect();
        let mut caller = self.checkout.caller().await;
        for _ in 0..calls {
            let answer = caller.get(&format!("{ORDERS}/v1/orders")).await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        }
        requests()
            .zip(before)
            .map(|(now, then)| now - then)
            .collect()
    }

    /// Calls until each application of the range, and no other, gets calls.
    pub async fn only_called(&self, expected: Range<usize>) {
        eventually("calls go where they should", || async {
            let spread = self.spread(20).await;
            let mut called = spread.iter().enumerate();
            let as_expected =
                |(index, calls): (usize, &usize)| expected.contains(&index) == (*calls > 0);
            called.all(as_expected).then_some(())
        })
        .await;
    }

    /// Calls until each application has been reached, whatever it answers.
    pub async fn all_are_known(&self) {
        eventually("every endpoint is called", || async {
            self.get().await;
            let reached = self.applications.iter().all(|it| it.requests() > 0);
            reached.then_some(())
        })
        .await;
    }
}

impl FleetBuilder {
    #[must_use]
    pub fn host(mut self, application: Application, mesh: MeshSection) -> Self {
        self.hosts.push((application, mesh));
        self
    }

    /// A host of this zone.
    #[must_use]
    pub fn host_in(self, zone: &str, application: Application) -> Self {
        self.host(application, in_zone(zone))
    }

    /// The protocol of the port, in place of `http`.
    #[must_use]
    pub fn speaking(mut self, protocol: &'static str) -> Self {
        self.protocol = protocol;
        self
    }

    /// An endpoint besides the announced ones.
    #[must_use]
    pub fn endpoint(mut self, address: SocketAddr) -> Self {
        let (ip, port) = (address.ip(), address.port());
        self.endpoints = format!("{{address: '{ip}', ports: {{http: {port}}}}}");
        self
    }

    /// `shop/checkout` runs in this zone.
    #[must_use]
    pub fn called_from(mut self, zone: &str) -> Self {
        self.caller = in_zone(zone);
        self
    }

    /// Whom the caller's proxy asks for names.
    #[must_use]
    pub fn naming(mut self, names: Dns) -> Self {
        self.names = Some(names);
        self
    }

    pub async fn open(self) -> Fleet {
        let mesh = Mesh::start().await;
        let (mut applications, mut hosts) = (Vec::new(), Vec::new());
        for (number, (application, section)) in self.hosts.into_iter().enumerate() {
            let host = mesh
                .workload("shop/orders")
                .on(&format!("host-{number}"))
                .meshed(section)
                .serving("http", application.address());
            host.register().await;
            if number == 0 {
                let service = mesh
                    .try_apply(&service(self.protocol, &self.fields, &self.endpoints))
                    .await;
                service.expect("a valid service");
                let policy = mesh.try_apply(CHECKOUT_MAY_CALL).await;
                policy.expect("a valid policy");
            }
            applications.push(application);
            hosts.push(host.start().await);
        }
        let checkout = mesh.workload("shop/checkout").meshed(self.caller);
        let checkout = checkout.naming(self.names).start().await;
        Fleet {
            applications,
            checkout,
            hosts,
            mesh,
        }
    }
}

/// A proxy's place in a zone.
pub fn in_zone(zone: &str) -> MeshSection {
    MeshSection {
        zone: Some(zone.to_owned()),
        ..MeshSection::default()
    }
}

fn service(protocol: &str, fields: &str, endpoints: &str) -> String {
    format!(
        r#"
apiVersion: countersign.dev/v1
kind: Service
metadata: {{namespace: shop, name: orders}}
spec:
  workloads: [shop/orders]
  ports: [{{name: http, port: 80, protocol: {protocol}, app: 8080, {fields}}}]
  endpoints: [{endpoints}]
"#
    )
}
