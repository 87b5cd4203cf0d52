//! Where a request from outside the mesh goes: the listeners of Gateways that take it, the route
//! that each follows, and from there the way of every call of the Gateway's workload.
//!
//! Invariant: the route is found, and the verdicts are given, by what the proxies themselves ask,
//! about the header fields that the Gateway passes on.

use std::collections::BTreeSet;

use identity::{QualifiedName, SpiffeId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::followed::{Followed, follow};
use super::{Explanation, RouteExplanation, RouteMiss, shown_path};
use crate::about_the_way::is_about_the_way;
use crate::decision::DenyReason;
use crate::question::{HeaderLookup, HeaderValues, Question, Request, RequestPath, Target};
use crate::resource::{Gateway, GatewayListener, GatewayRoute};
use crate::snapshot::PolicySnapshot;

/// What a Gateway that leads a request nowhere answers.
const NO_ROUTE: &str = "no-route";

/// More hosts than this help nobody.
const MOST_HOSTS: usize = 5;

/// A request of a caller who has no identity.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// That the handshake and the request name; compared without regard to case and a final dot.
    pub host: &'a str,
    /// Of the Gateway's listener.
    pub port: u16,
    /// As the caller sends it.
    pub method: &'a str,
    /// From [`RequestPath::parse`].
    pub path: &'a RequestPath,
    /// As the caller sends them.
    pub headers: &'a dyn HeaderLookup,
}

/// What becomes of a request from outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntranceExplanation {
    /// Of all entrances: `allow`, `deny`, or `mixed`.
    pub verdict: String,
    /// Where there is no entrance: `no-route`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same in a sentence.
    pub message: String,
    /// As it was compared.
    pub host: String,
    /// Of the listener.
    pub port: u16,
    /// The request's method.
    pub method: String,
    /// The path as it was judged.
    pub path: String,
    /// The configuration that was asked.
    pub revision: String,
    /// One for each workload whose proxy listens for the host at the port.
    pub entrances: Vec<Entrance>,
}

/// A listener of one workload's proxy, and what becomes of the request there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entrance {
    /// `Gateway edge/public`.
    pub object: String,
    /// The listener's name.
    pub listener: String,
    /// The workload in whose name the request goes on.
    pub workload: String,
    /// What its proxy shows, on its host.
    pub certificate_file: String,
    /// That certificate's key.
    pub key_file: String,
    /// `allow`, `deny`, or `mixed` where it depends on the backend that is drawn.
    pub verdict: String,
    /// Why the request goes no further than the Gateway, if so: `no-route` or `path-ambiguous`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The route of the listener that is followed, counted from 1; none if none matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<usize>,
    /// How many the listener has.
    pub routes: usize,
    /// What of the route fits; none for a route that is for every request.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matching: Option<Value>,
    /// Why that route, or why none.
    pub message: String,
    /// Routes that match too, and come after it.
    pub others: Vec<usize>,
    /// Routes that would have come before it, had one thing or a few been different.
    pub nearest_misses: Vec<RouteMiss>,
    /// The call that the Gateway makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<GatewayCall>,
}

/// A call in the name of a Gateway's workload, as one of any workload is explained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GatewayCall {
    /// What policy says at the Service that the Gateway's route names.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// Where that Service's own Route has it carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteExplanation>,
}

impl PolicySnapshot {
    /// What becomes of a request from outside; `identity_of` says by which ID a workload calls.
    pub fn explain_entrance(
        &self,
        arrival: &Arrival<'_>,
        identity_of: impl Fn(&QualifiedName) -> SpiffeId,
    ) -> EntranceExplanation {
        let host = arrival.host.to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let listeners = self.listeners_of(arrival.port);
        let of_host = listeners.filter(|(_, listener)| listener.hosts.iter().any(|it| it == host));
        let entrances: Vec<_> = of_host
            .flat_map(|(gateway, listener)| {
                let workloads = gateway.workloads.iter();
                workloads.map(move |workload| (gateway, listener, workload))
            })
            .map(|(gateway, listener, workload)| {
                let source = identity_of(workload);
                self.entrance(arrival, gateway, listener, workload, &source)
            })
            .collect();
        let is_nowhere = entrances.is_empty();
        EntranceExplanation {
            verdict: verdict(&entrances).to_owned(),
            reason: is_nowhere.then(|| NO_ROUTE.to_owned()),
            message: if is_nowhere {
                self.no_entrance(host, arrival.port)
            } else {
                summary(&entrances)
            },
            host: host.to_owned(),
            port: arrival.port,
            method: arrival.method.to_owned(),
            path: shown_path(arrival.path),
            revision: self.revision().to_string(),
            entrances,
        }
    }

    fn listeners_of(&self, port: u16) -> impl Iterator<Item = (&Gateway, &GatewayListener)> {
        let all = self.gateways().flat_map(|gateway| {
            let listeners = gateway.listeners.iter();
            listeners.map(move |listener| (&**gateway, listener))
        });
        all.filter(move |(_, listener)| listener.port == port)
    }

