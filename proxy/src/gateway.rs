//! Ways into the mesh for callers outside it: what the Gateways of our workload ask for, by port
//! and host. Pure, but for the files of [`certificates`].
//!
//! Invariant: what a caller says of itself or of its way here is not passed on as the proxy's own
//! word; the destination's policy judges the gateway's identity alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mtls::ServerTlsConfig;
use mtls::web::{WebCertificate, server_config_by_host};
use policy::{CertificateFiles, GatewayListener};

use crate::service_port::ServicePort;
use crate::traffic::plan::{Unusable, route_match};
use crate::traffic::rules::Rules;

pub(crate) mod certificates;
pub(crate) mod forwarded;

/// Spoken with callers, the preferred first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where the requests for one host go.
pub(crate) type Doors = Rules<ServicePort>;

/// What is asked for on each port.
pub(crate) type Plans = BTreeMap<u16, BTreeMap<String, HostPlan>>;

/// What is asked for at one host of a port.
#[derive(Clone, Debug)]
pub(crate) struct HostPlan {
    pub(crate) files: CertificateFiles,
    pub(crate) doors: Result<Arc<Doors>, Unusable>,
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
        let doors = doors(listener).map(Arc::new);
        for host in &listener.hosts {
            let plan = HostPlan {
                files: listener.tls.clone(),
                doors: doors.clone(),
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

fn doors(listener: &GatewayListener) -> Result<Doors, Unusable> {
    let rules = listener.routes.iter().map(|route| {
        let matches = route.matching.iter().map(route_match);
        let to = ServicePort {
            service: route.service.clone(),
            port: route.port.clone(),
        };
        Ok((matches.collect::<Result<Vec<_>, Unusable>>()?, to))
    });
    Ok(Rules::new(rules.collect::<Result<Vec<_>, Unusable>>()?))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};
    use policy::{CanonicalPath, Resource};

    use super::*;
    use crate::traffic::rules::Asked;

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
        let doors = plans[&443]["a.example"].doors.as_ref().unwrap();
        let to = |method: Method, path: &str| {
            let path = CanonicalPath::parse(path).unwrap();
            let asked = Asked {
                method: &method,
                path: Some(&path),
                fields: &HeaderMap::new(),
            };
            doors.find(asked).map(ToString::to_string)
        };
        assert_eq!(to(Method::GET, "/"), None);
        let found = to(Method::GET, "/orders/1");
        assert_eq!(found.as_deref(), Some("shop/orders:http"));
        let found = to(Method::POST, "/orders/1");
        assert_eq!(found.as_deref(), Some("shop/front:http"));
    }
}
