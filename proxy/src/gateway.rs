//! Ways into the mesh for callers outside it: what the Gateways of our workload ask for, by port
//! and host. Pure, but for the files of [`certificates`].
//!
//! Invariant: what a caller says of itself or of its way here is not passed on as the proxy's own
//! word; the destination's policy judges the gateway's identity alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mtls::ServerTlsConfig;
use mtls::web::{WebCertificate, server_config_by_host};
use policy::{CertificateFiles, GatewayListener, RouteRules};

use crate::service_port::ServicePort;

pub(crate) mod certificates;
pub(crate) mod forwarded;

/// Spoken with callers, the preferred first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where the requests for one host go.
pub(crate) type Doors = RouteRules<ServicePort>;

/// What is asked for on each port.
pub(crate) type Plans = BTreeMap<u16, BTreeMap<String, HostPlan>>;

/// What is asked for at one host of a port.
#[derive(Clone, Debug)]
pub(crate) struct HostPlan {
    pub(crate) files: CertificateFiles,
    pub(crate) doors: Arc<Doors>,
}

/// One port as callers find it: replaced whole when something changes.
#[derive(Debug, Default)]
pub(crate) struct Front {
    /// None while no host of it has a certificate.
    pub(crate) tls: Option<ServerTlsConfig>,
    hosts: HashMap<String, Arc<Doors>>,
}

/// What the Gateways ask for; listeners of one port have no host in common.
pub(crate) fn plans(gateways: &[Arc<policy::Gateway>]) -> Plans {
    let mut plans = Plans::new();
    for listener in gateways.iter().flat_map(|gateway| &gateway.listeners) {
        let doors = Arc::new(doors(listener));
        for host in &listener.hosts {
            let plan = HostPlan {
                files: listener.tls.clone(),
                doors: Arc::clone(&doors),
            };
            let port = plans.entry(listener.port).or_default();
            port.insert(host.clone(), plan);
        }
    }
    plans
}

/// Every pair of files that is asked for.
pub(crate) fn files(plans: &Plans) -> BTreeSet<certificates::Files> {
    let hosts = plans.values().flat_map(BTreeMap::values);
    hosts.map(|plan| (&plan.files).into()).collect()
}

impl Front {
    /// The hosts that have a certificate, and where their requests go.
    pub(crate) fn new(hosts: Vec<(String, WebCertificate, Arc<Doors>)>) -> Self {
        let shown = hosts.iter();
        let shown: Vec<_> = shown
            .map(|(host, certificate, _)| (host.clone(), certificate.clone()))
            .collect();
        let hosts = hosts.into_iter().map(|(host, _, doors)| (host, doors));
        Self {
            tls: (!shown.is_empty()).then(|| server_config_by_host(shown, &ALPN)),
            hosts: hosts.collect(),
        }
    }

    pub(crate) fn doors(&self, host: &str) -> Option<&Arc<Doors>> {
        self.hosts.get(host)
    }
}

fn doors(listener: &GatewayListener) -> Doors {
    let rules = listener.routes.iter().map(|route| {
        let to = ServicePort {
            service: route.service.clone(),
            port: route.port.clone(),
        };
        (route.matching.iter().cloned().collect(), to)
    });
    RouteRules::new(rules)
}

#[cfg(test)]
mod tests {
    use policy::{Request, RequestPath, Resource};

    use super::*;

    fn gateway(listeners: &str) -> Arc<policy::Gateway> {
        let text = format!(
            "apiVersion: countersign.dev/v1\nkind: Gateway\n\
             metadata: {{namespace: edge, name: public}}\n\
             spec: {{workloads: [edge/gateway], listeners: [{listeners}]}}"
        );
        match policy::parse_documents(&text).unwrap().remove(0) {
            Resource::Gateway(gateway) => Arc::new(gateway),
            other => panic!("{other:?}"),
        }
    }

    const TLS: &str = "tls: {certificateFile: /tls/a.pem, keyFile: /tls/a.key}";

    #[test]
    fn listeners_of_one_port_share_it_and_files_are_listed_once() {
        let route = "routes: [{service: shop/orders, port: http}]";
        let gateway = gateway(&format!(
            "{{name: a, port: 443, hosts: [a.example, b.example], {TLS}, {route}}}, \
             {{name: c, port: 443, hosts: [c.example], {TLS}, {route}}}, \
             {{name: d, port: 8443, hosts: [a.example], {TLS}, {route}}}"
        ));
        let plans = plans(&[gateway]);
        let hosts: Vec<_> = plans[&443].keys().map(String::as_str).collect();
        assert_eq!(hosts, ["a.example", "b.example", "c.example"]);
        assert_eq!((plans.len(), files(&plans).len()), (2, 1));
    }

    #[test]
    fn the_most_specific_route_leads_and_what_none_matches_leads_nowhere() {
        let gateway = gateway(&format!(
            "{{name: a, port: 443, hosts: [a.example], {TLS}, routes: [\
             {{path: '/{{rest=**}}', service: shop/front, port: http}}, \
             {{path: '/orders/{{rest=**}}', methods: [GET], service: shop/orders, port: http}}]}}"
        ));
        let plans = plans(&[gateway]);
        let doors = &plans[&443]["a.example"].doors;
        let to = |method: &str, path: &str| {
            let request = Request::Http {
                method,
                path: &RequestPath::parse(method, path),
                headers: &(),
            };
            doors.find(&request).map(ToString::to_string)
        };
        assert_eq!(to("GET", "/"), None);
        let found = to("GET", "/orders/1");
        assert_eq!(found.as_deref(), Some("shop/orders:http"));
        let found = to("POST", "/orders/1");
        assert_eq!(found.as_deref(), Some("shop/front:http"));
    }
}