    fn no_entrance(&self, host: &str, port: u16) -> String {
        let gateways = self.gateways();
        let elsewhere: BTreeSet<u16> = gateways
            .flat_map(|gateway| &gateway.listeners)
            .filter(|listener| listener.hosts.iter().any(|it| it == host))
            .map(|listener| listener.port)
            .collect();
        if !elsewhere.is_empty() {
            let ports: Vec<_> = elsewhere.iter().map(ToString::to_string).collect();
            let ports = ports.join(", ");
            return format!("no Gateway has {host} at port {port}: it is at {ports}");
        }
        let here: BTreeSet<&str> = self
            .listeners_of(port)
            .flat_map(|(_, listener)| listener.hosts.iter().map(String::as_str))
            .collect();
        if here.is_empty() {
            return format!("no Gateway listens at port {port}, nor has any {host}");
        }
        let hosts: Vec<_> = here.into_iter().take(MOST_HOSTS).collect();
        let hosts = hosts.join(", ");
        format!("no Gateway has {host}, so there is no handshake; at port {port} are {hosts}")
    }

    fn entrance(
        &self,
        arrival: &Arrival<'_>,
        gateway: &Gateway,
        listener: &GatewayListener,
        workload: &QualifiedName,
        source: &SpiffeId,
    ) -> Entrance {
        let headers = Entering(arrival.headers);
        let request = Request::Http {
            method: arrival.method,
            path: arrival.path,
            headers: &headers,
        };
        let followed = followed(listener, &request);
        let route = followed.number.and_then(|it| listener.routes.get(it - 1));
        let call = route.map(|route| self.gateway_call(source, route, request));
        let refusal = refusal(arrival, route.is_some());
        Entrance {
            object: gateway.key().to_string(),
            listener: listener.name.to_string(),
            workload: workload.to_string(),
            certificate_file: listener.tls.certificate.clone(),
            key_file: listener.tls.key.clone(),
            verdict: call
                .as_ref()
                .map_or("deny", GatewayCall::verdict)
                .to_owned(),
            reason: refusal.as_ref().map(|(reason, _)| (*reason).to_owned()),
            route: followed.number,
            routes: listener.routes.len(),
            matching: followed.matching,
            message: refusal
                .map(|(_, message)| message)
                .or(followed.message)
                .unwrap_or_default(),
            others: followed.others,
            nearest_misses: followed.misses,
            call,
        }
    }

    fn gateway_call(
        &self,
        source: &SpiffeId,
        route: &GatewayRoute,
        request: Request<'_>,
    ) -> GatewayCall {
        let question = Question {
            source,
            target: Target {
                service: &route.service,
                port: &route.port,
            },
            request,
        };
        GatewayCall {
            explanation: self.explain(&question),
            route: self.explain_route(&question),
        }
    }
}

impl GatewayCall {
    /// Where a Route carries the call, that of its backends.
    fn verdict(&self) -> &str {
        let route = self.route.as_ref().map(|it| &it.verdict);
        route.unwrap_or(&self.explanation.verdict)
    }
}

/// Header fields as they enter: what callers say of their way is dropped, and the Gateway's word
/// put in its place. The address that a caller will connect from is not known here.
#[derive(Debug)]
struct Entering<'a>(&'a dyn HeaderLookup);

impl HeaderLookup for Entering<'_> {
    fn lookup(&self, name: &str) -> HeaderValues<'_> {
        match name {
            "x-forwarded-proto" => HeaderValues::One(b"https"),
            name if is_about_the_way(name) => HeaderValues::Absent,
            name => self.0.lookup(name),
        }
    }
}

/// A path of two readings follows no route: it is refused before.
fn followed(listener: &GatewayListener, request: &Request<'_>) -> Followed {
    let routes = match request.path() {
        Some(RequestPath::Ambiguous(_)) => &[],
        _ => listener.routes.as_slice(),
    };
    let matches: Vec<_> = routes.iter().map(|it| it.matching.as_slice()).collect();
    follow("route", &matches, request)
}

/// Why a request goes no further than the Gateway, if so.
fn refusal(arrival: &Arrival<'_>, is_routed: bool) -> Option<(&'static str, String)> {
    if let RequestPath::Ambiguous(reason) = arrival.path {
        let denied = DenyReason::PathAmbiguous(*reason);
        return Some((denied.code(), denied.to_string()));
    }
    let path = shown_path(arrival.path);
    let message = || format!("no route matches {} {path}", arrival.method);
    (!is_routed).then(|| (NO_ROUTE, message()))
}

fn verdict(entrances: &[Entrance]) -> &'static str {
    let all = |verdict: &str| entrances.iter().all(|it| it.verdict == verdict);
    // Without any, all are denied.
    match (all("deny"), all("allow")) {
        (true, _) => "deny",
        (_, true) => "allow",
        _ => "mixed",
    }
}

fn summary(entrances: &[Entrance]) -> String {
    match entrances {
        [only] => {
            let (object, listener) = (&only.object, &only.listener);
            format!(
                "{object} takes it at listener {listener}, in the name of {}",
                only.workload
            )
        }
        several => format!("the proxies of {} workloads take it", several.len()),
    }
}

#[cfg(test)]
mod tests;
